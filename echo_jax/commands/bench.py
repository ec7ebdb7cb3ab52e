"""Measures speed and memory on this machine, which it names.

`data`: clips a second of one core's time, beside the usual way of reading echo
(as EchoNet-Dynamic's loader does: all frames of an MJPG AVI decoded with
OpenCV and normalised, to take 16), on made SynthEcho videos whose files are in
the page cache; and the memory of reading processes.

Example:
  echo-jax bench data
  echo-jax bench data --videos 60 --rounds 9 --json > bench.json
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

from echo_jax.commands import reading_memory, reading_speed


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """What to measure, and how long."""
  parts = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
  data = parts.add_parser("data", help="clips a second and memory of reading")
  data.add_argument("--videos", type=int, default=24, help="made for it")
  data.add_argument("--stored", type=int, default=112, help="their pixels")
  data.add_argument("--size", type=int, default=112, help="pixels of a clip")
  data.add_argument("--frames", type=int, default=16, help="of a clip")
  data.add_argument("--rounds", type=int, default=5)
  data.add_argument(
    "--seconds", type=float, default=1.0, help="of one way in one round"
  )
  data.add_argument(
    "--workers", type=int, default=8,
    help="reading processes whose memory is measured; 0 leaves it out",
  )  # fmt: skip
  data.add_argument("--json", action="store_true", help="instead of a table")


def run(args: argparse.Namespace) -> int:
  """Measures and prints."""
  case = reading_speed.Case(
    args.videos, args.stored, args.size, args.frames, args.rounds, args.seconds
  )
  with tempfile.TemporaryDirectory(prefix="echo-jax-bench-") as folder:
    made = reading_speed.make_files(case, Path(folder))
    result = {
      "machine": reading_speed.name_machine(),
      "case": dataclasses.asdict(case),
      "ways": reading_speed.measure(case, made),
      "memory": None,
    }
    if args.workers:
      result["memory"] = reading_memory.measure(
        made.raw, case.contract, args.workers
      )
      if result["memory"] is None:
        print(
          "memory is not measured: this system has no /proc that tells it",
          file=sys.stderr,
        )
  if args.json:
    json.dump(result, sys.stdout, indent=2)
    print()
  else:
    print(as_text(result))
  return 0


def as_text(result: dict) -> str:
  """The result as lines to read."""
  case, memory = result["case"], result["memory"]
  lines = [
    result["machine"],
    f"one core's time; {case['videos']} videos of {case['stored']} px, clips "
    f"of {case['frames']} frames of {case['size']} px; medians of "
    f"{case['rounds']} rounds (lowest to highest)",
    "",
    f"{'way':<22}{'clips/s':>8}{'(range)':>15}{'x usual':>9}{'x decoding':>12}"
    f"{'kB a video':>12}{'GB for 525,328':>16}",
  ]
  for name, way in result["ways"].items():
    spread = f"({way['low']:.0f} to {way['high']:.0f})"
    lines.append(
      f"{name:<22}{way['clips_per_s']:>8.0f}{spread:>15}"
      f"{way['times_usual']:>9.1f}{way['times_decoding']:>12.1f}"
      f"{way['bytes_a_video'] / 1e3:>12.0f}{way['gigabytes_525328']:>16.0f}"
    )
  if memory:
    pss, rss = memory["peak_pss_mib"], memory["peak_rss_mib"]
    lines += [
      "",
      f"{memory['workers']} reading processes and their parent, raw frames, "
      f"batches of {memory['batch_size']}: at most {pss:.0f} MiB, a page that",
      f"several share counted once (PSS); {rss:.0f} MiB if it counts in each "
      "(RSS)",
    ]
  return "\n".join(lines)
