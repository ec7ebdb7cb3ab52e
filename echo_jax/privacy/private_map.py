"""The private list of which pseudonym stands for which file.

It is the only place where both stand together.  It lies beside the source,
never with the output, and only its owner may read it.
"""

import csv
import os
from pathlib import Path
from types import TracebackType

COLUMNS = ("id", "path")


class PrivateMap:
  """Appends (id, path) rows to a CSV file of mode 600; each pair once."""

  def __init__(self, path: Path):
    self.path = path
    self._known: set[tuple[str, str]] = set()
    if path.exists():
      with path.open(
        newline="", encoding="utf-8", errors="surrogateescape"
      ) as file:
        rows = list(csv.reader(file))
      if rows and tuple(rows[0]) != COLUMNS:
        raise ValueError(
          f"{path} is not a map of ours (columns {', '.join(COLUMNS)}); name "
          "another with --map"
        )
      self._known = {(row[0], row[1]) for row in rows[1:] if len(row) == 2}
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    number = os.open(path, flags, 0o600)
    if os.name == "posix":
      os.fchmod(number, 0o600)  # an older file may have been left open
    self._file = open(
      number, "a", newline="", encoding="utf-8", errors="surrogateescape"
    )
    self._rows = csv.writer(self._file)
    if not path.stat().st_size:
      self._rows.writerow(COLUMNS)

  def add(self, name: str, path: Path) -> None:
    """Remembers which file a pseudonym stands for."""
    row = name, str(path.absolute())
    if row not in self._known:
      self._known.add(row)
      self._rows.writerow(row)
      self._file.flush()

  def __enter__(self) -> "PrivateMap":
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    self._file.close()


def check_outside(path: Path, folder: Path, what: str, remedy: str) -> None:
  """Refuses a path in a folder, also by way of links.

  Raises:
    ValueError: it lies there.
  """
  if path.resolve().is_relative_to(folder.resolve()):
    raise ValueError(f"{what} lies inside of {folder}: {remedy}")
