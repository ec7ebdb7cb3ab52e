"""What each difference between the paper's text and its code does, measured.

The sweep of `ablations/as_released.py` on the data and at the size of
`experiments/study.py`: STF-Net from scratch as described, with each point as
released, and with all of them.  Points that change no weight judge the run as
described again.  Started again it goes on, and twice at once the two share the
work; the table is made of the folders alone.

Example:
  python -m experiments.released_study --workdir runs/study --plan
  python -m experiments.released_study --workdir runs/study --minutes 60
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from echo_jax import experiment
from echo_jax.evaluation.estimate import estimates_from_json
from echo_jax.evaluation.predictions import read_predictions
from echo_jax.training.writers import locked, write_whole
from experiments import ef_finetune
from experiments.ablations import as_released
from experiments.demo import stages
from experiments.demo.recipe import (
  TINY,
  Recipe,
  as_words,
  finetune_settings,
  shared_settings,
)
from experiments.items import Item, print_plan, refuse_other, run_items
from experiments.paper.differences import FINETUNING, described
from experiments.study import COHORT, RECIPE, STF
from experiments.study_table import (
  PREDICTIONS,
  VOLUMES,
  Question,
  answers,
  failures,
  missing_lines,
  origin_of,
)

COMMAND = "python -m experiments.released_study"
PARTS = "released"  # folder of the work directory, beside the study's own
BASE = "described"
JUDGED_AGAIN = ("threshold", "interval", "validation-as-test")
# Differences are of the same patients, judged alike.
OTHERS = (BASE, *JUDGED_AGAIN)
CLASSES = ("ef_below_50", "ef_at_least_50")


def list_items(seeds: int = 3) -> tuple[Item, ...]:
  """The sweep, the run as described first."""
  found = []
  for settings in as_released.sweep():
    label, seed = settings.pop("label"), settings.pop("run.seed")
    if seed < seeds:
      found.append(Item(label, tuple(settings.items()), seed))
  return tuple(found)


def needs_of(item: Item) -> tuple[Item, ...]:
  """The run as described, where its weights are judged again."""
  return (Item(BASE, (), item.seed),) if item.name in JUDGED_AGAIN else ()


def words_of(item: Item, data_dir: Path, recipe: Recipe) -> list[str]:
  """All that an item sets, as on a command line."""
  dataset = f"synthetic_echo_{COHORT}"
  return as_words(
    shared_settings(recipe, data_dir, dataset, item.seed)
    | finetune_settings(recipe, "stf") | STF | described(FINETUNING)
    | dict(item.settings) | {"label": item.name}
  )  # fmt: skip


def run_item(
  item: Item, workdir: Path, data_dir: Path, recipe: Recipe, *,
  progress: bool = True,
) -> None:  # fmt: skip
  """Trains and judges one, or judges the run as described once more."""
  words, folder = words_of(item, data_dir, recipe), item.folder(workdir)
  trained = folder
  if needed := needs_of(item):
    trained = needed[0].folder(workdir)
    config = as_released.get_config()
    experiment.override(config, words)
    built = ef_finetune.build(config, experiment.read_record(trained))
  else:
    built = experiment.prepare(as_released.__name__, words)
    experiment.run(built, folder, progress=progress)
  experiment.evaluate(
    built, trained, clips=recipe.clips, progress=False, draw=False, into=folder
  )


def run_study(
  workdir: Path, items: Sequence[Item], recipe: Recipe, *,
  minutes: float | int = np.inf, progress: bool = True,
) -> bool:  # fmt: skip
  """Runs what is not done, as far as time allows; writes the results.

  Returns:
    Whether all of the items are done.
  """
  data_dir, workdir = workdir / "data", workdir / PARTS
  for item in items:
    if item.seconds(workdir) is not None and not needs_of(item):
      words = words_of(item, data_dir, recipe)
      refuse_other(item.folder(workdir), as_released.__name__, words)
  with locked(workdir / "study.lock", wait=True):
    stages.build_data(recipe, data_dir, COHORT)
  done = run_items(
    workdir, items,
    lambda item: run_item(item, workdir, data_dir, recipe, progress=progress),
    needs=needs_of, minutes=minutes,
  )  # fmt: skip
  with locked(workdir / "study.lock", wait=True):
    write_results(workdir, items, recipe.resamples)
  return len(done) == len(items)


def write_results(
  workdir: Path, items: Sequence[Item], resamples: int
) -> None:
  """`results.json` and `table.md` of the points that every seed has."""
  done: dict[str, list[Path]] = {}
  for item in items:
    if item.seconds(workdir) is not None:
      done.setdefault(item.name, []).append(item.folder(workdir))
  seeds = {item.seed for item in items}
  done = {name: of for name, of in done.items() if len(of) == len(seeds)}
  if BASE not in done:
    return
  tables = {
    name: [stages.unseen_videos(read_predictions(f / PREDICTIONS)) for f in of]
    for name, of in done.items() if name not in OTHERS or name == BASE
  }  # fmt: skip
  plain = {
    "origin": origin_of(
      [folder for name in tables for folder in done[name]], COMMAND
    ),
    "judged": {name: [judged(one) for one in of] for name, of in done.items()},
    "differences": {
      target: differences(tables, target, resamples)
      for target in (stages.TARGET, *VOLUMES)
    },
    "not done": sorted({item.name for item in items} - done.keys()),
    "failed": failures(items, workdir),
  }  # fmt: skip
  write_whole(workdir / "results.json", json.dumps(plain) + "\n")
  write_whole(workdir / "table.md", format_results(plain))


def judged(folder: Path) -> dict[str, Any]:
  """EF's MAE of one run and the class of EF, as its own report has them."""
  found = estimates_from_json(json.loads((folder / "metrics.json").read_text()))
  kept = {}
  for one in found:
    ef = (one.target, one.name) == (stages.TARGET, "mae")
    of_class = one.target in CLASSES and one.name in ("auroc", "f1")
    if one.row_level == "video" and (ef or of_class):
      told = "value", "low", "high", "patients", "rows", "method", "target"
      kept["mae" if ef else one.name] = {
        name: value for name, value in one.to_dict().items() if name in told
      }
  return kept


