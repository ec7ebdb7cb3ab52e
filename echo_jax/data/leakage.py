"""Who is in which part of the data, and who must not be in two of them.

A model must not be judged on a person that it learned from, nor chosen on one
that it is then tested on.  So nobody of `pretrain` or `train` may be in
`validation` or `test`, of this data set or of another, and nobody of
`validation` in `test`.  Pre-training and training on one person is no leak.

Patients are compared by patient_id.  Where the owner names no patient
(patient_known 0), or two sources name them differently, that says nothing:
such groups are counted as not checked, never as clean.
"""

import csv
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import pandas as pd

PATIENTS = "patients.csv"
COLUMNS = ("split", "patient_id", "patient_known")
# In a run's list: who chose the weights that the run started from.
CHOSE_ORIGIN = "pretrain_validation"
FORBIDDEN = (
  ("pretrain", "validation"), ("pretrain", "test"), ("train", "validation"),
  ("train", "test"), ("validation", "test"), (CHOSE_ORIGIN, "test"),
)  # fmt: skip
SHOWN = 5


@dataclass(frozen=True)
class Group:
  """The patients of one split.

  Attributes:
    name: `<data set>:<split>` or `<run>:<role>`.
    role: what they serve for: a split, or `CHOSE_ORIGIN`.
    people: patient_id -> True if the owner names the person.
    whole: False if there are others that nobody kept a list of.
  """

  name: str
  role: str
  people: Mapping[str, bool]
  whole: bool = True

  @property
  def sources(self) -> set[str]:
    """Whose ids these are: what stands before the colon."""
    return {person.partition(":")[0] for person in self.people}


@dataclass(frozen=True)
class Leak:
  """Patients of one group who are in another that is judged on."""

  first: str
  second: str
  patients: tuple[str, ...]

  def __str__(self) -> str:
    shown = ", ".join(self.patients[:SHOWN])
    more = ", ..." if len(self.patients) > SHOWN else ""
    return (
      f"{len(self.patients)} patients of {self.first} are in {self.second} "
      f"({shown}{more})"
    )


@dataclass(frozen=True)
class Unnamed:
  """A group with patients that nobody names; -1 if it is not known how many."""

  group: str
  patients: int
  of: int

  def __str__(self) -> str:
    if self.patients < 0:
      return f"{self.group}: no list was kept: cannot be checked"
    return (
      f"{self.group}: {self.patients} of {self.of} patients are not named by "
      "their owner: cannot be checked"
    )


@dataclass(frozen=True)
class Strangers:
  """Two groups with ids of sources that name patients each in its own way."""

  first: str
  second: str
  sources: tuple[str, ...]

  def __str__(self) -> str:
    return (
      f"{self.first} and {self.second} name patients differently "
      f"({', '.join(self.sources)}): whether they share any cannot be checked"
    )


@dataclass(frozen=True)
class Comparison:
  """What came out; clean only if nothing is in any of the three."""

  leaks: tuple[Leak, ...]
  unnamed: tuple[Unnamed, ...]
  strangers: tuple[Strangers, ...]
  compared: int

  @property
  def unchecked(self) -> tuple[Unnamed | Strangers, ...]:
    """What the ids cannot say."""
    return self.unnamed + self.strangers

  def to_json(self) -> dict[str, Any]:
    """Everything, with all ids."""
    return asdict(self)


def group_of(name: str, role: str, index: pd.DataFrame) -> Group:
  """The patients of index rows."""
  known = index.groupby("patient_id")["patient_known"].max() == 1
  return Group(name, role, known.to_dict())


def compare(groups: Iterable[Group]) -> Comparison:
  """Compares every two groups whose roles are in `FORBIDDEN`."""
  pairs = [
    pair
    for pair in permutations(groups, 2)
    if (pair[0].role, pair[1].role) in FORBIDDEN
  ]
  leaks, strangers = [], []
  for first, second in pairs:
    shared = first.people.keys() & second.people.keys()
    if shared:
      leaks.append(Leak(first.name, second.name, tuple(sorted(shared))))
    apart = first.sources ^ second.sources
    if apart and first.people and second.people:
      strangers.append(
        Strangers(first.name, second.name, tuple(sorted(apart)))
      )
  concerned = {one.name: one for pair in pairs for one in pair}
  unnamed = []
  for one in concerned.values():
    count = sum(not known for known in one.people.values())
    if count:
      unnamed.append(Unnamed(one.name, count, len(one.people)))
    if not one.whole:
      unnamed.append(Unnamed(one.name, -1, -1))
  return Comparison(
    tuple(leaks), tuple(unnamed), tuple(strangers), len(pairs)
  )


