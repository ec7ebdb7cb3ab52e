"""Trains and judges every item that an experiment's `sweep()` yields.

Each item has a folder of its own with its run record, named by what it sets.
Given again, the command goes on where it was: items that have ended are left,
others go on from their checkpoints. One that fails is reported and does not
stop the rest.  With `--from`, every item is trained from each run of another
sweep: what pre-training is worth is seen in what it is fine-tuned for.  Where
that sweep had several seeds, `--same-seed` gives each run the item of its own
seed alone, so that seeds stand for both trainings.

Example:
  echo-jax sweep experiments/ef_finetune.py --workdir runs/heads \\
    --config.data.dir=data --jobs 2
  echo-jax sweep experiments/mae_pretrain.py --workdir runs/masks --slurm \\
    --slurm-option partition=gpu --slurm-option gres=gpu:1
  echo-jax sweep experiments/paper/echonet_lvef_stf.py --from runs/masks \\
    --workdir runs/masks_ef
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from echo_jax import experiment
from echo_jax.training.writers import write_whole

STATUS = "item.json"
OUTPUT = "output.txt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Experiment, folder, and where the items run."""
  parser.add_argument("experiment", help="file, or dotted module")
  parser.add_argument("--workdir", type=Path, required=True)
  parser.add_argument(
    "--jobs", type=int, default=1, help="items that run at the same time"
  )
  parser.add_argument(
    "--slurm", action="store_true",
    help="one Slurm job an item (extra [slurm]); waits for them",
  )  # fmt: skip
  parser.add_argument(
    "--slurm-option", metavar="NAME=VALUE", action="append", default=[],
    help="of sbatch, as in partition=gpu",
  )  # fmt: skip
  parser.add_argument(
    "--from", type=Path, dest="origins", metavar="DIR",
    help="every item from each run in that folder, as init_from",
  )  # fmt: skip
  parser.add_argument(
    "--same-seed", action="store_true",
    help="of these, the items that have the seed of the run they start from",
  )  # fmt: skip
  parser.add_argument(
    "--split", help="items are judged on it (default: their data.test_split)"
  )
  parser.add_argument("--clips", type=int, default=4, help="clips a video")
  parser.add_argument("--tiny", action="store_true", help="the tiny model")
  parser.add_argument(
    "--config", metavar="KEY=VALUE", action="append", default=[],
    help="a setting of every item; also written --config.KEY=VALUE",
  )  # fmt: skip


@dataclass(frozen=True)
class Item:
  """One run of a sweep.

  Attributes:
    folder: its work directory.
    settings: what the sweep sets, by dotted name.
    commands: `train`, and `evaluate` where the model predicts something.
  """

  folder: Path
  settings: Mapping[str, object]
  commands: tuple[tuple[str, ...], ...]


def run(args: argparse.Namespace) -> int:
  """Runs what has not ended; 1 if an item failed."""
  if args.jobs < 1:
    raise ValueError(f"--jobs is {args.jobs}, wants 1 or more")
  items = plan_items(args)
  waiting = [item for item in items if status_of(item) != "done"]
  print(f"{len(items)} items, {len(items) - len(waiting)} done before")
  start = on_slurm(args) if args.slurm else on_this_machine(args.jobs)
  failed = run_items(waiting, start)
  for item in failed:
    print(f"failed: {item.folder}; see {item.folder / OUTPUT}", file=sys.stderr)
  done = sum(status_of(item) == "done" for item in items)
  print(f"{len(items)} items = {done} done + {len(failed)} failed")
  return 1 if failed else 0


def plan_items(args: argparse.Namespace) -> list[Item]:
  """The items of the experiment's `sweep()`, each with its folder.

  Raises:
    ValueError: no sweep, two items alike, a setting that does not exist, or
      a run to start from that has not ended or whose seed no item has.
  """
  module = experiment.load_module(args.experiment)
  if not hasattr(module, "sweep"):
    raise ValueError(f"{args.experiment} has no sweep()")
  chosen, items = list(module.sweep()), []
  if args.origins:
    runs = runs_to_start_from(args.origins)
    chosen = [
      {"init_from": run} | one for run in runs
      for one in (of_its_seed(run, chosen) if args.same_seed else chosen)
    ]  # fmt: skip
  elif args.same_seed:
    raise ValueError("--same-seed is of runs to start from; give --from")
  varied = {
    name for one in chosen for name, value in one.items()
    if any(other.get(name) != value for other in chosen)
  }  # fmt: skip
  for settings in chosen:
    words = (*args.config, *(f"{k}={v!r}" for k, v in settings.items()))
    config = module.get_config()
    experiment.override(config, words)  # a misspelt name fails now
    folder = args.workdir / folder_name(settings, varied)
    commands = _commands(args, folder, words, "targets" in config)
    items.append(Item(folder, settings, commands))
  names = [item.folder.name for item in items]
  if len(set(names)) < len(names):
    raise ValueError(f"the sweep of {args.experiment} has two items alike")
  return items


