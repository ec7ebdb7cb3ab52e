"""Who is in which part of the data, and who must not be in two of them.

A model must not be judged on a person that it learned from, nor chosen on one
that it is then tested on.  So nobody of `pretrain` or `train` may be in
`validation` or `test`, of this data set or of another, and nobody of
`validation` in `test`.  Pre-training and training on one person is no leak.
`train` checks its splits before it starts, `evaluate` the people that it is to
judge on.

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

from echo_jax.data.mixing import parse_mix
from echo_jax.data.sources import find_dataset, read_index

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
    name: `<data set>:<split>` or `<folder of a run>:<role>`.
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
  # Not by name: a split may be judged on and have been pre-trained on.
  concerned = {id(one): one for pair in pairs for one in pair}
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
  path, name = Path(workdir) / PATIENTS, str(workdir)
  if not path.exists():
    return (Group(f"{name}:pretrain", "pretrain", {}, whole=False),)
  return (
    _read_people(path, name, "pretrain", ("pretrain", "train")),
    _read_people(path, name, CHOSE_ORIGIN, ("validation", CHOSE_ORIGIN)),
  )


def people_of(workdir: Path) -> tuple[Group, ...]:
  """The groups of a run's own list, one a role; none if it kept no list."""
  path = Path(workdir) / PATIENTS
  if not path.exists():
    return ()
  return tuple(
    _read_people(path, str(workdir), role, (role,))
    for role in ("train", "validation", "pretrain", CHOSE_ORIGIN)
  )


def _origin(begun: Path | None, before: str) -> tuple[Group, ...]:
  """Who is behind the first weights of a run: its own list says, if it began.

  The run that the weights came from may be gone when this one goes on.  A
  list without a checkpoint may be of other settings, and says nothing.
  """
  if begun is None or not (begun / PATIENTS).exists():
    return people_behind(Path(before))
  return tuple(
    _read_people(begun / PATIENTS, before, role, (role,))
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
  begun: Path | None,
) -> tuple[Group, ...]:
  """Refuses to train on patients who are then judged on; returns who is who.

  Compared are the run's training and validation videos, everybody of the test
  split of each of its data sets and, with `init_from`, everybody whom those
  weights have seen.

  Args:
    config: of the experiment.
    open_clips: of the experiment: gives the index of a split.
    begun: the work directory if the run goes on, None if it starts anew.

  Raises:
    ValueError: one patient in two of them, with counts and some ids, unless
      `data.allow_leakage` is set; or there is no `open_clips`.
  """
  if open_clips is None:
    raise ValueError(
      "the experiment has no open_clips: whom it is trained on is not known"
    )
  data = config["data"]
  names = parse_mix(data["mix"])[0] if data.get("mix") else (data["name"],)
  used = [
    group_of(f"{'+'.join(names)}:{split}", role, open_clips(split, 1)[0])
    for split, role in (
      (data["train_split"], "train"), (data["validation_split"], "validation")
    )
  ]  # fmt: skip
  if config.get("init_from"):
    used += _origin(begun, config["init_from"])
  tested = []
  test = test_split(config)
  if test not in (data["train_split"], data["validation_split"]):
    tested = _tested(Path(data["dir"]), names, test)
  _refuse(
    compare([*used, *tested]), data,
    "mend the splits, or set data.allow_leakage=True, which the run record "
    "keeps",
  )  # fmt: skip
  return tuple(used)


def test_split(config: Mapping[str, Any]) -> str:
  """The split that an experiment is judged on if nobody names another."""
  return config["data"].get("test_split", "test")


def _tested(data_dir: Path, names: Sequence[str], split: str) -> list[Group]:
  """The test splits of data sets; says of which there is none."""
  groups = []
  for name in names:
    index = read_index(find_dataset(data_dir, name), split)
    if len(index):
      groups.append(group_of(f"{name}:{split}", "test", index))
    else:
      print(f"{name}:{split}: not compared, there is no such split")
  return groups


def check_judged(
  config: Mapping[str, Any], workdir: Path, split: str, index: pd.DataFrame
) -> None:
  """Refuses to judge a run on anybody who is in its list, in whatever role.

  Its own validation split, where `data.test_split` names it, is compared with
  whom the weights were trained on: that it chose them was asked for.

  Args:
    config: of the run.
    workdir: of the run.
    split: its name.
    index: rows of the videos that the run would be judged on.

  Raises:
    ValueError: with counts and some ids, unless the run was trained with
      `data.allow_leakage`.
  """
  chose = split == config["data"].get("validation_split") == test_split(config)
  judged = group_of(split, "validation" if chose else "test", index)
  found = compare([*people_behind(workdir), judged])
  _refuse(found, config["data"], "judge it on another split")


def _refuse(
  found: Comparison, data: Mapping[str, Any], remedy: str
) -> None:
  """Tells what cannot be checked, and raises ValueError if there are leaks."""
  for one in found.unchecked:
    print(one)
  if not found.leaks:
    return
  told = "; ".join(str(leak) for leak in found.leaks)
  if not data.get("allow_leakage", False):
    raise ValueError(f"leakage: {told}; {remedy}")
  print(f"LEAKAGE, allowed by data.allow_leakage: {told}", file=sys.stderr)


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
