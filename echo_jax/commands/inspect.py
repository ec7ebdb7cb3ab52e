"""Shows what is in DICOM, movie or ECG files: times, scale, leads, warnings.

Example:
  echo-jax inspect clip.dcm
  echo-jax inspect archive/ward7 --json > ward7.json
  echo-jax inspect clip.dcm --figure clip.png
  echo-jax inspect ecg.dcm record.hea
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from echo_jax import units
from echo_jax.cli import UserError
from echo_jax.commands.inspect_ecg import describe_ecg, ecg_lines
from echo_jax.data.folders import walk
from echo_jax.data.ingest import Recording, read_recording
from echo_jax.data.ingest.ecg import signal_files
from echo_jax.data.ingest.picture import draw_recording, stack_pictures
from echo_jax.data.ingest.reading import is_ecg, is_wfdb, read_ecg
from echo_jax.data.ingest.recording import repeated_frames, why_not_as_is
from echo_jax.data.ingest.sector import bounding_box
from echo_jax.data.ledger import Rejected

MOST_PICTURES = 32  # a folder may hold thousands of recordings
CORNERS = ("x0", "y0", "x1", "y1")
UNIFORM_PCT = 1.0  # intervals within 1 % of their mean are called uniform


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Files, and how to show them."""
  parser.add_argument(
    "files", nargs="+", type=Path, metavar="FILE",
    help="a file, or a folder whose files are all looked at",
  )  # fmt: skip
  parser.add_argument(
    "--json", action="store_true",
    help="a list of objects with the same keys for each recording, and others "
    "for each ECG; unknown is null",
  )  # fmt: skip
  parser.add_argument(
    "--figure", "--picture", type=Path, metavar="OUT.png",
    help="save first frame, middle frame with sector and regions drawn in, and "
    f"temporal maximum side by side (of {MOST_PICTURES} recordings at most)",
  )  # fmt: skip


def run(args: argparse.Namespace) -> int:
  """Shows every file; 1 if any of them could not be read."""
  facts, pictures = [], []
  for path in _files(args.files):
    recording = None
    try:
      if is_ecg(path):
        about = describe_ecg(read_ecg(path))
      else:
        recording = read_recording(path)
        about = describe(recording)
      facts.append({"file": str(path)} | about)
    except Rejected as error:
      facts.append({"file": str(path), "error": str(error)})
    except OSError as error:
      facts.append({"file": str(path), "error": f"{error.strerror}"})
    if recording and args.figure and len(pictures) < MOST_PICTURES:
      pictures.append(draw_recording(recording))
    if not args.json:
      print(as_text(facts[-1]))
  if args.json:
    json.dump(facts, sys.stdout, indent=2, allow_nan=False)
    print()
  if pictures:
    _save(args.figure, stack_pictures(pictures))
    print(f"figure: {args.figure}", file=sys.stderr if args.json else None)
  return 1 if any("error" in fact for fact in facts) else 0


def _files(paths: list[Path]) -> Iterator[Path]:
  """The files named, and all files in the folders named, in a fixed order.

  Signal files of WFDB records are left to their headers.

  Raises:
    UserError: a folder without any file.
  """
  for path in paths:
    if not path.is_dir():
      yield path
      continue
    inside = list(walk(path))
    if not inside:
      raise UserError(f"{path} is a folder without any file")
    headers = [one for one in inside if is_wfdb(one)]
    signals = {part for header in headers for part in signal_files(header)}
    yield from (one for one in inside if one not in signals)


