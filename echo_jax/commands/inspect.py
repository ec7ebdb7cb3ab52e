"""Shows what is in DICOM or movie files: times, scale, sector, warnings.

Example:
  echo-jax inspect clip.dcm
  echo-jax inspect *.avi --json > clips.json
  echo-jax inspect clip.dcm --picture clip.png
"""

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from echo_jax import units
from echo_jax.cli import UserError
from echo_jax.data.ingest import Recording, read_recording
from echo_jax.data.ingest.picture import draw_recording, stack_pictures
from echo_jax.data.ingest.sector import bounding_box
from echo_jax.data.ledger import Rejected

UNIFORM_PCT = 1.0  # intervals within 1 % of their mean are called uniform


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Files, and how to show them."""
  parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
  parser.add_argument(
    "--json", action="store_true", help="a list of objects instead of text"
  )
  parser.add_argument(
    "--picture", type=Path, metavar="OUT.png",
    help="save first frame, sector outline and temporal maximum side by side",
  )  # fmt: skip


def run(args: argparse.Namespace) -> int:
  """Shows every file; 1 if any of them could not be read."""
  facts, pictures = [], []
  for path in args.files:
    try:
      recording = read_recording(path)
    except Rejected as error:
      facts.append({"file": str(path), "error": str(error)})
    except OSError as error:
      facts.append({"file": str(path), "error": f"{error.strerror}"})
    else:
      facts.append({"file": str(path)} | describe(recording))
      if args.picture:
        pictures.append(draw_recording(recording))
    if not args.json:
      print(as_text(facts[-1]))
  if args.json:
    json.dump(facts, sys.stdout, indent=2, allow_nan=False)
    print()
  if pictures:
    _save(args.picture, stack_pictures(pictures))
    print(f"picture: {args.picture}", file=sys.stderr if args.json else None)
  return 1 if any("error" in fact for fact in facts) else 0


def describe(recording: Recording) -> dict[str, Any]:
  """The facts of a recording in JSON types; what is unknown is None."""
  rows, columns, channels = recording.frames.shape[1:]
  box = bounding_box(recording.sector)
  region = next((r for r in recording.regions if r.is_picture), None)
  header_mm = units.mm_from_cm(
    [region.delta_y, region.delta_x] if region else [np.nan, np.nan]
  )
  facts = {
    "kind": recording.kind,
    "device": recording.device,
    "frames": len(recording.frames),
    "rows": rows,
    "columns": columns,
    "channels": channels,
    "photometric": recording.photometric,
    "coding": recording.coding,
    "times": _times(recording),
    "spacing_mm": recording.spacing_mm.tolist(),
    "spacing_in_header_mm": header_mm.tolist(),
    "regions": [asdict(r) | {"text": str(r)} for r in recording.regions],
    "coloured_pct": recording.coloured_pct,
    "sector_pct": float(100 * recording.sector.mean()),
    "sector_box": dict(zip(("x0", "y0", "x1", "y1"), box or (), strict=False)),
    "r_wave_ms": recording.r_wave_ms.tolist(),
    "heart_rate_bpm": recording.heart_rate_bpm,
    "warnings": list(recording.warnings),
  }
  return _without_nan(facts)


def _times(recording: Recording) -> dict[str, Any]:
  """Interval, rate and span of the frame times; uniform is None if unknown."""
  times = recording.frame_time_ms
  facts = {"source": recording.time_source, "span_ms": float(times[-1])}
  steps = np.diff(times)
  if not len(steps) or np.isnan(steps).any():
    return facts | {"interval_ms": None, "rate_hz": None, "uniform": None}
  mean_ms = float(steps.mean())
  spread = float(np.abs(steps - mean_ms).max())
  return facts | {
    "interval_ms": mean_ms,
    "shortest_ms": float(steps.min()),
    "longest_ms": float(steps.max()),
    "rate_hz": units.MS_PER_S / mean_ms,
    "uniform": spread <= UNIFORM_PCT / 100 * mean_ms,
  }


def as_text(facts: dict[str, Any]) -> str:
  """The facts as lines to read."""
  lines = [facts["file"]]
  if "error" in facts:
    return "\n".join([*lines, _line("error", facts["error"])])
  heart_rate = facts["heart_rate_bpm"]
  waves = ", ".join(f"{wave:.1f}" for wave in facts["r_wave_ms"])
  lines += [
    _line("kind", facts["kind"]),
    _line("device", facts["device"] or "unknown"),
    _line(
      "frames",
      f"{facts['frames']} of {facts['columns']}x{facts['rows']} (columns x "
      f"rows), {facts['coding']}",
    ),
    _line("times", _times_text(facts)),
    _line("spacing", _spacing_text(facts)),
  ]
  lines += [_line("region", region["text"]) for region in facts["regions"]]
  lines += [
    _line("colour", _colour_text(facts)),
    _line("sector", _sector_text(facts)),
    _line("R waves", f"{waves} ms" if waves else "unknown"),
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


def _colour_text(facts: dict[str, Any]) -> str:
  stored = "grey" if facts["channels"] == 1 else "RGB"
  share = facts["coloured_pct"]
  inside = "grey in the sector"
  if share:
    inside = f"{share:.1f} % of the sector is coloured"
  return f"{stored} from {facts['photometric']}; {inside}"


def _sector_text(facts: dict[str, Any]) -> str:
  box = facts["sector_box"]
  if not box:
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
