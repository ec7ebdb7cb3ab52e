"""Trainings of a study, one after another, that go on where they stopped.

Several processes may work on one study: each takes what no other is at, and
what ended with its process is free again.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from echo_jax import experiment
from echo_jax.training.collapse import Collapsed
from echo_jax.training.loop import Diverged
from echo_jax.training.writers import locked, write_whole

DONE, FAILED = "done.json", "failed.json"
GUESS_S = 120.0  # an item, before one was measured; chosen
WAIT_S = 5.0  # between looks at what other processes are at; chosen


@dataclass(frozen=True)
class Item:
  """One training and all that it is judged by.

  Attributes:
    name: what is tried.
    settings: of the experiment, beside those that all items share.
    seed: of the training.
  """

  name: str
  settings: tuple[tuple[str, Any], ...]
  seed: int

  def folder(self, workdir: Path) -> Path:
    """Its work directory."""
    name = "".join(c if c not in " /" else "_" for c in self.name)
    return workdir / name / f"seed_{self.seed}"

  def seconds(self, workdir: Path) -> float | None:
    """How long it took; None if it is not done."""
    path = self.folder(workdir) / DONE
    return json.loads(path.read_text())["seconds"] if path.exists() else None

  def failure(self, workdir: Path) -> str | None:
    """Why it could not be trained; None if nothing went wrong."""
    path = self.folder(workdir) / FAILED
    return json.loads(path.read_text())["error"] if path.exists() else None


def run_items(
  workdir: Path, items: Sequence[Item], run_item: Callable[[Item], None], *,
  needs: Callable[[Item], Sequence[Item]] = lambda item: (),
  minutes: float | int = np.inf,
) -> list[Item]:  # fmt: skip
  """Runs items that are not done, as far as time allows; those that are.

  One that fails (its loss is no number, its features collapse) is told and
  left, with all that need it, until its `failed.json` is removed.

  Args:
    run_item: trains and judges one in its folder; goes on from its last
      checkpoint.
    needs: of the items, what must be done before one.
    minutes: no item is begun that is expected to end later than this.
  """
  start = time.monotonic()
  print_plan(workdir, items)
  # Seeds differ in no line of the program, so only the first compiles it.
  jax.config.update("jax_compilation_cache_dir", str(workdir / "compiled"))
  while left := to_do(workdir, items, needs):
    spent = (time.monotonic() - start) / 60
    if spent + expected_s(workdir, items) / 60 > minutes:
      break
    ready = [i for i in left if not any(n in left for n in needs(i))]
    with first_free(workdir, ready) as item:
      if item is None:  # other processes are at all that can be begun
        time.sleep(WAIT_S)
        continue
      print(f"== {item.name}, seed {item.seed}", flush=True)
      run_one(item, workdir, run_item)
  done = [item for item in items if item.seconds(workdir) is not None]
  print(f"{len(done)} of {len(items)} items are done in {workdir}")
  return done


def run_one(
  item: Item, workdir: Path, run_item: Callable[[Item], None]
) -> None:  # fmt: skip
  """Runs it and keeps how long it took, or why it failed."""
  folder = item.folder(workdir)
  begun = time.monotonic()
  try:
    run_item(item)
  except (Collapsed, Diverged) as error:
    write_whole(folder / FAILED, json.dumps({"error": str(error)}))
    print(f"failed, to try it again remove {folder / FAILED}: {error}")
    return
  spent_s = {"seconds": time.monotonic() - begun}
  write_whole(folder / DONE, json.dumps(spent_s))  # last


def refuse_other(folder: Path, module: str, words: Sequence[str]) -> None:
  """Raises ValueError where a done item was trained with other settings."""
  config = experiment.load_module(module).get_config()
  experiment.override(config, words)
  now, before = (
    json.loads(json.dumps(experiment.flat_settings(of)))
    for of in (config.to_dict(), experiment.read_record(folder)["config"])
  )
  places = {"init_from", *experiment.FREE_SETTINGS}
  for name in (now.keys() & before.keys()) - places:
    if now[name] != before[name]:
      raise ValueError(
        f"{folder} was trained with {name}={before[name]}, this study sets "
        f"{now[name]}; use another --workdir, or the study that it is of"
      )


def to_do(
  workdir: Path, items: Sequence[Item],
  needs: Callable[[Item], Sequence[Item]] = lambda item: (),
) -> list[Item]:  # fmt: skip
  """Those that have not ended and need none that failed."""
  return [
    item for item in items
    if item.seconds(workdir) is None
    and all(one.failure(workdir) is None for one in (item, *needs(item)))
  ]  # fmt: skip


@contextlib.contextmanager
def first_free(workdir: Path, items: Sequence[Item]) -> Iterator[Item | None]:
  """Holds the first item that no process is at; None if there is none."""
  for item in items:
    with locked(item.folder(workdir).with_suffix(".lock")) as free:
      if free and to_do(workdir, [item]):  # another may just have ended it
        yield item
        return
  yield None


def expected_s(workdir: Path, items: Sequence[Item]) -> float:
  """Seconds an item takes, from those that are done."""
  known = [item.seconds(workdir) for item in items]
  known = [seconds for seconds in known if seconds is not None]
  return float(np.mean(known)) if known else GUESS_S


def print_plan(workdir: Path, items: Sequence[Item]) -> None:
  """What will be done and how long it is expected to take."""
  each = expected_s(workdir, items)
  left = to_do(workdir, items)
  for name in dict.fromkeys(item.name for item in items):
    seeds = [item for item in items if item.name == name]
    undone = sum(item in left for item in seeds)
    print(f"{name}: {len(seeds)} seeds, {undone} to do")
  print(
    f"{len(items)} items, {len(left)} to do, about {each:.0f} s each: "
    f"{len(left) * each / 60:.0f} minutes",
    flush=True,
  )
