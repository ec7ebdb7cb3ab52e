"""Measures speed and memory on this machine, which it names.

`data`: clips a second of one core's time, beside the usual way of reading echo
(as EchoNet-Dynamic's loader does: all frames of an MJPG AVI decoded with
OpenCV and normalised, to take 16), on made SynthEcho videos whose files are in
the page cache; and the memory of reading processes.
`step`, `infer`: seconds of a pre-training and a fine-tuning step (AdamW), and
of inference, of ViT-S by default; with `--against transformers` beside Hugging
Face's VideoMAE in PyTorch (extra [oracle]), each program in a process of its
own and by turns, so that a busy machine is busy for both.  Look at the ratio,
on a busy machine at that of processor time.  PyTorch's threads are told to
sleep where they wait, unless OMP_WAIT_POLICY is set.  Fine-tuning and inference
hide nothing; a linear map of the mean of the tokens gives one number.

Example:
  echo-jax bench data
  echo-jax bench step --against transformers
  echo-jax bench step --parts pretrain finetune infer --rounds 9 --json
  echo-jax bench infer --size B --pixels 224 --batch 4
  echo-jax bench data --videos 60 --rounds 9 --json > bench.json
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

from echo_jax.commands import reading_memory, reading_speed, step_speed


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
  step = parts.add_parser("step", help="seconds of a step of training")
  step.add_argument(
    "--parts", nargs="+", choices=step_speed.PARTS,
    default=["pretrain", "finetune"],
  )  # fmt: skip
  infer = parts.add_parser("infer", help="seconds of inference")
  infer.set_defaults(parts=["infer"])
  for part in (step, infer):
    add_case(part)


def add_case(parser: argparse.ArgumentParser) -> None:
  """What `step` and `infer` share."""
  case = step_speed.Case()
  parser.add_argument(
    "--against", choices=tuple(step_speed.SIDES)[1:],
    help="measure that too, by turns",
  )  # fmt: skip
  for name, about in (
    ("size", f"of the encoder, one of {', '.join(step_speed.SIZES)}"),
    ("frames", "of a clip"), ("pixels", "of a frame's side"),
    ("batch", "clips"), ("mask", "share that pre-training hides"),
    ("rounds", "turns of each program"), ("steps", "of a turn"),
  ):  # fmt: skip
    value = getattr(case, name)
    parser.add_argument(
      f"--{name}", type=type(value), default=value,
      help=f"{about} (default {value})",
    )  # fmt: skip
  parser.add_argument("--json", action="store_true", help="instead of a table")


def run(args: argparse.Namespace) -> int:
  """Measures and prints."""
  result, text = (
    (run_data(args), as_text) if args.what == "data"
    else (run_steps(args), steps_as_text)
  )  # fmt: skip
  if args.json:
    json.dump(result, sys.stdout, indent=2)
    print()
  else:
    print(text(result))
  return 0


def run_steps(args: argparse.Namespace) -> dict:
  """Seconds of steps."""
  fields = [field.name for field in dataclasses.fields(step_speed.Case)]
  case = step_speed.Case(**{name: getattr(args, name) for name in fields})
  return {
    "machine": reading_speed.name_machine(),
    "case": dataclasses.asdict(case),
    "against": args.against,
    "parts": step_speed.measure(case, tuple(args.parts), args.against),
  }


def run_data(args: argparse.Namespace) -> dict:
  """Clips a second and memory of reading."""
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
  return result


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


def steps_as_text(result: dict) -> str:
  """The result of `step` and `infer` as lines to read."""
  case, parts = result["case"], result["parts"]
  sides = [name for name in next(iter(parts.values())) if name != "ratio"]
  lines = [
    result["machine"],
    f"ViT-{case['size']}, {case['batch']} clips of {case['frames']} frames of "
    f"{case['pixels']} px, float32, pre-training hides {case['mask']:g}; "
    f"medians of {case['rounds']}",
    f"turns of {case['steps']} steps (lowest to highest), the programs by "
    "turns, each in its process;",
    "core s: processor time of all threads",
  ]
  for side in sides:
    facts = next(iter(parts.values()))[side]
    versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    lines.append(f"{side}: {versions}; threads: {facts['threads']}")
  lines += [
    "",
    f"{'':<19}{'program':<14}{'s a step':>9}{'(range)':>18}{'core s':>8}"
    f"{'compile s':>11}{'ratio':>7}{'(range)':>15}{'of core s':>11}",
  ]
  for part, found in parts.items():
    for side in sides:
      row = found[side]
      spread = f"({row['low_s']:.3f} to {row['high_s']:.3f})"
      line = (
        f"{step_speed.PARTS[part]:<19}{side:<14}{row['median_s']:>9.3f}"
        f"{spread:>18}{row['processor_s']:>8.3f}"
        f"{row['compile_s']:>11.1f}"
      )
      ratio = found.get("ratio")
      if ratio and side == sides[0]:
        spread = f"({ratio['low']:.2f} to {ratio['high']:.2f})"
        line += f"{ratio['of_medians']:>7.2f}{spread:>15}"
        line += f"{ratio['of_processor_s']:>11.2f}"
      lines.append(line)
  return "\n".join(lines)
