"""A build on Apache Beam's local runner gives the bytes of any other."""

import made_builds as made
import pytest

from echo_jax.cli import main
from echo_jax.data.build import build

BEAM = "needs Apache Beam: pip install 'echo-jax[beam]', then pytest this file"


def test_same_bytes_and_a_crash_is_survived(tmp_path):
  pytest.importorskip("apache_beam", reason=BEAM)
  names = [(f"i{i}", "train", "read") for i in range(8)]
  names[4] = ("i4", "test", "die once")
  log = tmp_path / "log"
  dataset = made.made_dataset(log, names)
  beam = build(dataset, tmp_path / "beam", beam=[], progress=False)
  assert beam.written == 8
  begun = [name for _, name in made.reads(log)]
  assert begun.count("i4") == 2  # else Beam has not read
  usual = build(dataset, tmp_path / "usual", progress=False)
  assert made.files_of(beam.path) == made.files_of(usual.path)


def test_a_pipeline_goes_on_where_a_build_was_broken_off(tmp_path):
  pytest.importorskip("apache_beam", reason=BEAM)
  names = [(f"i{i}", "train", "read") for i in range(8)] + [
    ("i8", "train", "raise")
  ]
  log = tmp_path / "log"
  dataset = made.made_dataset(log, names)
  for beam in (None, []):
    with pytest.raises(Exception, match="a bug in the reader"):
      build(dataset, tmp_path, beam=beam, progress=False)
  begun = [name for _, name in made.reads(log)]
  assert begun.count("i0") == 1 and begun.count("i6") >= 2


def test_options_of_a_pipeline_need_the_pipeline(tmp_path, capsys):
  words = ["--data-dir", str(tmp_path), "--beam-option", "runner=X"]
  assert main(["build", "synthetic_echo", *words]) == 1
  assert "no effect without --beam" in capsys.readouterr().err
