"""The ledger: what became of every file, so that counts in and out add up."""

import csv
from collections import Counter
from pathlib import Path
from types import TracebackType

COLUMNS = ("item", "split", "status", "reason")


class Rejected(ValueError):
  """A file that must not become a record; the message is the reason."""


class Ledger:
  """Appends one row a fact to a CSV file and keeps the counts.

  Status is `written`, `rejected` (with the reason) or `noted` (a record that
  was written, and something a user should know about it).  A reason never
  holds patient text.
  """

  def __init__(self, path: Path):
    self.counts: Counter[str] = Counter()
    self.reasons: Counter[str] = Counter()
    # A file name need not be UTF-8; what is not is written as \\udcff.
    self._file = path.open(
      "w", newline="", encoding="utf-8", errors="backslashreplace"
    )
    self._rows = csv.writer(self._file)
    self._rows.writerow(COLUMNS)

  def written(self, item: str, split: str) -> None:
    """The item became a record."""
    self.enter(item, split, "written", "")

  def rejected(self, item: str, split: str, reason: str) -> None:
    """The item did not become a record."""
    self.enter(item, split, "rejected", reason)

  def noted(self, item: str, split: str, reason: str) -> None:
    """The item became a record that has a peculiarity."""
    self.enter(item, split, "noted", reason)

  def enter(self, item: str, split: str, status: str, reason: str) -> None:
    """A row; of a rejection, the words before the colon are counted."""
    self.counts[status] += 1
    if status == "rejected":
      self.reasons[reason.split(":")[0]] += 1
    self._rows.writerow((item, split, status, reason))
    self._file.flush()

  def __enter__(self) -> "Ledger":
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    self._file.close()