def describe(recording: Recording) -> dict[str, Any]:
  """The facts of a recording in JSON types; what is unknown is None."""
  rows, columns, channels = recording.frames.shape[1:]
  region = next((r for r in recording.regions if r.is_picture), None)
  header_mm = units.mm_from_cm(
    [region.delta_y, region.delta_x] if region else [np.nan, np.nan]
  )
  why_not = why_not_as_is(recording)
  facts = {
    "kind": recording.kind,
    "device": recording.device,
    "frames": len(recording.frames),
    "rows": rows,
    "columns": columns,
    "channels": channels,
    "photometric": recording.photometric,
    "coding": recording.coding,
    "as_is": {"possible": not why_not, "why_not": why_not},
    "times": _times(recording),
    "repeats": _repeats(recording),
    "spacing_mm": recording.spacing_mm.tolist(),
    "spacing_in_header_mm": header_mm.tolist(),
    "regions": [asdict(r) | {"text": str(r)} for r in recording.regions],
    "doppler": _doppler(recording),
    "coloured_pct": recording.coloured_pct,
    "sector_pct": float(100 * recording.sector.mean()),
    "sector_box": _box(recording),
    "r_wave_ms": recording.r_wave_ms.tolist(),
    "rr_ms": np.diff(recording.r_wave_ms).tolist(),
    "heart_rate_bpm": recording.heart_rate_bpm,
    "warnings": list(recording.warnings),
  }
  return _without_nan(facts)


def _times(recording: Recording) -> dict[str, Any]:
  """Interval, rate and span of the frame times; all None if unknown."""
  times = recording.frame_time_ms
  facts = {"source": recording.time_source, "span_ms": float(times[-1])}
  steps = np.diff(times)
  if not len(steps) or np.isnan(steps).any():
    names = "interval_ms", "shortest_ms", "longest_ms", "rate_hz", "uniform"
    return facts | dict.fromkeys(names)
  mean_ms = float(steps.mean())
  spread = float(np.abs(steps - mean_ms).max())
  return facts | {
    "interval_ms": mean_ms,
    "shortest_ms": float(steps.min()),
    "longest_ms": float(steps.max()),
    "rate_hz": units.MS_PER_S / mean_ms,
    "uniform": spread <= UNIFORM_PCT / 100 * mean_ms,
  }


def _repeats(recording: Recording) -> dict[str, Any]:
  """Frames that equal the one before, and the rate of those that do not."""
  repeats = repeated_frames(recording.frames)
  different = len(recording.frames) - len(repeats)
  span_ms = float(recording.frame_time_ms[-1])
  rate_hz = float("nan")
  if different > 1:
    rate_hz = units.MS_PER_S * (different - 1) / span_ms
  return {"frames": repeats, "rate_without_hz": rate_hz}


def _doppler(recording: Recording) -> dict[str, Any]:
  """Place and scale of the spectrum; all None without one."""
  scale = recording.doppler
  if scale is None:
    return dict.fromkeys(("box_px", "zero_px", "cm_s_per_row", "ms_per_column"))
  return {
    "box_px": dict(zip(CORNERS, scale.box_px, strict=True)),
    "zero_px": scale.zero_px,
    "cm_s_per_row": scale.cm_s,
    "ms_per_column": scale.ms,
  }


def _box(recording: Recording) -> dict[str, Any]:
  """First and last column and row of the sector; all None without one."""
  box = bounding_box(recording.sector) or (None,) * len(CORNERS)
  return dict(zip(CORNERS, box, strict=True))


def as_text(facts: dict[str, Any]) -> str:
  """The facts as lines to read."""
  lines = [facts["file"]]
  if "error" in facts:
    return "\n".join([*lines, _line("error", facts["error"])])
  if facts["kind"] == "ecg":
    return "\n".join([*lines, *(_line(*one) for one in ecg_lines(facts))])
  heart_rate = facts["heart_rate_bpm"]
  lines += [
    _line("kind", facts["kind"]),
    _line("device", facts["device"] or "unknown"),
    _line(
      "frames",
      f"{facts['frames']} of {facts['columns']}x{facts['rows']} (columns x "
      f"rows), {facts['coding']}",
    ),
    _line("times", _times_text(facts)),
    _line("repeats", _repeats_text(facts)),
    _line("spacing", _spacing_text(facts)),
  ]
  lines += [_line("region", region["text"]) for region in facts["regions"]]
  if facts["doppler"]["box_px"]:
    lines.append(_line("Doppler", _doppler_text(facts["doppler"])))
  lines += [
    _line("colour", _colour_text(facts)),
    _line("sector", _sector_text(facts)),
    _line("as is", _as_is_text(facts["as_is"])),
    _line("R waves", _waves_text(facts)),
    _line("heart rate", f"{heart_rate:g} bpm" if heart_rate else "unknown"),
  ]
  lines += [_line("WARNING", warning) for warning in facts["warnings"]]
  return "\n".join(lines)


