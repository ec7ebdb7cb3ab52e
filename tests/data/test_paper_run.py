"""From the owners' folders to a line of the paper's tables, with tiny models.
"""

import argparse
import importlib
import re

import cv2
import made_volumes
import numpy as np
import pytest
from made_files import echonet_clip, make_echonet
from made_volumes import write_view

from echo_jax.cli import main
from echo_jax.data.build import build
from experiments import count_only
from experiments.count_only import TITLE
from experiments.paper import write
from experiments.paper.rows import row_names
from experiments.paper.tasks import TASKS

SPLITS = ("train",) * 4 + ("val",) * 3 + ("test",) * 3
GRADES = ("no_AS", "mild_AS", "mildtomod_AS", "moderate_AS", "severe_AS")
BOTH = "view_and_diagnosis_labeled_set/labeled"
# Each architecture and each data set once; the whole matrix is long.
SHORT = (
  "echonet_lvef_videomae_scratch", "echonet_lvef_vivit",
  "echonet_lvef_r2plus1d_18", "camus_lvef_stf", "tmed2_as_r3d_18",
)  # fmt: skip


def echonet(root, _):
  rows = [
    f"V{n},{40 + 5 * n},{60 - 5 * n},{100 + n},112,112,50,10,{split.upper()}"
    for n, split in enumerate(SPLITS)
  ]
  videos = {f"V{n}": echonet_clip(10, seed=n) for n in range(len(SPLITS))}
  return make_echonet(root / "EchoNet-Dynamic", rows, [], videos)


def camus(root, monkeypatch):
  """Hearts of different EF, one a patient, in both views."""
  first = {"train": 1, "val": 401, "test": 451}
  for n, split in enumerate(SPLITS):
    name = f"patient{first[split] + n:04d}"
    for view, across in (("4CH", 24.0), ("2CH", 22.0)):
      axes = {"ED": 27.0, "ES": across - n}
      monkeypatch.setitem(made_volumes.ACROSS, view, axes)
      write_view(root / "CAMUS_public" / "database_nifti" / name, view)
  return root / "CAMUS_public"


def tmed2(root, _):
  """Studies of two stills, one a patient and grade; a training set of all."""
  root, rows = root / "TMED2", []
  pictures = echonet_clip(40)
  splits = ("train",) * 5 + ("val",) * 5 + ("test",) * 5
  for n, split in enumerate(splits):
    for still in range(2):
      key = f"{n + 1}s1_{still}.png"
      rows.append((key, "PLAX", GRADES[n % 5], BOTH, split, split))
      (root / BOTH).mkdir(parents=True, exist_ok=True)
      cv2.imwrite(str(root / BOTH / key), pictures[2 * n + still])
  (root / "DEV479").mkdir()
  head = "query_key,view_label,diagnosis_label"
  more = "SourceFolder,view_classifier_split,diagnosis_classifier_split"
  for name, header, lines in (
    ("labels_per_image.csv", head, [row[:3] for row in rows]),
    ("DEV479/TMED2_fold1_labeledpart.csv", f"{head},{more}", rows),
    ("DEV479/TMED2_fold1_unlabeledpart.csv", f"{head},{more}", []),
  ):
    text = "\n".join([header, *map(",".join, lines), ""])
    (root / name).write_text(text)
  return root


FOLDERS = {"echonet_dynamic": echonet, "camus": camus, "tmed2": tmed2}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
  """Function of a row's name to the folder with its data set.

  Each is built once, by the words of `Task.build`.
  """
  data, done = tmp_path_factory.mktemp("rows"), set()

  def build_for(name):
    task, _ = row_names()[name]
    if task.dataset not in done:
      with pytest.MonkeyPatch.context() as patch:
        raw = tmp_path_factory.mktemp(task.dataset)
        source = FOLDERS[task.dataset](raw, patch)
        builder = importlib.import_module(f"data_builders.{task.dataset}")
        parser = argparse.ArgumentParser()
        builder.add_options(parser)
        words = task.build.split()[1:]
        words[words.index("--source") + 1] = str(source)
        made = builder.from_options(parser.parse_args(words))
        build(made, data, progress=False)
      done.add(task.dataset)
    return data

  return build_for


@pytest.mark.parametrize(
  "name",
  [
    name if name in SHORT else pytest.param(name, marks=pytest.mark.long)
    for name in row_names()
  ],
)
def test_from_the_owners_folder_to_a_line_of_the_table(
  name, built, tmp_path, capsys
):
  """Every row of every table once; its log is results/rows.txt."""
  task, model = row_names()[name]
  run = tmp_path / name
  words = [f"--config.data.dir={built(name)}", "--config.run.steps=3"]
  row = f"experiments/paper/{name}.py"
  assert main(["train", row, "--workdir", str(run), "--tiny", *words]) == 0
  assert main(["evaluate", str(run), "--clips", "2"]) == 0
  capsys.readouterr()
  assert main(["table", task.name, "--runs", str(tmp_path)]) == 0
  text = capsys.readouterr().out
  begins = f"| {model.title} [run.steps=3]"
  lines = [line for line in text.splitlines() if line.startswith(begins)]
  values = [line.split("|")[3].strip() for line in lines]  # ours
  assert len(values) == len(task.metrics)
  assert np.isfinite(float(values[0].split()[0]))
  for value in values:  # or why there is none, as of one class only
    assert re.match(r"-?\d+\.\d+ |undefined \(\w+", value)
  patients = 5 if task.dataset == "tmed2" else 3
  assert f"{patients} patients, {patients} rows" in text
  assert f"{task.level} level" in text and "TINY MODEL" in text
  assert f"{task.dataset}:1.0.0" in text


def test_the_count_of_stills_stands_beside_them(built, tmp_path, capsys):
  name = "tmed2_as_linear_probe"
  data = built(name)
  run = tmp_path / name
  words = [f"--config.data.dir={data}", "--config.run.steps=3"]
  row = f"experiments/paper/{name}.py"
  assert main(["train", row, "--workdir", str(run), "--tiny", *words]) == 0
  assert main(["evaluate", str(run), "--clips", "1"]) == 0
  count_only.main(
    ["--data-dir", str(data), "--name", "tmed2",
     "--workdir", str(tmp_path / "count")]
  )  # fmt: skip
  capsys.readouterr()
  assert main(["table", "tmed2_as", "--runs", str(tmp_path)]) == 1
  assert "2 protocols" in capsys.readouterr().err  # the row is a tiny model
  # As if it were of full size.
  record = run / "run.json"
  record.write_text(record.read_text().replace('"tiny": true', '"tiny": false'))
  assert main(["table", "tmed2_as", "--runs", str(tmp_path)]) == 0
  text = capsys.readouterr().out
  lines = [x for x in text.splitlines() if x.startswith(f"| {TITLE} |")]
  assert [line.split("|")[2].strip() for line in lines] == [
    "macro AUROC (one against rest)", "balanced accuracy", "macro F1",
    "accuracy",
  ]  # fmt: skip
  # Two stills a study, whatever its grade: the count tells nothing.
  assert "| 0.50 (" in lines[0] and "| P2 |" in lines[0]
  assert "P2 test split, study level; 5 patients, 5 rows" in text


def test_the_readme_builds_every_data_set():
  assert {task.dataset for task in TASKS.values()} == set(FOLDERS)
  lines = write.README.read_text().splitlines()
  for task in TASKS.values():
    told = [line for line in lines if f"echo-jax build {task.dataset} " in line]
    assert set(f"echo-jax build {task.build}".split()) <= set(told[0].split())
