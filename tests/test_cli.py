"""The command line: help, exit codes, and one clear line for what is wrong."""

import os
import pkgutil
import subprocess
import sys

import pandas as pd
import pytest

import data_builders
from echo_jax import __version__
from echo_jax.cli import COMMANDS, keep_compiled, main

TRAIN = ["train", "experiments.ef_finetune", "--tiny", "--workdir"]


def says(words, capsys):
  """The one line on stderr, beside bars, of a command that ends with 1."""
  assert main([str(word) for word in words]) == 1
  lines = capsys.readouterr().err.strip().splitlines()
  said = [one for one in lines if one.strip() and "[00:" not in one]
  assert len(said) == 1, said
  (line,) = said
  assert line.startswith(f"echo-jax {words[0]}: ")
  return line


def stops(words, capsys):
  """(exit code, all that was printed) of a command that argparse ends."""
  with pytest.raises(SystemExit) as stop:
    main(words)
  printed = capsys.readouterr()
  return stop.value.code, printed.out + printed.err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_it_does_and_gives_an_example(name, capsys):
  code, text = stops([name, "--help"], capsys)
  assert code == 0
  about = "".join(text.split("\n\n")[1:])
  assert "Example:" in about and f"echo-jax {name} " in about
  if name == "build":
    for builder in ("synthetic_echo", "echonet_dynamic", "dicom_folder"):
      assert builder in text


@pytest.mark.parametrize(
  "name", [found.name for found in pkgutil.iter_modules(data_builders.__path__)]
)
def test_help_of_every_data_set_has_an_example(name, capsys):
  code, text = stops(["build", name, "--help"], capsys)
  assert code == 0 and f"echo-jax build {name}" in text
  assert "--data-dir" in text and "--overwrite" in text


def test_overview_lists_every_command(capsys):
  code, text = stops(["--help"], capsys)
  assert code == 0 and all(f"\n    {name} " in text for name in COMMANDS)
  assert "not for clinical use" in " ".join(text.split())
  assert stops(["--version"], capsys) == (0, __version__ + "\n")


@pytest.mark.parametrize(
  "words", [[], ["trian"], ["train"], ["build"], ["build", "camus"], ["score"]]
)
def test_wrong_words_give_code_2_and_the_usage(words, capsys):
  code, text = stops(words, capsys)
  assert code == 2 and "usage: echo-jax" in text


