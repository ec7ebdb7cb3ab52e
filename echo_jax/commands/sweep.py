"""Trains and judges every item that an experiment's `sweep()` yields.

Each item has a folder of its own with its run record, named by what it sets.
Given again, the command goes on where it was: items that have ended are left,
others go on from their checkpoints, and Slurm jobs submitted before are waited
for. One that fails is reported and does not stop the rest. Ctrl-C and SIGTERM
end what runs here, which saves first; Slurm jobs go on. Several such commands
may share a folder: each leaves to the others what they are at, and ends with 1
where something is left so.  With `--from`,
every item is trained from each run of another sweep: what pre-training is worth
is seen in what it is fine-tuned for.  Where that sweep had several seeds,
`--same-seed` gives each run the item of its own seed alone, so that seeds stand
for both trainings.

Example:
  echo-jax sweep experiments/ef_finetune.py --workdir runs/heads \\
    --data-dir data --jobs 2
  echo-jax sweep experiments/mae_pretrain.py --workdir runs/masks --slurm \\
    --slurm-option time=720 --slurm-option partition=gpu \\
    --slurm-option gres=gpu:1
  echo-jax sweep experiments/paper/echonet_lvef_stf.py --from runs/masks \\
    --workdir runs/masks_ef
"""

import argparse
import contextlib
import hashlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from tqdm import tqdm

from echo_jax import experiment
from echo_jax.training.writers import locked, write_whole

