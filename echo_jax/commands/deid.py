"""De-identifies ultrasound DICOM: headers, pixels, names, with an audit record.

Headers follow the DICOM PS3.15 Basic Profile (113100) with clean pixels
(113101), dates moved by one secret offset a patient (113107) and age, size and
sex kept (113108); everything outside of the ultrasound sector and all text
found by OCR becomes black in every frame.  What cannot be shown clean is not
written, and makes the exit code 1.  The key makes the same pseudonyms in every
run: keep it, and keep it secret.  The map from pseudonyms to files lies beside
the input, never in the output.  A patient is a PatientID with its issuer: the
same number with and without an issuer makes two pseudonyms.

This is NOT a guarantee.  OCR misses some writing, above all handwriting and
letters fainter than the speckle around them; a person has to look at the
copies (--figure draws before and after) before they leave the house.

Example:
  echo-jax deid archive copies --key-file ~/echo.key --make-key
  echo-jax deid archive copies --key-file ~/echo.key --figure look --jobs 4
"""

import argparse
from pathlib import Path

from echo_jax.cli import UserError
from echo_jax.privacy import folder
from echo_jax.privacy.deidentify import STORED_AS, Options
from echo_jax.privacy.keys import make_key, read_key
from echo_jax.privacy.text import NoReader


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Input, output, the key, and what may be chosen."""
  parser.add_argument("source", type=Path, metavar="IN", help="file or folder")
  parser.add_argument("out", type=Path, metavar="OUT", help="folder")
  parser.add_argument(
    "--key-file", type=Path, required=True,
    help="secret of 16 bytes or more, outside of IN and OUT, mode 600",
  )  # fmt: skip
  parser.add_argument(
    "--make-key", action="store_true", help="write a new key to --key-file"
  )
  parser.add_argument(
    "--map", type=Path,
    help="where pseudonyms and files stand together, mode 600 "
    "(default: IN.deid-map.csv, beside IN)",
  )  # fmt: skip
  parser.add_argument(
    "--keep-device", action="store_true",
    help="keep serial number, station name and device UID (113109)",
  )  # fmt: skip
  parser.add_argument(
    "--store", choices=sorted(STORED_AS), default="rle",
    help="how changed frames are stored, without loss (default: rle)",
  )  # fmt: skip
  parser.add_argument(
    "--figure", type=Path, metavar="DIR",
    help="a picture a file, before and after; it HOLDS IDENTITIES",
  )  # fmt: skip
  parser.add_argument("--jobs", type=int, default=1, help="processes")


def run(args: argparse.Namespace) -> int:
  """Cleans every file; 1 if any of them was refused."""
  if args.jobs < 1:
    raise UserError(f"--jobs is {args.jobs}, wants 1 or more")
  source = args.source.resolve()
  map_file = args.map or source.with_name(source.name + ".deid-map.csv")
  folder.check_places(source, args.out, args.key_file, map_file, args.figure)
  folder.files_in(source)  # says so if there is no input, before a key is made
  key = make_key(args.key_file) if args.make_key else read_key(args.key_file)
  try:
    counts = folder.run_folder(
      source, args.out, key, map_file, Options(args.keep_device, args.store),
      args.figure, args.jobs,
    )  # fmt: skip
  except NoReader as error:
    raise UserError(str(error)) from error
  total = sum(counts.values())
  print(
    f"{total} files: {counts['written']} written, {counts['kept']} kept from "
    f"an earlier run, {counts['repeated']} repeated, {counts['refused']} "
    f"refused; records in {args.out / folder.AUDIT_FOLDER}"
  )
  print(f"pseudonyms and files stand together in {map_file}: keep it private")
  print("not a guarantee: look at the copies before they leave the house")
  return 1 if counts["refused"] else 0