def differences(
  tables: Mapping[str, Any], target: str, resamples: int
) -> dict[str, Any]:
  """Each point minus as described, in MAE of a target that both have."""
  asked = [
    Question(target, name, BASE)
    for name, of in tables.items()
    if name != BASE and (of[0].target == target).any()
  ]
  found = answers(asked, tables, resamples, target).get(target, {})
  return {name.removesuffix(f" minus {BASE}"): one
          for name, one in found.items()}  # fmt: skip


def format_results(plain: Mapping[str, Any]) -> str:
  """The table in Markdown."""
  first = plain["judged"][BASE][0]["mae"]
  lines = [
    f"Videos of {first['patients']} test patients, but for validation-as-test; "
    f"intervals by {first['method']}, where no point has another. "
    "Differences are resampled over patients and paired seeds; negative: "
    "better than as described. p is of EF, after Holm.", "",
    "| as released | videos | MAE of EF, each seed | mean | EF points, minus "
    "described | p | EDV, ml | ESV, ml | F1, each seed |",
    "|---|---|---|---|---|---|---|---|---|",
    *(_line(name, seeds, plain) for name, seeds in plain["judged"].items()),
    "",
  ]  # fmt: skip
  return "\n".join([*lines, *missing_lines(plain)])


def _line(
  name: str, seeds: Sequence[Mapping[str, Any]], plain: Mapping[str, Any]
) -> str:  # fmt: skip
  values = [one["mae"]["value"] for one in seeds]
  mean = "" if None in values else f"{np.mean(values):.1f}"
  found = {t: of.get(name) for t, of in plain["differences"].items()}
  ef, edv, esv = (_told(one, " to ") for one in found.values())
  p = f"{found[stages.TARGET]['p_adjusted']:.3f}" if ef else ""
  classes = [one["f1"] for one in seeds]
  f1 = ", ".join(_number(one["value"], 2) for one in classes)
  cells = (
    name, str(seeds[0]["mae"]["rows"]),
    ", ".join(_told(one["mae"], "–") for one in seeds), mean, ef, p, edv, esv,
    f"{f1} ({classes[0]['target']})",
  )  # fmt: skip
  return f"| {' | '.join(cells)} |"


def _told(one: Mapping[str, Any] | None, to: str) -> str:
  if one is None:
    return ""
  value, low, high = (_number(one[k], 1) for k in ("value", "low", "high"))
  return f"{value} ({low}{to}{high})"


def _number(value: float | None, digits: int) -> str:
  return "not known" if value is None else f"{value:.{digits}f}"


def main() -> int:
  """Plan, run, table; exit code 1 if something is left to do."""
  options = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  options.add_argument(
    "--workdir", type=Path, required=True, help="as of experiments.study"
  )
  options.add_argument("--seeds", type=int, default=3)
  options.add_argument(
    "--minutes", type=float, default=np.inf, help="begin nothing after it"
  )
  options.add_argument("--plan", action="store_true", help="print it, no more")
  options.add_argument("--tiny", action="store_true", help="for a first look")
  args = options.parse_args()
  items = list_items(args.seeds)
  if args.plan:
    print_plan(args.workdir / PARTS, items)
    return 0
  recipe = TINY if args.tiny else RECIPE
  done = run_study(args.workdir, items, recipe, minutes=args.minutes)
  return 0 if done else 1


if __name__ == "__main__":
  raise SystemExit(main())