def test_module_and_command_are_the_same():
  done = subprocess.run(
    [sys.executable, "-m", "echo_jax", "evaluate", "no_such_run"],
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 1 and done.stdout == ""
  assert done.stderr == (
    "echo-jax evaluate: no_such_run is not a run: it has no run.json\n"
  )


def test_unknown_data_set_or_folder_says_how_to_make_it(
  data_dir, tmp_path, capsys
):
  words = [*TRAIN, tmp_path / "w"]
  line = says([*words, f"--config.data.dir={tmp_path}"], capsys)
  assert "no data set synthetic_echo" in line and "echo-jax build" in line
  words.append(f"--config.data.dir={data_dir}")
  line = says([*words, "--config.data.name=camus"], capsys)
  assert "no data set camus" in line and "found: ['synthetic_echo']" in line
  line = says([*words, "--config.data.train_split=pretrain"], capsys)
  assert "no split 'pretrain'" in line and "'train'" in line
  assert not (tmp_path / "w").exists()


def test_data_dir_of_train_is_the_setting(data_dir, tmp_path, capsys):
  words = [*TRAIN, tmp_path / "w", "--data-dir"]
  line = says([*words, tmp_path], capsys)
  assert f"no data set synthetic_echo  under {tmp_path} (" in line
  words += [data_dir, "--config.data.name=camus"]
  same = f"--config.data.dir={data_dir}"
  for more in ((), (same,), (same + "/",)):
    assert "found: ['synthetic_echo']" in says([*words, *more], capsys)
  line = says([*words, f"--config.data.dir={tmp_path}"], capsys)
  assert f"--data-dir is {data_dir} and --config.data.dir {tmp_path}" in line
  # No number, though a setting is read as one.
  line = says([*TRAIN, tmp_path / "w", "--data-dir", "2024"], capsys)
  assert "no data set synthetic_echo  under 2024 (" in line


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_data_dir_where_there_is_no_such_setting_is_one_line(
  command, tmp_path, capsys
):
  path = tmp_path / "bare.py"
  path.write_text(
    "import ml_collections\n\n\ndef get_config():\n"
    "  return ml_collections.ConfigDict({'seed': 0}).lock()\n\n\n"
    "def sweep():\n  yield {'seed': 1}\n"
  )
  words = [command, path, "--workdir", tmp_path / "w", "--data-dir", "data"]
  assert "cannot set data.dir to 'data'" in says(words, capsys)


@pytest.mark.parametrize(
  ("setting", "message"),
  [
    ("optimizer.ratte=1.0", "cannot set optimizer.ratte"),
    ("optimiser.rate=1.0", "cannot set optimiser.rate"),
    ("rate=1.0", "optimizer.rate"),
    ("optimizer=5", "cannot set optimizer"),
    ("optimizer.rate.peak=1.0", "cannot set optimizer.rate.peak"),
    ("run.steps=many", "cannot set run.steps to 'many'"),
    ("run.steps=1.5", "cannot set run.steps to 1.5"),
    ("run.tensorboard=maybe", "cannot set run.tensorboard"),
    ("run.steps", "'run.steps' is not KEY=VALUE"),
    ("run.dtype=float64", "float64"),
    ("head.name=sft", "no head 'sft': stf, moments, max, mean, "),
    ("loss=mse", "loss 'mse' is not one of"),
    ("targets=('lvef',)", "no target 'lvef'"),
    ("targets=()", "targets"),
    ("data.change=hold_stil", "hold_stil"),
    ("data.views=('SC',)", "no usable video"),
    ("optimizer.freeze=(", "is not a regular expression"),
    ("optimizer.layer_decay=-1.0", "layer_decay is -1.0"),
    ("run.average_decay=2.0", "average_decay is 2.0"),
    ("run.log_every=0", "log_every is 0, wants 1 or more"),
    ("targets=('ef_pct', 'ef_pct')", "each once"),
    ("optimizer.freeze=^encodr/", "matches no parameter"),
    ("run.batch_size=0", "batch"),
    ("input.size=40", "divide"),
    ("input.frames=7", "divide"),
    ("init_from=no_such_run", "no_such_run is not a run"),
  ],
)
def test_wrong_settings_are_one_line(
  setting, message, data_dir, tmp_path, capsys
):
  words = [
    *TRAIN, tmp_path / "w", f"--config.data.dir={data_dir}",
    "--config.head.name=mean", f"--config.{setting}",
  ]  # fmt: skip
  assert message in says(words, capsys)


@pytest.mark.parametrize(
  "name",
  ["experiments.no_such", "no/such/file.py", "/no/such/file.py", "nowhere"],
)
def test_unknown_experiments_are_one_line(name, tmp_path, capsys):
  line = says(["train", name, "--workdir", tmp_path / "w"], capsys)
  assert name in line


def test_a_file_where_a_folder_is_wanted_is_one_line(
  data_dir, tmp_path, capsys
):
  (tmp_path / "file").write_text("")
  says(["evaluate", tmp_path / "file"], capsys)
  says(
    [*TRAIN, tmp_path / "file", f"--config.data.dir={data_dir}"], capsys
  )
  words = ["build", "synthetic_echo", "--patients", "20", "--data-dir"]
  says([*words, tmp_path / "file"], capsys)


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["--patients", "2"], "patients leave"),
    (["--splits", "train=0.5"], "shares sum to 0.5"),
    (["--size", "0"], "size"),
    (["--patients", "-3"], "patients"),
    (["--duration-s", "-1"], "duration"),
    (["--clips", "0"], "none of 0 files"),
  ],
)
def test_wrong_build_options_are_one_line(words, message, tmp_path, capsys):
  start = ["build", "synthetic_echo", "--data-dir", tmp_path / "data"]
  line = says([*start, "--patients", "20", *words], capsys)
  assert message in line
  assert not list(tmp_path.rglob("*.array_record*"))


def test_an_existing_data_set_is_kept(data_dir, capsys):
  line = says(["build", "synthetic_echo", "--data-dir", data_dir], capsys)
  assert "exists; remove it or pass --overwrite" in line


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["--split", "tset"], "no split 'tset'"),
    (["--clips", "0"], "clips"),
    (["--split", "train"], "fitted or chosen on train"),
  ],
)
def test_wrong_words_of_evaluate_are_one_line(words, message, trained, capsys):
  _, workdir = trained
  before = (workdir / "metrics.json").read_bytes()
  assert message in says(["evaluate", workdir, *words], capsys)
  assert (workdir / "metrics.json").read_bytes() == before


