"""When a recording was made, as its header says, and how far apart two are."""

import re
from dataclasses import dataclass
from datetime import date, datetime

from echo_jax.data.ingest.header import Header

HOURS_A_DAY, SECONDS_AN_HOUR = 24.0, 3600.0
# A date and the time that goes with it (PS3.3 C.12.1, C.7.6.1, C.7.2.1).
PAIRS = (
  ("AcquisitionDate", "AcquisitionTime"), ("ContentDate", "ContentTime"),
  ("StudyDate", "StudyTime"),
)  # fmt: skip
DAY = re.compile(r"(\d{4})[.]?(\d\d)[.]?(\d\d)", re.ASCII)
CLOCK = re.compile(r"(\d\d):?(\d\d):?(\d\d)?", re.ASCII)


@dataclass(frozen=True)
class Moment:
  """A day, and seconds since its midnight; None if only the day is known."""

  day: date
  seconds: float | None

  def hours_to(self, other: "Moment") -> float:
    """Hours from this to the other; whole days where a time is not known."""
    hours = HOURS_A_DAY * (other.day - self.day).days
    if self.seconds is None or other.seconds is None:
      return hours
    return hours + (other.seconds - self.seconds) / SECONDS_AN_HOUR


def moment_of(time: datetime) -> Moment:
  """The same as a moment."""
  midnight = datetime.combine(time.date(), datetime.min.time())
  return Moment(time.date(), (time - midnight).total_seconds())


def read_moment(header: Header) -> Moment | None:
  """When the object was acquired, else made, else its study begun."""
  both = header.text("AcquisitionDateTime")
  texts = [(both[:8], both[8:])]
  texts += [(header.text(day), header.text(time)) for day, time in PAIRS]
  for day, clock in texts:
    match = DAY.match(day)
    try:
      found = match and date(*map(int, match.groups()))
    except ValueError:
      continue
    if found:
      return Moment(found, _seconds(clock))
  return None


def _seconds(text: str) -> float | None:
  match = CLOCK.match(text)
  if not match:
    return None
  hours, minutes, seconds = (int(part or 0) for part in match.groups())
  return SECONDS_AN_HOUR * hours + 60.0 * minutes + seconds