def write_people(path: Path, groups: Iterable[Group]) -> None:
  """Keeps who a run was made with, so that a later one can be compared.

  A row without patient_id stands for others, of whom there is no list.
  """
  unfinished = path.with_suffix(".tmp")
  with unfinished.open("w", newline="", encoding="utf-8") as file:
    rows = csv.writer(file)
    rows.writerow(COLUMNS)
    for group in groups:
      for person, known in sorted(group.people.items()):
        rows.writerow((group.role, person, int(known)))
      if not group.whole:
        rows.writerow((group.role, "", 0))
  unfinished.replace(path)


def people_behind(workdir: Path) -> tuple[Group, ...]:
  """Everybody that the weights of a run have seen, in all runs before too.

  Who it trained on, or its own first weights were trained on, has the role
  `pretrain`; who chose any of these weights, `CHOSE_ORIGIN`.
  """
  path, name = Path(workdir) / PATIENTS, Path(workdir).name
  if not path.exists():
    return (Group(f"{name}:pretrain", "pretrain", {}, whole=False),)
  return (
    _read_people(path, name, "pretrain", ("pretrain", "train")),
    _read_people(path, name, CHOSE_ORIGIN, ("validation", CHOSE_ORIGIN)),
  )


def _origin(workdir: Path, before: str) -> tuple[Group, ...]:
  """Who is behind the first weights of a run: its own list says, if it began.

  The run that the weights came from may be gone when this one goes on.
  """
  own, name = workdir / PATIENTS, Path(before).name
  if not own.exists():
    return people_behind(Path(before))
  return tuple(
    _read_people(own, name, role, (role,))
    for role in ("pretrain", CHOSE_ORIGIN)
  )


def _read_people(
  path: Path, name: str, role: str, rows_of: Sequence[str]
) -> Group:
  """A group from the rows of a run's list."""
  rows = pd.read_csv(path, dtype={"split": str, "patient_id": str})
  rows["patient_id"] = rows["patient_id"].fillna("")
  found = group_of("", role, rows[rows["split"].isin(rows_of)])
  people = dict(found.people)
  whole = people.pop("", None) is None
  return Group(f"{name}:{role}", role, people, whole)


def check_run(
  config: Mapping[str, Any],
  open_clips: Callable[[str, int], tuple[pd.DataFrame, Any]] | None,
  workdir: Path,
) -> tuple[Group, ...]:
  """Refuses to train on patients who are then judged on; returns who is who.

  Compared are the run's training and validation videos, those of the test
  split and, with `init_from`, everybody whom those weights have seen.

  Args:
    config: of the experiment.
    open_clips: of the experiment: gives the index of a split, or ValueError.
    workdir: of the run, which may have begun.

  Raises:
    ValueError: one patient in two of them, with counts and some ids, unless
      `data.allow_leakage` is set; or there is no `open_clips`.
  """
  if open_clips is None:
    raise ValueError(
      "the experiment has no open_clips: whom it is trained on is not known"
    )
  data = config["data"]
  mixed = [text.rpartition(":")[0] for text in data.get("mix", ())]
  name = "+".join(mixed) or data["name"]

  def opened(split: str, role: str) -> Group:
    return group_of(f"{name}:{split}", role, open_clips(split, 1)[0])

  used = [
    opened(data["train_split"], "train"),
    opened(data["validation_split"], "validation"),
  ]
  if config.get("init_from"):
    used += _origin(Path(workdir), config["init_from"])
  tested = []
  if "test" not in (data["train_split"], data["validation_split"]):
    try:
      tested = [opened("test", "test")]
    except ValueError as error:  # no such split, or no video of use in it
      print(f"{name}:test: not compared, {error}")
  found = compare([*used, *tested])
  for one in found.unchecked:
    print(one)
  if found.leaks:
    told = "; ".join(str(leak) for leak in found.leaks)
    if not data.get("allow_leakage", False):
      raise ValueError(
        f"leakage: {told}; mend the splits, or set data.allow_leakage=True, "
        "which the run record keeps"
      )
    print(f"LEAKAGE, allowed by data.allow_leakage: {told}", file=sys.stderr)
  return tuple(used)


def comparison_lines(found: Comparison, groups: Sequence[Group]) -> list[str]:
  """The comparison in words, the leaks first."""
  lines = [f"LEAK: {leak}" for leak in found.leaks]
  lines += [f"not checked: {one}" for one in found.unchecked]
  counts = ", ".join(f"{one.name} {len(one.people)}" for one in groups)
  verdict = f"{len(found.leaks)} leaks" if found.leaks else "no leak found"
  if not found.leaks and found.unchecked:
    verdict += " among those that can be checked"
  lines.append(
    f"{verdict}: {found.compared} pairs compared; patients: {counts}"
  )
  return lines
