"""Owners' folders: where the tables lie, which files there are, one video."""

import argparse
import filecmp
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from echo_jax.data import schema
from echo_jax.data.ingest import AS_IS, Recording, read_recording
from echo_jax.data.ingest.movie import is_grey
from echo_jax.data.ledger import Rejected
from echo_jax.units import MS_PER_S

NESTED = 5  # archives bring their folder twice, inside of folders of a portal


def add_folder_options(parser: argparse.ArgumentParser, table: str) -> None:
  """Where the folder is and how frames are stored."""
  parser.add_argument(
    "--source", type=Path, required=True,
    help=f"the folder with {table}, or one above it",
  )  # fmt: skip
  parser.add_argument(
    "--size", type=int, nargs=2, metavar=("ROWS", "COLUMNS"),
    help="size of the stored frames (default: the owner's)",
  )  # fmt: skip
  parser.add_argument(
    "--codec", choices=(*schema.CODECS, AS_IS), default="png",
    help="as-is keeps the owner's motion JPEG frames",
  )  # fmt: skip


def find_root(
  source: Path, markers: Sequence[str], needs: Sequence[str] = ()
) -> Path:
  """The folder that holds one of `markers`: `source` or one below it.

  Args:
    source: what the user passed.
    markers: paths below the folder that is sought.
    needs: what must lie there too.

  Raises:
    FileNotFoundError: none, or an incomplete folder (says what is missing).
    ValueError: several.
  """
  if not source.is_dir():
    raise FileNotFoundError(f"{source} is not a folder")
  roots: list[Path] = []
  for depth in range(NESTED + 1):
    found = {
      path.parents[marker.count("/")]
      for marker in markers
      for path in source.glob("*/" * depth + marker)
    }
    roots = sorted(found)
    if roots:
      break
  if not roots:
    there = sorted(path.name for path in source.iterdir())[:10]
    raise FileNotFoundError(
      f"no {' or '.join(markers)} in {source} or {NESTED} folders below it; "
      f"it holds {there}"
    )
  if len(roots) > 1:
    places = [str(path) for path in roots]
    raise ValueError(
      f"{markers[0]} lies in {places}; pass one of them as --source"
    )
  for name in needs:
    if not (roots[0] / name).exists():
      raise FileNotFoundError(f"{roots[0]} has no {name}")
  return roots[0]


@dataclass(frozen=True)
class Files:
  """Files of one kind by their key: an id in lower case.

  Attributes:
    places: key -> path below the root.
    refused: further files of a key that has one.
    differing: keys whose files are not equal, so that none can be chosen.
  """

  places: Mapping[str, str]
  refused: tuple[tuple[str, str], ...]
  differing: frozenset[str]

  def place(self, key: str, absent: str) -> str:
    """The file of a key.

    Raises:
      Rejected: there is none (with the reason `absent`), or several that
        differ.
    """
    if key in self.differing:
      raise Rejected("several files of that name differ: keep one of them")
    if key not in self.places:
      raise Rejected(absent)
    return self.places[key]


def stem_of(place: Path) -> str:
  """The name of a file in lower case, without folder and suffix."""
  return place.stem.lower()


def find_files(
  root: Path, folder: Path, suffix: str,
  key_of: Callable[[Path], str] = stem_of,
) -> Files:  # fmt: skip
  """All files with a suffix in a folder and below, in the order of paths.

  Args:
    root: what `places` are below of.
    folder: where to look.
    suffix: `.avi`, in any case.
    key_of: key of a path below the root; "" passes the file over.

  Raises:
    OSError: a folder cannot be read.
  """
  places: dict[str, str] = {}
  refused: list[tuple[str, str]] = []
  differing: set[str] = set()
  for path in walk(folder):
    if path.suffix.lower() != suffix:
      continue
    place = path.relative_to(root).as_posix()
    key = key_of(Path(place))
    kept = places.setdefault(key, place) if key else place
    if kept == place:
      continue
    same = filecmp.cmp(root / kept, path, shallow=False)
    if not same:
      differing.add(key)
    content = "the same" if same else "another"
    reason = f"{kept} has that name too, and {content} content"
    refused.append((place, f"duplicate file: {reason}"))
  return Files(places, tuple(refused), frozenset(differing))


def walk(folder: Path) -> Iterator[Path]:
  """Every file below a folder, in an order no file system changes.

  Raises:
    OSError: a folder cannot be read.
  """
  for place, files in walk_folders(folder):
    for name in files:
      yield place / name


def walk_folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
  """A folder and every one below, each with the names of its files.

  Links to folders are followed.  One that leads back to a folder on its own
  way, which would have no end, stands among the files.

  Raises:
    OSError: a folder cannot be read.
  """

  def stop(error: OSError) -> None:
    raise error  # os.walk would pass over it

  for name, folders, files in os.walk(folder, onerror=stop, followlinks=True):
    place = Path(name)
    endless = [one for one in folders if _leads_back(place / one, folder)]
    folders[:] = sorted(set(folders) - set(endless))
    yield place, sorted((*files, *endless))


def _leads_back(link: Path, top: Path) -> bool:
  """Whether a link's folder holds one of those between `top` and the link."""
  if not link.is_symlink():
    return False
  target = link.resolve()
  way = [one for one in link.parents if one.is_relative_to(top)]
  return any(one.resolve().is_relative_to(target) for one in way)


def unlisted(
  files: Files, seen: set[str], table: str
) -> tuple[tuple[str, str], ...]:
  """A refusal for each file that no row of the table names, or no row can."""
  reason = f"not listed: the file is not in {table}, so it has no labels"
  strange = [(p, reason) for key, p in files.places.items() if key not in seen]
  return (*strange, *files.refused)


def read_video(path: Path) -> tuple[Recording, list[str]]:
  """A recording that will be stored grey, and what is odd about it.

  Raises:
    Rejected: it cannot be opened or read.
  """
  try:
    recording = read_recording(path)
  except OSError as error:
    raise Rejected(f"cannot be opened: {error.strerror}") from error
  notes = list(recording.warnings)
  if not is_grey(recording.frames):
    notes.append(
      f"coloured pixels ({recording.coloured_pct:.1f} % of the sector): "
      "stored as luminance"
    )
  return recording, notes


def disagreements(
  table: str, recording: Recording, frames: tuple[str, float],
  rows: tuple[str, float], columns: tuple[str, float],
  rate_hz: tuple[str, float],
) -> list[str]:  # fmt: skip
  """Where a table and the video differ, which is believed.

  Each pair is the table's column and its value; NaN says nothing.  Rates may
  differ by one percent.
  """
  shape, times = recording.frames.shape, recording.frame_time_ms
  rate = float("nan")
  if shape[0] > 1:
    rate = MS_PER_S * (shape[0] - 1) / times[-1]
  found = ((frames, shape[0], 0), (rows, shape[1], 0), (columns, shape[2], 0),
           (rate_hz, rate, 0.01 * rate))  # fmt: skip
  return [
    f"{table} says {name} {listed:g}, the video has {value:g}: the video was "
    "believed"
    for (name, listed), value, allowed in found
    if abs(listed - value) > allowed
  ]
