"""Simulates the virtual cohort, as records or as a hospital's DICOM folder.

`--as tfds` is `echo-jax build synthetic_echo` with DIR for --data-dir.
`--as dicom` writes whole studies, DIR/studies/PATIENT/STUDY/*.dcm: B-mode
cines (all five views and 336 pixels if not said otherwise), four Doppler
spectra, a 12-lead ECG, and a records.csv of what the hospital knows.  Names of
invented patients are burned in, so that `deid` has its work.  What is true of
each study is in DIR/truth.csv, outside of `studies`.  A run that was stopped
goes on where it was; another setting in the same folder is refused.

Example:
  echo-jax simulate --as dicom --out hospital --patients 20
  echo-jax build dicom_folder --source hospital/studies --data-dir data
  echo-jax simulate --as tfds --out data --patients 200
"""

import argparse
import dataclasses
from pathlib import Path

from data_builders import synthetic_echo
from echo_jax.cli import UserError
from echo_jax.commands import build
from echo_jax.data.hospital import Hospital, write_hospital
from echo_jax.simulate import Switches

# Options of a build that a folder of DICOM files has no use for.
TFDS_ONLY = (
  "name", "codec", "splits", "label_noise", "overwrite", "beam", "beam_option",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The form, the folder, and all options of `build synthetic_echo`."""
  parser.add_argument(
    "--as", dest="form", choices=("tfds", "dicom"), default="tfds",
    help="records for training, or a hospital's folder (default: tfds)",
  )  # fmt: skip
  parser.add_argument("--out", type=Path, required=True, metavar="DIR")
  build.add_shared(parser)
  synthetic_echo.add_options(parser)
  # Each form has its own.
  parser.set_defaults(views=None, size=None, usual=vars(_builder_defaults()))


def _builder_defaults() -> argparse.Namespace:
  parser = argparse.ArgumentParser()
  build.add_shared(parser)
  synthetic_echo.add_options(parser)
  return parser.parse_args([])


def run(args: argparse.Namespace) -> int:
  """Writes what is asked for, prints the counts."""
  if args.form == "tfds":
    for name in ("views", "size"):
      if getattr(args, name) is None:
        setattr(args, name, args.usual[name])
    return build.run_build(synthetic_echo.from_options(args), args.out, args)
  for name in TFDS_ONLY:
    if getattr(args, name) != args.usual[name]:
      raise UserError(
        f"--{name.replace('_', '-')} has no effect with --as dicom; leave it "
        "out, or write --as tfds"
      )
  chosen = {name: getattr(args, name) for name in ("views", "size")}
  if args.views is not None:
    chosen["views"] = tuple(args.views.split(","))
  faults = {
    field.name: getattr(args, field.name)
    for field in dataclasses.fields(Switches)
  }
  hospital = Hospital(
    cohort=args.cohort, seed=args.seed, patients=args.patients,
    studies=args.studies, duration_s=args.duration_s, clips=args.clips,
    switches=Switches(**faults),
    **{name: value for name, value in chosen.items() if value is not None},
  )  # fmt: skip
  print(write_hospital(hospital, args.out, workers=args.workers))
  return 0
