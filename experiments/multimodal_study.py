"""Which modality helps, and what is lost without it: all runs and their table.

Every item is one training of `experiments/multimodal.py` on the features of a
frozen video encoder, judged with all modalities and without each.  Started
again it goes on: an item that is done is left alone, one that was killed goes
on from its last checkpoint.

Example:
  python -m experiments.multimodal_study --workdir runs/study \\
    --data-dir data --init-from runs/mae --plan
  python -m experiments.multimodal_study --workdir runs/study \\
    --data-dir data --init-from runs/mae --minutes 20
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from echo_jax import experiment
from experiments import multimodal
from experiments.items import Item, print_plan, run_items
from experiments.multimodal_table import (
  AS_DRAWN,
  REMOVED_FROM,
  write_results,
)

SEEDS = (0, 1, 2)


def list_items(
  seeds: Sequence[int] = SEEDS, confounded: str = ""
) -> tuple[Item, ...]:
  """What the table needs, the most wanted first."""
  return tuple(
    Item(name, tuple(settings.items()), seed)
    for name, settings in multimodal.arms(confounded).items()
    for seed in seeds
  )


def run_study(
  workdir: Path, shared: Mapping[str, Any], items: Sequence[Item], *,
  minutes: float | int = np.inf, tiny: bool = False, progress: bool = True,
  baselines: Path | None = None,
) -> bool:  # fmt: skip
  """Runs items that are not done, as far as time allows; writes the results.

  Args:
    workdir: gets a folder an item, `cache`, `results.json`, `table.md`.
    shared: settings of all items: data and video encoder.
    minutes: no item is begun that is expected to end later than this.
    tiny: for tests.
    baselines: work directory of `experiments.baselines`, for the table.

  Returns:
    Whether all of them are done.
  """
  workdir = Path(workdir)
  done = run_items(
    workdir, items,
    lambda item: run_item(item, workdir, shared, tiny=tiny, progress=progress),
    needs=lambda item: needs_of(item, items), minutes=minutes,
  )  # fmt: skip
  if done:
    write_results(workdir, done, baselines)
  return len(done) == len(items)


def run_item(
  item: Item, workdir: Path, shared: Mapping[str, Any], *, tiny: bool,
  progress: bool,
) -> None:  # fmt: skip
  """Trains and judges one."""
  folder = item.folder(workdir)
  settings = {
    "data.cache": str(workdir / "cache"), **shared, **dict(item.settings),
    **({} if item.name in REMOVED_FROM else {"missing_at_test": ()}),
    **signal_encoders(item, workdir), "run.seed": item.seed,
  }  # fmt: skip
  words = [f"{name}={value!r}" for name, value in settings.items()]
  built = experiment.prepare("experiments.multimodal", words, tiny=tiny)
  experiment.run(built, folder, progress=progress)
  windows = built.config["video"]["windows"]
  experiment.evaluate(
    built, folder, clips=windows, progress=False, draw=False
  )
  if "data.name" in dict(item.settings):  # the same patients, devices as drawn
    drawn = [*words, f"data.name={shared['data.name']!r}"]
    experiment.evaluate(
      built_for(drawn, folder, tiny), folder, clips=windows, progress=False,
      draw=False, into=folder / AS_DRAWN,
    )  # fmt: skip


def built_for(
  words: Sequence[str], folder: Path, tiny: bool
) -> experiment.Experiment:
  """A trained item, with its own scale, for other settings of the data."""
  config = multimodal.get_config()
  if tiny:
    multimodal.tiny(config)
  experiment.override(config, words)
  return multimodal.build(config, experiment.read_record(folder))


def needs_of(item: Item, items: Sequence[Item]) -> list[Item]:
  """The runs that gave the item its frozen encoders of Doppler and ECG.

  Of the same seed, each of which reads nothing else.
  """
  alone = [f"{name} alone" for name in multimodal.SIGNALS]
  if item.name in alone:
    return []
  return [one for one in items if one.seed == item.seed and one.name in alone]


def signal_encoders(item: Item, workdir: Path) -> dict[str, str]:
  """Where the item takes its frozen encoders of Doppler and ECG from."""
  if item.name in (f"{name} alone" for name in multimodal.SIGNALS):
    return {}
  return {
    f"{name}.init_from": str(
      Item(f"{name} alone", (), item.seed).folder(workdir)
    )
    for name in multimodal.SIGNALS
  }


def main() -> int:
  """Plan, run, table; exit code 1 if something is left to do."""
  options = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  options.add_argument("--workdir", type=Path, required=True)
  options.add_argument("--data-dir", type=Path, required=True)
  options.add_argument("--data", default="referral", help="data set")
  options.add_argument(
    "--confounded", default="", help="the same with device and disease tied"
  )
  options.add_argument(
    "--init-from", required=True, help="run of the video encoder"
  )
  options.add_argument(
    "--baselines", type=Path, help="of experiments.baselines, for the table"
  )
  options.add_argument("--seeds", type=int, default=len(SEEDS))
  options.add_argument(
    "--minutes", type=float, default=np.inf, help="begin nothing after it"
  )
  options.add_argument("--plan", action="store_true", help="print it, no more")
  options.add_argument("--tiny", action="store_true", help="for a first look")
  args = options.parse_args()
  items = list_items(range(args.seeds), args.confounded)
  if args.plan:
    print_plan(args.workdir, items)
    return 0
  shared = {
    "data.dir": str(args.data_dir), "data.name": args.data,
    "init_from": args.init_from,
  }  # fmt: skip
  done = run_study(
    args.workdir, shared, items, minutes=args.minutes, tiny=args.tiny,
    baselines=args.baselines,
  )  # fmt: skip
  return 0 if done else 1


if __name__ == "__main__":
  raise SystemExit(main())
