"""Predicts from DICOM, AVI or MP4 files, or from folders of them.

Each video gets a value, its 95 % interval and a word on whether it lies in
the training domain.  What could not be read is listed and makes the exit code
1; the others are still predicted.

Example:
  echo-jax predict runs/ef clip.dcm study_folder --out predictions
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from echo_jax import experiment
from echo_jax.data.clips import UnknownTimes
from echo_jax.data.ingest import read_recording, to_record
from echo_jax.data.ledger import Ledger, Rejected
from echo_jax.evaluation.predictions import write_predictions
from echo_jax.evaluation.single import Finding
from echo_jax.training.writers import write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Run, inputs and where to write."""
  parser.add_argument("workdir", type=Path, help="an evaluated run")
  parser.add_argument("inputs", type=Path, nargs="+")
  parser.add_argument("--out", type=Path, required=True)


def run(args: argparse.Namespace) -> int:
  """Predicts every file; writes predictions, findings and a ledger."""
  args.out.mkdir(parents=True, exist_ok=True)
  predict = experiment.single_predictor(args.workdir)
  findings: list[Finding] = []
  try:
    with Ledger(args.out / "ledger.csv") as ledger:
      for path in _files(args.inputs):
        try:
          findings.append(_predict_file(path, predict, ledger))
        except Rejected as reason:
          ledger.rejected(str(path), "", str(reason))
          print(f"{path}: not predicted: {reason}")
        else:
          print(findings[-1])
      counts = ledger.counts
  finally:  # an unforeseen error keeps what was predicted before it
    _write(args.out, findings)
  print(
    f"{counts['written'] + counts['rejected']} files: {counts['written']} "
    f"predicted, {counts['rejected']} rejected; see {args.out}"
  )
  return 0 if counts["written"] and not counts["rejected"] else 1


def _predict_file(path: Path, predict, ledger: Ledger) -> Finding:
  recording = read_recording(path)
  if recording.kind != "cine":
    raise Rejected(f"kind: {recording.kind}; only B-mode cines are predicted")
  name = f"file:{path}"
  record = to_record(
    recording, video_id=name, study_id=name, patient_id=name, split="test"
  )
  try:
    finding = predict(record)
  except UnknownTimes as error:
    raise Rejected(f"sampling: {error}") from error
  for warning in recording.warnings:
    ledger.noted(str(path), "", warning)
  ledger.written(str(path), "")
  return finding


def _files(inputs: list[Path]) -> list[Path]:
  """Every file once, also where it is named alone and in its folder."""
  files: list[Path] = []
  for path in inputs:
    if not path.exists():
      raise FileNotFoundError(f"{path} does not exist")
    files += (
      sorted(p for p in path.rglob("*") if p.is_file())
      if path.is_dir()
      else [path]
    )
  return list({path.resolve(): path for path in reversed(files)}.values())[::-1]


def _write(folder: Path, findings: list[Finding]) -> None:
  """predictions.csv holds what may be shown, findings.json also why not."""
  plain = [finding.to_dict() for finding in findings]
  text = json.dumps(plain, indent=2)
  write_whole(folder / "findings.json", text + "\n")
  rows = [row for finding in findings for row in finding.rows()]
  # What an earlier call left must not pass for this one's.
  (folder / "predictions.csv").unlink(missing_ok=True)
  if rows:
    write_predictions(folder / "predictions.csv", pd.DataFrame(rows))
