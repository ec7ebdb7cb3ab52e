"""A sweep ends every item, goes on after a kill, and says which failed."""

import json

import pytest

from echo_jax.cli import main
from echo_jax.commands import sweep

MODULE = """
from experiments.ef_finetune import build, get_config, tiny


def sweep():
  yield {"head.name": "moments", "loss": "l2"}
  yield {"head.name": "moments", "loss": "wrong"}
"""


@pytest.fixture
def words(tmp_path, data_dir):
  path = tmp_path / "two.py"
  path.write_text(MODULE)
  return [
    "sweep", str(path), "--tiny", "--workdir", str(tmp_path / "runs"),
    "--clips", "1", f"--config.data.dir={data_dir}", "--config.run.steps=2",
  ]  # fmt: skip


def test_items_end_in_folders_of_their_own_and_are_not_done_twice(
  words, tmp_path, capsys
):
  assert main(words) == 1
  told = capsys.readouterr()
  assert "2 items = 1 done + 1 failed" in told.out
  assert "failed: " in told.err and "loss=wrong" in told.err
  good, bad = tmp_path / "runs" / "loss=l2", tmp_path / "runs" / "loss=wrong"
  assert (good / "metrics.json").exists()
  assert "loss 'wrong' is not one of" in (bad / "output.txt").read_text()
  said = json.loads((good / "item.json").read_text())
  assert said["status"] == "done" and said["settings"]["loss"] == "l2"
  before = (good / "output.txt").read_text()
  assert main(words) == 1
  assert "2 items, 1 done before" in capsys.readouterr().out
  assert (good / "output.txt").read_text() == before


def test_an_item_that_was_begun_is_run_again(tmp_path, monkeypatch):
  item = sweep.Item(tmp_path / "a", {}, (("echo-jax", "train"),))
  monkeypatch.setattr(
    sweep.subprocess, "run", lambda *a, **k: 1 / 0
  )  # as killed
  with pytest.raises(ZeroDivisionError):
    sweep.run_item(item)
  assert sweep.status_of(item) == "begun"


def test_why_an_item_could_not_be_run_is_said(tmp_path, capsys):
  blocked = tmp_path / "file"
  blocked.write_text("")
  item = sweep.Item(blocked / "a", {}, ())
  assert sweep.run_items([item], sweep.on_this_machine(1)) == [item]
  assert "NotADirectoryError" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("body", "says"),
  [
    ("", "has no sweep"),
    ("def sweep():\n  yield {'loss': 'l2'}\n  yield {'loss': 'l2'}\n", "alike"),
    ("def sweep():\n  yield {'lose': 'l2'}\n", "cannot set lose"),
  ],
)
def test_a_sweep_that_cannot_be_run_is_refused(tmp_path, capsys, body, says):
  path = tmp_path / "wrong.py"
  start = "from experiments.ef_finetune import build, get_config\n"
  path.write_text(start + body)
  assert main(["sweep", str(path), "--workdir", str(tmp_path / "runs")]) == 1
  assert says in capsys.readouterr().err


def test_jobs_must_be_some(words, capsys):
  assert main([*words, "--jobs", "0"]) == 1
  assert "--jobs is 0" in capsys.readouterr().err


def test_folders_tell_items_apart():
  varied = {"a", "b"}
  name = sweep.folder_name({"a": 1, "b": "x/y", "c": 3}, varied)
  assert name.startswith("a=1,b=x_y-")
  other = sweep.folder_name({"a": 1, "b": "x:y", "c": 3}, varied)
  assert other != name
  assert sweep.folder_name({"a": 0.5}, varied) == "a=0.5"
  assert len(sweep.folder_name({"a": "long" * 99}, varied)) < 120