STATUS = "item.json"
OUTPUT = "output.txt"
LOCK = "item.lock"
JOB = "job.txt"  # the number of the Slurm job that was last submitted
HELD = "held"  # by another process, which is at the item
# What a command ends with that SIGTERM stopped: a training saves before it.
STOPPED = (-signal.SIGTERM, 128 + signal.SIGTERM)
POLL_S = 0.2  # between looks at a command that runs; chosen
NEVER = threading.Event()


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Experiment, folder, and where the items run."""
  parser.add_argument("experiment", help="file, or dotted module")
  parser.add_argument("--workdir", type=Path, required=True)
  parser.add_argument(
    "--data-dir", type=Path, help="where data sets are: --config.data.dir"
  )
  parser.add_argument(
    "--jobs", type=int, default=1,
    help="items that run at the same time; each takes every accelerator that "
    "it sees. For one an item, give this command once for each with "
    "CUDA_VISIBLE_DEVICES set and the same --workdir",
  )  # fmt: skip
  parser.add_argument(
    "--slurm", action="store_true",
    help="one Slurm job an item (extra [slurm]); waits for them",
  )  # fmt: skip
  parser.add_argument(
    "--slurm-option", metavar="NAME=VALUE", action="append", default=[],
    help="of sbatch, as in partition=gpu; time=MINUTES must be given",
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
  place = on_slurm(args) if args.slurm else on_this_machine(args.jobs)
  failed = run_items(waiting, place)
  for item in failed:
    print(f"failed: {item.folder}; see {item.folder / OUTPUT}", file=sys.stderr)
  done = sum(status_of(i) == "done" for i in items if i not in failed)
  held = len(items) - done - len(failed)
  print(
    f"{len(items)} items = {done} done + {len(failed)} failed"
    + (f" + {held} with other processes" if held else "")
  )
  return 1 if failed or held else 0


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
  given = experiment.with_data_dir(args.config, args.data_dir)
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
    words = (*given, *(f"{k}={v!r}" for k, v in settings.items()))
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
  found = [run for run in found if not _is_baseline(run)]
  for run in found:
    if (run / STATUS).exists() and status_of(Item(run, {}, ())) != "done":
      raise ValueError(f"--from {folder}: {run.name} has not ended")
  return [str(run) for run in found]


def _is_baseline(run: Path) -> bool:
  path = run / experiment.RUN_RECORD
  return path.exists() and "baseline" in json.loads(path.read_text("utf-8"))


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


def _keep_status(item: Item, status: str, seconds: float) -> None:
  line = {"status": status, "settings": item.settings, "seconds": seconds}
  item.folder.mkdir(parents=True, exist_ok=True)
  write_whole(item.folder / STATUS, json.dumps(line, indent=2) + "\n")


def run_item(item: Item, told: threading.Event = NEVER) -> str:
  """Runs an item's commands, their words into its folder; its status.

  Args:
    told: once it is set, no command is begun and the one that runs is ended.

  Returns:
    `done`, `failed`, `begun` (stopped, to go on later) or `held`.
  """
  if told.is_set():
    return status_of(item)
  with locked(item.folder / LOCK) as lock:
    if lock is None:
      return HELD
    if status_of(item) == "done":  # by another process, a moment ago
      return "done"
    began = time.time()
    _keep_status(item, "begun", 0.0)
    status = _run_commands(item, lock, told)
    _keep_status(item, status, time.time() - began)
  return status


def _run_commands(item: Item, lock: TextIO, told: threading.Event) -> str:
  with (item.folder / OUTPUT).open("a", encoding="utf-8") as said:
    for words in item.commands:
      if told.is_set():
        return "begun"
      child = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        # Ctrl-C would reach all of the group, and no training saves then.
        process_group=0,
        # If this process is killed, the child holds the item until it ends.
        pass_fds=[lock.fileno()],
      )  # fmt: skip
      code = _wait(child, told)
      if code in STOPPED or (code and told.is_set()):
        return "begun"
      if code:
        return "failed"
  return "done"


def _wait(child: subprocess.Popen, told: threading.Event) -> int:
  """The exit code of a command, which is asked to end when told so."""
  try:
    while child.poll() is None and not told.wait(POLL_S):
      pass
  finally:  # also where a signal to a Slurm job raises
    child.terminate()  # does nothing if it has ended
    child.wait()
  return child.returncode


@dataclass(frozen=True)
class Place:
  """Where items run.

  Attributes:
    start: starts an item; its future is what `run_item` returns.
    stop: starts no more, and returns when nothing runs in this process's care.
  """

  start: Callable[[Item], Future]
  stop: Callable[[], None]


def on_this_machine(jobs: int) -> Place:
  """Starts items here, `jobs` at a time."""
  pool, told = ThreadPoolExecutor(jobs), threading.Event()

  def stop() -> None:
    told.set()
    print("stopping: what runs may save first", file=sys.stderr)
    pool.shutdown(cancel_futures=True)

  def run_here(item: Item) -> str:
    (item.folder / JOB).unlink(missing_ok=True)
    return run_item(item, told)

  return Place(lambda item: pool.submit(run_here, item), stop)


def on_slurm(args: argparse.Namespace) -> Place:
  """Submits each item as a Slurm job; its future ends when the job does.

  One that was submitted before and has not ended is waited for instead.

  Raises:
    ValueError: an option that is not NAME=VALUE, or no time.
  """
  options: dict[str, Any] = dict(
    option.partition("=")[::2] for option in args.slurm_option
  )
  if not all(options.values()):
    raise ValueError(f"--slurm-option {options}: want NAME=VALUE")
  if not options.get("time", "").isdecimal():
    raise ValueError(
      f"--slurm-option {options}: want the minutes that an item may take, as "
      "in --slurm-option time=720 (submitit would end it after 5)"
    )
  options["time"] = int(options["time"])  # submitit computes with it
  import submitit  # an extra, so not at the top

  folder = args.workdir / "slurm"
  executor = submitit.SlurmExecutor(folder)
  executor.update_parameters(**options)

  def start(item: Item) -> Future:
    # So that of two such commands one submits and the other sees its job.
    with locked(args.workdir / "slurm.lock", wait=True):
      if status_of(item) == "done":  # by another process, a moment ago
        return _in_a_thread(lambda: "done")
      job = _unended_job(item, folder)
      if job is None and _is_free(item):
        _keep_status(item, "begun", 0.0)
        job = executor.submit(run_item, item)
        (item.folder / JOB).write_text(job.job_id, encoding="utf-8")
    return _in_a_thread(job.result if job else lambda: HELD)

  def stop() -> None:
    print("Slurm jobs go on; scancel ends them", file=sys.stderr)

  return Place(start, stop)


def _unended_job(item: Item, folder: Path) -> Any:
  """The Slurm job that is to run an item, or runs it; None if there is none."""
  import submitit  # an extra, so not at the top

  if status_of(item) != "begun" or not (item.folder / JOB).exists():
    return None
  number = (item.folder / JOB).read_text(encoding="utf-8")
  job = submitit.SlurmJob(folder, number)
  if job.done():
    return None
  # A job that Slurm has forgotten looks as if it were still to come.
  print(
    f"{item.folder}: waits for Slurm job {number}, submitted before; if "
    f"squeue does not show it, remove {item.folder / JOB}",
    file=sys.stderr,
  )
  return job


def _is_free(item: Item) -> bool:
  with locked(item.folder / LOCK) as lock:
    return lock is not None


def _in_a_thread(call: Callable[[], str]) -> Future:
  """What a call returns; waiting for it does not keep this process alive."""
  future: Future = Future()

  def wait() -> None:
    try:
      future.set_result(call())
    except Exception as error:  # shown where the future is read
      future.set_exception(error)

  threading.Thread(target=wait, daemon=True).start()
  return future


def run_items(items: Sequence[Item], place: Place) -> list[Item]:
  """Runs items; returns those that failed or were stopped, in order.

  Raises:
    KeyboardInterrupt, SystemExit: Ctrl-C, SIGTERM or SIGHUP came; what ran in
      this process's care was ended, and no more was started.
  """
  failed = set()
  bar = tqdm(total=len(items), desc="sweep", unit="item")
  with exit_when_told(), bar:
    try:
      running = {place.start(item): item for item in items}
      for future in as_completed(running):
        item, error = running[future], future.exception()
        if error:  # not of the item: of keeping its status
          print(f"{item.folder}: {error!r}", file=sys.stderr)
        elif future.result() == HELD:
          print(f"{item.folder}: another process is at it", file=sys.stderr)
        if error or future.result() not in ("done", HELD):
          failed.add(item.folder)
        bar.set_postfix_str(f"{len(failed)} failed", refresh=False)
        bar.update()
    except BaseException:
      place.stop()
      raise
  return [item for item in items if item.folder in failed]


@contextlib.contextmanager
def exit_when_told() -> Iterator[None]:
  """SIGTERM, and the end of a terminal, end this as Ctrl-C does: by raising."""

  def leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)

  before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
  for number, handler in before.items():
    if handler != signal.SIG_IGN:  # as nohup has it
      signal.signal(number, leave)
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
