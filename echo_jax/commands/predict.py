"""Predicts from DICOM, AVI or MP4 files, or from folders of whole studies.

Each video gets a value, its 95 % interval and a word on whether it lies in
the training domain.  A run of experiments/multimodal.py predicts whole
studies: a folder with cines, spectra, an ECG (DICOM or WFDB) and a CSV of
records gets one finding, which says what it rests on and what was absent or
refused.  What could not be read is listed and makes the exit code 1; the
others are still predicted.  Files, studies and patients appear under
pseudonyms; the map to the files stays beside the input.

Example:
  echo-jax predict runs/ef clip.dcm study_folder --out predictions
  echo-jax predict runs/joint hospital/studies --out predictions --cut \\
    --doppler '*aortic_cw*=aortic_cw' --doppler '*mitral_pw*=mitral_pw'
"""

import argparse
import json
from pathlib import Path

import cv2
import pandas as pd

from echo_jax import experiment
from echo_jax.commands.predict_study import (
  StudyCommand,
  add_study_arguments,
  refuse_files,
  refuse_options,
  stated_by,
)
from echo_jax.commands.pseudonyms import whose
from echo_jax.data.clips import UnknownTimes
from echo_jax.data.folders import walk
from echo_jax.data.ingest import Recording, read_recording, to_record
from echo_jax.data.ingest.dicom import read_identity
from echo_jax.data.ingest.reading import sniff
from echo_jax.data.ledger import Ledger, Rejected
from echo_jax.data.schema import Record
from echo_jax.evaluation.predictions import write_predictions
from echo_jax.evaluation.single import Finding
from echo_jax.evaluation.single_study import StudyFinding
from echo_jax.privacy.identities import NOBODY, masked
from echo_jax.privacy.keys import Key, random_key, read_key
from echo_jax.privacy.private_map import PrivateMap, check_outside
from echo_jax.training.writers import write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Run, inputs and where to write."""
  parser.add_argument("workdir", type=Path, help="an evaluated run")
  parser.add_argument("inputs", type=Path, nargs="+")
  parser.add_argument("--out", type=Path, required=True)
  parser.add_argument(
    "--key-file", type=Path,
    help="secret that makes the same pseudonyms in every run (as of `deid`); "
    "without it they hold for this run alone",
  )  # fmt: skip
  parser.add_argument(
    "--map", type=Path,
    help="where pseudonyms and files stand together, mode 600 (default: "
    "beside the first input, IN.predict-map.csv)",
  )  # fmt: skip
  add_study_arguments(parser)


def run(args: argparse.Namespace) -> int:
  """Predicts every file; writes predictions, findings and a ledger."""
  files, stated = _files(args.inputs), stated_by(args)
  key = read_key(args.key_file) if args.key_file else random_key()
  first = args.inputs[0].resolve()
  map_file = args.map or first.with_name(first.name + ".predict-map.csv")
  check_outside(map_file, args.out, "the map of pseudonyms", "use --map")
  run = experiment.load_evaluated(args.workdir)
  if of_studies := run.experiment.level == "study":
    reader, predict = experiment.study_predictor(run, stated, cut=args.cut)
    refuse_files(args.inputs)
  else:
    refuse_options(args)
    predict = experiment.single_predictor(run)
  args.out.mkdir(parents=True, exist_ok=True)
  findings: dict[str, Finding | StudyFinding] = {}
  refused_files = 0
  try:
    with (
      Ledger(args.out / "ledger.csv") as ledger,
      PrivateMap(map_file) as names,
    ):
      if of_studies:
        studies = StudyCommand(reader, predict, key, ledger, names, findings)
        studies.run(args.inputs)
        refused_files = studies.refused_files
      else:
        _predict_files(files, key, predict, ledger, names, findings)
      counts = ledger.counts
  finally:  # an unforeseen error keeps what was predicted before it
    _write(args.out, list(findings.values()))
  print(f"pseudonyms and files stand together in {map_file}: keep it private")
  print(
    f"{counts['written'] + counts['rejected']} "
    f"{'studies' if of_studies else 'files'}: {counts['written']} predicted, "
    f"{counts['rejected']} rejected; see {args.out}"
  )
  if refused_files:
    print(f"{refused_files} files of these studies were refused, see above")
  unread = counts["rejected"] or refused_files
  return 0 if counts["written"] and not unread else 1


def _predict_files(
  files: list[Path], key: Key, predict, ledger: Ledger, names: PrivateMap,
  findings: dict[str, Finding],
) -> None:  # fmt: skip
  """Every file once; one that cannot be predicted stops no other."""
  for path in files:
    name, closed = key.name_file(path)
    names.add(name, path)
    try:
      if closed:
        raise Rejected(closed)
      if name in findings:
        raise Rejected("duplicate: the same bytes as a file before")
      findings[name] = _predict_file(path, name, key, predict, ledger)
    except Rejected as reason:
      told = masked(str(reason), NOBODY)
      ledger.rejected(name, "", told)
      print(f"{name}: not predicted: {told}")
    else:
      print(findings[name])


def _predict_file(
  path: Path, name: str, key: Key, predict, ledger: Ledger
) -> Finding:
  """The finding of one file under its pseudonym."""
  recording, record = _read(path, name, key)
  try:
    finding = predict(record)
  except UnknownTimes as error:
    raise Rejected(f"sampling: {error}") from error
  for warning in recording.warnings:
    ledger.noted(name, "", masked(warning, NOBODY))
  ledger.written(name, "")
  return finding


def _read(path: Path, name: str, key: Key) -> tuple[Recording, Record]:
  """A file as it was read, and its record under pseudonyms."""
  try:
    recording = read_recording(path)
    if recording.kind != "cine":
      raise Rejected(
        f"kind: {recording.kind}; only B-mode cines are predicted"
      )
    # A movie is a patient of its own.
    identity = read_identity(path) if sniff(path) == "dicom" else None
    return recording, to_record(
      recording, video_id=f"file:{name}", split="test",
      **whose(identity, name, key),
    )  # fmt: skip
  except (OSError, cv2.error) as error:
    # The message of a library may quote the file: only its kind is told.
    raise Rejected(f"cannot be read ({type(error).__name__})") from error


def _files(inputs: list[Path]) -> list[Path]:
  """Every file once, also where it is named alone and in its folder."""
  files: list[Path] = []
  for path in inputs:
    if not path.exists():
      raise FileNotFoundError(f"{path} does not exist")
    files += walk(path) if path.is_dir() else [path]
  return list({path.resolve(): path for path in reversed(files)}.values())[::-1]


def _write(folder: Path, findings: list[Finding | StudyFinding]) -> None:
  """predictions.csv holds what may be shown, findings.json also why not."""
  plain = [finding.to_dict() for finding in findings]
  text = json.dumps(plain, indent=2)
  write_whole(folder / "findings.json", text + "\n")
  rows = [row for finding in findings for row in finding.rows()]
  # What an earlier call left must not pass for this one's.
  (folder / "predictions.csv").unlink(missing_ok=True)
  if rows:
    write_predictions(folder / "predictions.csv", pd.DataFrame(rows))
