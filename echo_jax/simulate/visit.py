"""What a hospital writes of a virtual patient: name, number, dates, UIDs.

All of it is invented, and shows it: no family is called so, the hospital is a
"Simulated Hospital".  It is a pure function of the study.
"""

import dataclasses
import datetime
from dataclasses import dataclass

from pydicom.uid import UID, generate_uid

from echo_jax.simulate.disease import DAYS_PER_YEAR
from echo_jax.simulate.person import Study

FAMILIES = (
  "Phantom", "Mockheart", "Simulacra", "Testbeat", "Virtualis", "Pseudovich",
  "Fakenham-Echo", "Nonesuch", "Placebo", "Speckle", "Dopplerson",
)  # fmt: skip
GIVEN = {
  "F": ("Ada", "Bea", "Cleo", "Dora", "Ella", "Fay", "Gwen"),
  "M": ("Abe", "Ben", "Carl", "Dan", "Emil", "Finn", "Gus"),
}
MAKER = "SynthEcho"
FIRST_DAY = datetime.date(2020, 1, 6)  # a Monday; chosen
ENTRY_DAYS = 364  # the patients of a cohort first come within a year
REPEAT_DAYS = 14  # between studies of the cohorts that do not age patients
FIRST_HOUR = 10


@dataclass(frozen=True)
class Visit:
  """One study of one person on paper.

  Attributes:
    patient_id: the same in every study of the person.
    family, given: name.
    born: date of birth.
    sex, age_years, heart_rate_bpm: on that day.
    height_cm, weight_kg: None where nobody wrote them down.
    hospital, maker, model: where and with what.
    number: of the study, from 1.
    start: when it began.
    entropy: what its UIDs are made from.
  """

  patient_id: str
  family: str
  given: str
  born: datetime.date
  sex: str
  age_years: float
  heart_rate_bpm: float
  height_cm: float | None
  weight_kg: float | None
  hospital: str
  maker: str
  model: str
  number: int
  start: datetime.datetime
  entropy: str

  def uid(self, *words: str) -> UID:
    """A UID of this study; another for other words."""
    return generate_uid(entropy_srcs=["/".join((self.entropy, *words))])

  def time_of(self, number: int) -> datetime.datetime:
    """When recording `number`, from 1, was begun: one a minute."""
    return self.start + datetime.timedelta(minutes=number)


def plan_visit(study: Study) -> Visit:
  """The visit at which a study is made."""
  person = study.patient
  place = f"{person.cohort}-{person.seed}-{person.patient:05d}"
  entry = FIRST_DAY + datetime.timedelta(7 * person.patient % ENTRY_DAYS)
  day, body = REPEAT_DAYS * study.study, dataclasses.asdict(person)
  if study.condition is not None:
    day, body = study.condition.day, study.condition.record
  start = entry + datetime.timedelta(day)
  given = GIVEN[person.sex]
  return Visit(
    patient_id=f"SIM-{place}",
    family=FAMILIES[person.patient % len(FAMILIES)],
    given=given[person.patient // len(FAMILIES) % len(given)],
    born=entry - datetime.timedelta(round(person.age_years * DAYS_PER_YEAR)),
    sex=person.sex,
    age_years=person.age_years + day / DAYS_PER_YEAR,
    heart_rate_bpm=study.heart.heart_rate_bpm,
    height_cm=body["height_cm"],
    weight_kg=body["weight_kg"],
    hospital=f"Simulated Hospital {person.site.removeprefix('site-')}",
    maker=MAKER,
    model=study.device.name,
    number=study.study + 1,
    start=datetime.datetime.combine(start, datetime.time(FIRST_HOUR)),
    entropy=f"SynthEcho/{place}/{study.study}",
  )