def runs_to_start_from(folder: Path) -> list[str]:
  """The runs of a sweep's folder, or the folder of one run itself.

  Raises:
    ValueError: there is none, or one that has not ended.
  """
  if (folder / experiment.RUN_RECORD).exists():
    return [str(folder)]
  found = sorted(
    {path.parent for name in (STATUS, experiment.RUN_RECORD)
     for path in folder.glob(f"*/{name}")}
  )  # fmt: skip
  if not found:
    raise ValueError(f"--from {folder}: there is no run in it")
  for run in found:
    if (run / STATUS).exists() and status_of(Item(run, {}, ())) != "done":
      raise ValueError(f"--from {folder}: {run.name} has not ended")
  return [str(run) for run in found]


def of_its_seed(
  run: str, items: Sequence[Mapping[str, object]]
) -> list[Mapping[str, object]]:
  """The items that have the seed of a run that they are to start from.

  Raises:
    ValueError: there is none.
  """
  seed = experiment.read_record(Path(run))["seed"]
  if not (found := [one for one in items if one.get("run.seed") == seed]):
    raise ValueError(
      f"--same-seed: no item of the sweep has seed {seed}, as {run} has"
    )
  return found


def folder_name(settings: Mapping[str, object], varied: set[str]) -> str:
  """`mask.ratio=0.5,mask.scheme=tube`: what tells an item from the others."""
  words = [
    # Of a run to start from, its own name tells enough.
    f"{name}={Path(value).name if name == 'init_from' else value}"
    for name, value in settings.items() if name in varied
  ]  # fmt: skip
  whole = ",".join(words) or "only"
  name = re.sub(r"[^\w.=,+-]+", "_", whole)
  if name == whole and len(name) <= 120:
    return name
  return f"{name[:100]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def _commands(
  args: argparse.Namespace, folder: Path, words: Sequence[str], judged: bool
) -> tuple[tuple[str, ...], ...]:
  echo_jax = (sys.executable, "-m", "echo_jax")
  train = (
    *echo_jax, "train", args.experiment, "--workdir", str(folder),
    *(["--tiny"] if args.tiny else []), *(f"--config={word}" for word in words),
  )  # fmt: skip
  judge = (
    *echo_jax, "evaluate", str(folder), "--clips", str(args.clips),
    *(["--split", args.split] if args.split else []),
  )  # fmt: skip
  return (train, judge) if judged else (train,)


def status_of(item: Item) -> str:
  """`done`, `failed` or `begun`; `new` if it was never started."""
  path = item.folder / STATUS
  if not path.exists():
    return "new"
  return json.loads(path.read_text(encoding="utf-8"))["status"]


def run_item(item: Item) -> str:
  """Runs an item's commands, their words into its folder; its status."""
  item.folder.mkdir(parents=True, exist_ok=True)
  began, code = time.time(), 0
  _keep_status(item, "begun", 0.0)
  with (item.folder / OUTPUT).open("a", encoding="utf-8") as said:
    for words in item.commands:
      code = subprocess.run(words, stdout=said, stderr=said).returncode
      if code:
        break
  status = "failed" if code else "done"
  _keep_status(item, status, time.time() - began)
  return status


def _keep_status(item: Item, status: str, seconds: float) -> None:
  line = {"status": status, "settings": item.settings, "seconds": seconds}
  write_whole(item.folder / STATUS, json.dumps(line, indent=2) + "\n")


Start = Callable[[Item], Future]


def on_this_machine(jobs: int) -> Start:
  """Starts items here, `jobs` at a time."""
  pool = ThreadPoolExecutor(jobs)
  return lambda item: pool.submit(run_item, item)


def on_slurm(args: argparse.Namespace) -> Start:
  """Submits each item as a Slurm job; its future ends when the job does.

  Raises:
    ValueError: an option that is not NAME=VALUE.
  """
  import submitit  # an extra, so not at the top

  options = dict(option.partition("=")[::2] for option in args.slurm_option)
  if not all(options.values()):
    raise ValueError(f"--slurm-option {options}: want NAME=VALUE")
  executor = submitit.SlurmExecutor(args.workdir / "slurm")
  executor.update_parameters(**options)
  pool = ThreadPoolExecutor(10_000)  # they only wait
  return lambda item: pool.submit(executor.submit(run_item, item).result)


def run_items(items: Sequence[Item], start: Start) -> list[Item]:
  """Runs items; returns those that failed, in order."""
  running = {start(item): item for item in items}
  failed = set()
  with tqdm(total=len(items), desc="sweep", unit="item") as bar:
    for future in as_completed(running):
      item = running[future]
      if error := future.exception():  # not of the item: of keeping its status
        print(f"{item.folder}: {error!r}", file=sys.stderr)
      if error or future.result() != "done":
        failed.add(item.folder)
      bar.set_postfix_str(f"{len(failed)} failed", refresh=False)
      bar.update()
  return [item for item in items if item.folder in failed]