def test_predict_says_what_is_missing(trained, tmp_path, capsys):
  _, workdir = trained
  out = ["--out", tmp_path / "out"]
  line = says(["predict", workdir, tmp_path / "gone.dcm", *out], capsys)
  assert "gone.dcm does not exist" in line
  (tmp_path / "x.dcm").write_bytes(b"x")
  line = says(["predict", tmp_path, tmp_path / "x.dcm", *out], capsys)
  assert "no reference.npz" in line and "echo-jax evaluate" in line


def test_predict_rejects_what_is_no_video_and_counts(trained, tmp_path, capsys):
  _, workdir = trained
  folder = tmp_path / "in"
  folder.mkdir()
  (folder / "notes.txt").write_text("not a video")
  (folder / "empty.avi").write_bytes(b"")
  (folder / "gone.avi").symlink_to(folder / "nowhere")
  out = tmp_path / "out"
  assert main(["predict", str(workdir), str(folder), "--out", str(out)]) == 1
  said = capsys.readouterr().out
  assert "3 files: 0 predicted, 3 rejected" in said
  ledger = (out / "ledger.csv").read_text()
  assert ledger.count("rejected") == 3
  assert ledger.count("cannot be opened (") == 1
  assert not (out / "predictions.csv").exists()


def test_predict_keeps_nothing_of_an_earlier_call_and_takes_a_file_once(
  trained, tmp_path, capsys
):
  _, workdir = trained
  (tmp_path / "in").mkdir()
  path, out = tmp_path / "in" / "broken.avi", tmp_path / "out"
  path.write_bytes(b"RIFF")
  out.mkdir()
  (out / "predictions.csv").write_text("old")
  words = ["predict", workdir, path.parent, path, "--out", out]
  assert main([str(word) for word in words]) == 1
  assert "1 files: 0 predicted, 1 rejected" in capsys.readouterr().out
  assert not (out / "predictions.csv").exists()
  path.unlink()
  words.remove(path)
  assert main([str(word) for word in words]) == 1  # an empty folder
  assert "0 files" in capsys.readouterr().out


def test_predict_shows_pseudonyms_only(trained, tmp_path, capsys):
  """Names of files, folders and patients stay in the map, beside the input."""
  from pydicom import dcmread
  from pydicom.examples import get_path

  _, workdir = trained
  folder = tmp_path / "Muster_Anna"
  folder.mkdir()
  dataset = dcmread(get_path("ybr_color"))
  dataset.PatientID, dataset.PatientName = "Geheim4711", "Muster^Anna"
  dataset.Manufacturer, dataset.PatientAge = "Klinik Schneider", "103Y"
  dataset.ManufacturerModelName = "Vivid Dr Meier"
  dataset.save_as(folder / "Muster.dcm")
  (folder / "copy.dcm").write_bytes((folder / "Muster.dcm").read_bytes())
  out = tmp_path / "out"
  words = ["predict", str(workdir), str(folder), "--out", str(out)]
  assert main(words) == 1  # the copy is a duplicate
  said = capsys.readouterr().out.replace(str(tmp_path), "")
  written = "".join(path.read_text() for path in sorted(out.iterdir()))
  for name in (
    "Muster.dcm", "Geheim4711", "Muster^Anna", "copy.dcm", "Schneider", "Meier",
  ):  # fmt: skip
    assert name not in written + said
  assert "Muster_Anna" not in written
  assert "duplicate: the same bytes" in written
  rows = pd.read_csv(out / "predictions.csv")
  assert (rows["patient_id"] != rows["item_id"]).all()
  assert (rows["age_years"] == 90).all() and rows["device"].isna().all()
  private = tmp_path / "Muster_Anna.predict-map.csv"
  assert private.stat().st_mode & 0o777 == 0o600
  assert "Muster.dcm" in private.read_text()


def test_what_is_compiled_is_kept_unless_told_otherwise(monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
  keep_compiled()
  assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/caches/echo_jax/compiled"
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
  keep_compiled()
  assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/elsewhere"
