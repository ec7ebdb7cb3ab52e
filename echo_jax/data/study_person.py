"""One patient and one occasion: what a study folder must be of.

A number of the owner tells patients apart; where it is not said, sex and age
still may.  Reasons name files, never a number.
"""

import math
from collections.abc import Iterable

from echo_jax.data.ledger import Rejected
from echo_jax.data.study_files import Piece
from echo_jax.data.study_records import Row
from echo_jax.data.tables import NUMBER

AGES_APART_YEARS = 2.0  # chosen: a birthday between, and one of rounding


def the_patient(pieces: list[Piece]) -> str:
  """The owner's number of the one patient of all files; "" if none names one.

  A number with an issuer and the same without one are taken for one person.

  Raises:
    Rejected: several patients; says which files go together.
  """
  people: list[tuple[str, str, list[str]]] = []
  for piece in pieces:
    if not piece.patient:
      continue
    for i, (issuer, number, files) in enumerate(people):
      if number == piece.patient and (
        not issuer or not piece.issuer or issuer == piece.issuer
      ):
        together = [*files, piece.file.name]
        people[i] = (issuer or piece.issuer, number, together)
        break
    else:
      people.append((piece.issuer, piece.patient, [piece.file.name]))
  if len(people) > 1:
    raise Rejected(
      f"{len(people)} patients in one study: {_apart(f for *_, f in people)}; "
      "leave the files of one patient in the folder"
    )
  _refuse_two_persons(pieces)
  return people[0][1] if people else ""


def _refuse_two_persons(pieces: list[Piece]) -> None:
  """Raises Rejected where files differ in sex, or in age by some years."""
  sexes = [[p.file.name for p in pieces if p.sex == sex] for sex in ("F", "M")]
  if all(sexes):
    raise Rejected(
      f"two persons in one study, by their sex: {_apart(sexes)}; leave the "
      "files of one patient in the folder"
    )
  aged = sorted(
    (p.age_years, p.file.name) for p in pieces if not math.isnan(p.age_years)
  )
  apart = aged[-1][0] - aged[0][0] if aged else 0.0
  if apart > AGES_APART_YEARS:
    raise Rejected(
      f"two persons in one study: {aged[0][1]} and {aged[-1][1]} are "
      f"{apart:.3g} years of age apart; leave the files of one patient in the "
      "folder"
    )


def refuse_several_studies(pieces: list[Piece]) -> None:
  """Raises Rejected for ultrasound of several occasions.

  Several StudyInstanceUIDs of one day are one occasion; the day of each must
  be known for that.
  """
  studies: dict[str, list[Piece]] = {}
  for piece in pieces:
    if piece.identity and piece.is_ultrasound:
      studies.setdefault(piece.identity.study, []).append(piece)
  days = {p.taken and p.taken.day for of in studies.values() for p in of}
  if len(studies) > 1 and (len(days) > 1 or None in days):
    named = _apart([p.file.name for p in of] for of in studies.values())
    raise Rejected(
      f"ultrasound of {len(studies)} studies, not all of one day: {named}; "
      "pass a folder for each"
    )


def refuse_other_person(row: Row, pieces: list[Piece]) -> None:
  """Raises Rejected where sex or age are not those of the other files."""
  sex, age = row.get("sex", ""), row.get("age_years", "")
  sexes = {p.sex for p in pieces if p.sex}
  if sex in ("F", "M") and sexes and sex not in sexes:
    raise Rejected(
      f"records of another person: sex is {sex}, the other files say "
      f"{', '.join(sexes)}"
    )
  ages = [p.age_years for p in pieces if not math.isnan(p.age_years)]
  if ages and NUMBER.fullmatch(age):
    apart = min(abs(float(age) - other) for other in ages)
    if apart > AGES_APART_YEARS:
      raise Rejected(
        f"records of another person: age is {apart:.3g} years from that in the "
        "other files"
      )


def _apart(groups: Iterable[list[str]]) -> str:
  return " | ".join(", ".join(files) for files in groups)