def _line(name: str, text: str) -> str:
  return f"  {name:<11}{text}"


def _times_text(facts: dict[str, Any]) -> str:
  times = facts["times"]
  if facts["frames"] == 1:
    return "a single frame"
  if times["interval_ms"] is None:
    return "unknown"
  steps = f"{times['interval_ms']:.3f} ms a frame"
  form = "uniform"
  if not times["uniform"]:
    shortest, longest = times["shortest_ms"], times["longest_ms"]
    form = f"NOT uniform ({shortest:.1f} to {longest:.1f} ms)"
  return (
    f"{steps} ({times['rate_hz']:.2f} Hz), {form}, {times['span_ms']:.1f} ms "
    f"from first to last, by {times['source']}"
  )


def _spacing_text(facts: dict[str, Any]) -> str:
  row_mm, column_mm = facts["spacing_mm"]
  if row_mm is not None:
    return f"{row_mm:.5f} x {column_mm:.5f} mm a pixel (row x column)"
  row_mm, column_mm = facts["spacing_in_header_mm"]
  if row_mm is None or column_mm is None:
    return "unknown"
  return (
    f"unknown; the header's {row_mm:.5f} x {column_mm:.5f} mm a pixel "
    "(row x column) is withheld, see the warning"
  )


def _repeats_text(facts: dict[str, Any]) -> str:
  repeats, rate_hz = facts["repeats"].values()
  if not repeats:
    return "none"
  rate = f"; {rate_hz:.2f} Hz without them" if rate_hz else ""
  return f"{len(repeats)} frames equal the one before{rate}"


def _doppler_text(doppler: dict[str, Any]) -> str:
  zero_px, cm_s, ms = (
    doppler[name] for name in ("zero_px", "cm_s_per_row", "ms_per_column")
  )
  parts = [
    "zero line unknown" if zero_px is None else f"zero at row {zero_px:.6g}",
    "velocity unknown" if cm_s is None else f"{cm_s:.6g} cm/s a row, up is +",
    "time unknown" if ms is None else f"{ms:.6g} ms a column",
  ]
  return ", ".join(parts)


def _as_is_text(as_is: dict[str, Any]) -> str:
  if as_is["possible"]:
    return "frames are JPEG and can be stored as they are"
  return f"no: {as_is['why_not']}"


def _waves_text(facts: dict[str, Any]) -> str:
  waves = ", ".join(f"{wave:.1f}" for wave in facts["r_wave_ms"])
  if not waves:
    return "unknown"
  intervals = ", ".join(f"{interval:.1f}" for interval in facts["rr_ms"])
  return f"{waves} ms" + (f" (R-R {intervals} ms)" if intervals else "")


def _colour_text(facts: dict[str, Any]) -> str:
  stored = "grey" if facts["channels"] == 1 else "RGB"
  share = facts["coloured_pct"]
  inside = "grey in the sector"
  if share:
    inside = f"{share:.1f} % of the sector is coloured"
  return f"{stored} from {facts['photometric']}; {inside}"


def _sector_text(facts: dict[str, Any]) -> str:
  box = facts["sector_box"]
  if box["x0"] is None:
    return "none found"
  return (
    f"{facts['sector_pct']:.1f} % of the picture, "
    f"x {box['x0']}..{box['x1']}, y {box['y0']}..{box['y1']}"
  )


def _without_nan(value: Any) -> Any:
  """JSON has no NaN: unknown numbers become null."""
  if isinstance(value, dict):
    return {name: _without_nan(one) for name, one in value.items()}
  if isinstance(value, list | tuple):
    return [_without_nan(one) for one in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def _save(path: Path, picture: np.ndarray) -> None:
  coded, data = cv2.imencode(".png", picture[..., ::-1])
  if not coded:
    raise UserError(f"the picture for {path} could not be coded as PNG")
  path.write_bytes(data.tobytes())
