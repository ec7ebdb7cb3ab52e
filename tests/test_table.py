"""`echo-jax table` from made result folders: the paper's and a sweep's."""

import argparse
import importlib
import json

import pytest

from echo_jax.cli import main
from echo_jax.commands import sweep
from echo_jax.evaluation.estimate import Estimate, estimates_to_json
from experiments import ef_finetune, mae_pretrain

DATA = [{"dataset": "echonet_dynamic:1.0.0", "labels": "ab", "pixels": "cd"}]
EF = "experiments/paper/echonet_lvef_stf.py"


def record(experiment, config, **more):
  return {
    "experiment": experiment, "config": config, "data": DATA, "tiny": False,
    "seed": config["run"]["seed"], "contract_hash": "c", "metric": "loss",
    "targets": list(config.get("targets", ())), "init_from": None, **more,
  }  # fmt: skip


def write_run(folder, config, mae=4.0, experiment=EF, about=None, **more):
  """A result folder; `about` is of its metrics, None for none."""
  folder.mkdir(parents=True)
  found = record(experiment, config, **more)
  (folder / "run.json").write_text(json.dumps(found))
  about = {"split": "test", "clips_per_video": 4, "contract": "c",
           "data": DATA} | (about or {})  # fmt: skip
  estimates = [
    Estimate(
      name, value, value - 0.5, value + 0.5, unit=unit, target="ef_pct",
      split="test", row_level=level, patients=30, rows=30, resamples=2000,
      protocol=f"test split, {level} level",
    )
    for level, off in (("clip", 0.0), ("video", -0.25))
    for name, value, unit in (
      ("mae", mae + off, "%"), ("rmse", mae + off + 1, "%"), ("r2", 0.8, "")
    )
  ]  # fmt: skip
  metrics = {"about": about, **estimates_to_json(estimates)}
  (folder / "metrics.json").write_text(json.dumps(metrics))


def row_config(name="echonet_lvef_stf", tiny=False, **settings):
  module = importlib.import_module(f"experiments.paper.{name}")
  config = module.get_config()
  if tiny:
    module.tiny(config)
  config.update_from_flattened_dict(settings)
  return config.to_dict()


@pytest.fixture
def runs(tmp_path):
  """Three seeds of one row; another row of it in a dotted module."""
  for seed in (0, 1, 2):
    write_run(
      tmp_path / "stf" / f"run.seed={seed}",
      row_config(**{"run.seed": seed, "data.dir": "elsewhere"}), 4.0 + seed,
    )  # fmt: skip
  write_run(
    tmp_path / "probe", row_config("echonet_lvef_linear_probe"), 8.0,
    "experiments.paper.echonet_lvef_linear_probe",
  )  # fmt: skip
  return tmp_path


def table(capsys, *words, code=0):
  assert main(["table", *map(str, words)]) == code
  said = capsys.readouterr()
  return said.err if code else said.out


def test_our_rows_stand_beside_the_published(runs, capsys):
  text = table(capsys, "echonet_lvef", "--runs", runs)
  lines = text.splitlines()
  (mae,) = [one for one in lines if "| Echo-VideoMAE + STF-Net | MAE" in one]
  assert (
    "| 4.0 % (3.5 to 4.5), 5.0 % (4.5 to 5.5), 6.0 % (5.5 to 6.5) "
    "| 5.0 %, 3 seeds | P1 | 3.87 % ["
  ) in mae
  (probe,) = [one for one in lines if "linear probe | MAE" in one]
  assert "| 8.0 % (7.5 to 8.5) |  | P1 |" in probe
  assert text.count("| not run |") == 10 * 3
  (rival,) = [one for one in lines if "| EchoCardMAE's recipe | MAE" in one]
  assert "| not run |" in rival and "3.78 % [" in rival
  assert "30 patients, 30 rows" in text and "clip level" in text
  assert "doi:10.1038/s41467-025-66340-4 (paper)" in text
  videos = table(capsys, "echonet_lvef", "--runs", runs, "--level", "video")
  assert "3.8 % (3.2 to 4.2)" in videos and "video level" in videos


def test_it_goes_to_a_file_and_other_runs_are_counted(runs, capsys, tmp_path):
  out = tmp_path / "t.csv"
  words = ["table", "camus_lvef", "--runs", str(runs), "--format", "csv",
           "--out", str(out)]  # fmt: skip
  assert main(words) == 0
  assert "4 runs are not of camus_lvef" in capsys.readouterr().err
  assert out.read_text().count(",not run,") == 12 * 4


def test_what_a_run_changed_of_its_row_is_said(tmp_path, capsys):
  changed = {"optimizer.rate": 1e-3, "run.seed": 1, "init_from": ""}
  write_run(tmp_path / "a", row_config(**changed))
  text = table(capsys, "echonet_lvef", "--runs", tmp_path)
  assert "STF-Net [init_from=, optimizer.rate=0.001] | MAE | 4.0" in text


def test_tiny_models_are_marked_and_not_mixed_with_others(runs, capsys):
  tiny = row_config("echonet_lvef_echo_videomae", tiny=True)
  name = "experiments/paper/echonet_lvef_echo_videomae.py"
  write_run(runs / "tiny", tiny, 9.0, name, tiny=True)
  said = table(capsys, "echonet_lvef", "--runs", runs, code=1)
  assert "2 protocols" in said and "tiny" in said
  text = table(capsys, "echonet_lvef", "--runs", runs / "tiny")
  assert "TINY MODEL: NUMBERS MEAN NOTHING" in text
  assert "| Echo-VideoMAE | MAE | 9.0 % (8.5 to 9.5) |  | P1 |" in text
  both = table(capsys, "echonet_lvef", "--runs", runs, "--mixed")
  assert "| P1 |" in both and "| P2 |" in both


@pytest.mark.parametrize(
  ("about", "says"),
  [
    ({"split": "validation"}, "2 protocols"),
    ({"clips_per_video": 1}, "2 protocols"),
    ({"contract": "d"}, "of another contract than run.json"),
    ({"data": []}, "of another data than run.json"),
  ],
)
def test_runs_that_were_judged_otherwise_are_refused(runs, capsys, about, says):
  write_run(runs / "odd", row_config(**{"run.seed": 3}), about=about)
  assert says in table(capsys, "echonet_lvef", "--runs", runs, code=1)


def test_a_run_that_was_not_judged_is_named(runs, capsys):
  (runs / "probe" / "metrics.json").unlink()
  assert main(["table", "echonet_lvef", "--runs", str(runs)]) == 0
  said = capsys.readouterr()
  assert f"left out, not evaluated: {runs / 'probe'}" in said.err
  assert "linear probe | MAE | not run" in said.out


@pytest.mark.parametrize(
  ("words", "says"),
  [
    (["lvef"], "no table 'lvef'; there are ['echonet_lvef'"),
    (["echonet_lvef", "--runs", "nowhere"], "no such folder"),
    ([], "no run to tabulate"),
    (["echonet_lvef", "--figure", "a.png"], "--figure is of a sweep"),
  ],
)
def test_what_cannot_be_tabulated_is_refused(capsys, words, says):
  assert says in table(capsys, *words, code=1)


def test_no_estimate_of_the_level_is_no_missing_run(runs, capsys):
  words = ["echonet_lvef", "--runs", runs, "--level", "study"]
  said = table(capsys, *words, code=1)
  assert "has no mae, rmse, r2 at study level; it has mae (clip), " in said
  words = ["echonet_lvef", "--runs", runs, "--metric", "mea"]
  assert "no metric 'mea'; there are" in table(capsys, *words, code=1)


def test_tables_and_rows_are_listed(capsys):
  text = table(capsys, "--list")
  assert "echonet_lvef: EchoNet-Dynamic, LVEF" in text
  assert "  experiments/paper/tmed2_as_r3d_18.py  R3D-18, Kinetics" in text


def sweep_settings(fraction, seed, **more):
  config = ef_finetune.get_config()
  config.update_from_flattened_dict(
    {"data.train_fraction": fraction, "run.seed": seed, "targets": ("ef_pct",),
     **more}
  )  # fmt: skip
  return config.to_dict()


def sweep_run(folder, fraction, seed, mae, **more):
  name = "experiments/ablations/label_fraction.py"
  plain = sweep_settings(fraction, seed) | more.pop("settings", {})
  write_run(folder, plain, mae, name, **more)


def test_a_sweep_from_its_folders_alone(tmp_path, capsys):
  for i, fraction in enumerate((0.1, 0.5, 1.0)):
    for seed in (0, 1):
      sweep_run(tmp_path / f"{i}{seed}", fraction, seed, 9.0 - 2 * i + seed)
  figure = tmp_path / "f.png"
  text = table(capsys, "--runs", tmp_path, "--figure", figure)
  assert "| data.train_fraction=0.1 | MAE | 8.8 % (8.2 to 9.2), 9.8 %" in text
  assert "| data.train_fraction=1.0 | MAE |" in text and "2 seeds" in text
  assert "published" not in text and "run.seed" not in text
  assert figure.read_bytes().startswith(b"\x89PNG")
  words = ["--runs", tmp_path, "--figure", figure, "--x", "head.name"]
  assert "head.name is not one of" in table(capsys, *words, code=1)


def test_seeds_that_are_drawn_together_are_one(tmp_path, capsys):
  """Of the patients, and of the encoder; a seed of its own makes a line."""
  for seed in (0, 1):
    theirs = mae_pretrain.get_config()
    theirs.run.seed = seed
    origin = {"workdir": "a", "config": theirs.to_dict(),
              "experiment": "experiments/mae_pretrain.py"}  # fmt: skip
    for fraction in (0.1, 1.0):
      settings = sweep_settings(fraction, seed, **{"data.fraction_seed": seed})
      sweep_run(
        tmp_path / f"{fraction}{seed}", fraction, seed, 4.0 + seed,
        settings=settings, init_from=origin,
      )  # fmt: skip
  text = table(capsys, "--runs", tmp_path)
  assert "| data.train_fraction=0.1 | MAE | 3.8 % (3.2 to 4.2), 4.8 %" in text
  assert "2 seeds" in text and "seed=" not in text
  other = sweep_settings(0.1, 2, **{"data.fraction_seed": 0})
  sweep_run(
    tmp_path / "odd", 0.1, 2, 9.0, settings=other, init_from=origin
  )
  assert "data.fraction_seed=0" in table(capsys, "--runs", tmp_path)


def test_fine_tuning_from_a_sweep_is_told_by_what_that_swept(tmp_path, capsys):
  for ratio in (0.5, 0.9):
    theirs = mae_pretrain.get_config()
    theirs.mask.ratio = ratio
    run = f"runs/{ratio}"
    origin = {"workdir": run, "config": theirs.to_dict(),
              "experiment": "experiments/mae_pretrain.py"}  # fmt: skip
    sweep_run(
      tmp_path / str(ratio), 1.0, 0, 4.0, settings={"init_from": run},
      init_from=origin,
    )  # fmt: skip
  text = table(capsys, "--runs", tmp_path)
  assert "| init_from.mask.ratio=0.5 | MAE |" in text
  sweep_run(tmp_path / "scratch", 1.0, 0, 4.0)
  text = table(capsys, "--runs", tmp_path)
  assert "| init_from=runs/0.9 | MAE |" in text and "| init_from= |" in text


def test_a_sweep_of_pre_training_shows_validation_losses(tmp_path, capsys):
  for ratio in (0.5, 0.9):
    config = mae_pretrain.get_config()
    config.mask.ratio = ratio
    folder = tmp_path / str(ratio)
    name = "experiments/mae_pretrain.py"
    write_run(folder, config.to_dict(), experiment=name)
    (folder / "metrics.json").unlink()
    line = {"step": 5, "part": "validation", "loss": ratio + 0.01234}
    (folder / "log.jsonl").write_text(json.dumps(line) + "\n")
  text = table(capsys, "--runs", tmp_path)
  assert "| mask.ratio=0.5 | loss | 0.5123 (no interval) N1 |" in text
  assert "loss of validation at step 5, of the lowest loss" in text
  assert text == table(capsys, "--runs", tmp_path, "--metric", "loss")


def test_a_metric_that_is_not_there_is_named(runs, capsys):
  words = ["--runs", runs / "stf", "--metric", "mae", "--metric"]
  assert "no metric 'rsme'; there are" in table(capsys, *words, "rsme", code=1)
  assert "has no auroc at video" in table(capsys, *words, "auroc", code=1)
  assert "| rmse | " not in table(capsys, *words, "r2")


def write_baseline(folder, data=DATA, targets=("ef_pct",)):
  config = {"targets": targets, "data": {"name": "a"}, "run": {"seed": 0}}
  write_run(
    folder, config, 11.0, "experiments/count_only.py", baseline="count alone",
    contract_hash="", data=data,
    about={"clips_per_video": 0, "contract": "", "data": data},
  )  # fmt: skip


def test_a_baseline_that_sees_no_clip_stands_beside_runs(runs, capsys):
  write_baseline(runs / "count")
  for words in (["echonet_lvef"], ["--level", "clip", "--x", "head.name"]):
    text = table(capsys, *words, "--runs", runs)
    (line,) = [x for x in text.splitlines() if "| count alone | MAE |" in x]
    assert "| 11.0 % (10.5 to 11.5) |  | P2 |" in line
    assert "P2 test split, clip level; 30 patients, 30 rows; 95 %" in text
    assert "seed 0; test split, echonet_dynamic:1.0.0" in text  # no clips
  assert "| head.name=mean" in text or "head.name=stf" in text
  write_baseline(runs / "other", targets=("edv_ml",))
  assert main(["table", "echonet_lvef", "--runs", str(runs)]) == 0
  assert "1 runs are not of echonet_lvef" in capsys.readouterr().err


def test_a_baseline_on_other_data_is_refused_or_marked(runs, capsys):
  write_baseline(runs / "count", [DATA[0] | {"labels": "xy"}])
  for words in (["echonet_lvef"], ["--level", "clip"]):
    said = table(capsys, *words, "--runs", runs, code=1)
    assert "2 protocols" in said and str(runs / "count") in said
    text = table(capsys, *words, "--runs", runs, "--mixed")
    assert "| count alone | MAE | 11.0 % (10.5 to 11.5) |  | P2 |" in text
    assert "(labels xy, pixels cd)" in text


def test_videos_and_studies_are_not_mixed(runs, capsys):
  path = runs / "probe" / "metrics.json"
  path.write_text(path.read_text().replace('"video"', '"study"'))
  said = table(capsys, "--runs", runs, code=1)
  assert "probe of studies alone" in said and "--level study" in said


def test_a_label_stands_for_all_that_it_sets(tmp_path, capsys):
  for label, rate in (("described", 1e-4), ("rate", 1e-3)):
    config = row_config(**{"optimizer.rate": rate})
    write_run(tmp_path / label, config | {"label": label})
  text = table(capsys, "--runs", tmp_path)
  assert "| label=described | MAE |" in text and "optimizer" not in text


def test_runs_of_one_label_must_be_alike(tmp_path, capsys):
  for seed, steps in enumerate((10, 20)):
    config = row_config(**{"run.seed": seed, "run.steps": steps})
    write_run(tmp_path / str(seed), config | {"label": "a"})
  write_run(tmp_path / "b", row_config() | {"label": "b"})
  said = table(capsys, "--runs", tmp_path, code=1)
  assert "runs of the label a differ in run.steps;" in said


def test_where_a_class_was_cut_is_said(tmp_path, capsys):
  write_run(tmp_path / "a", row_config())
  path = tmp_path / "a" / "metrics.json"
  found = json.loads(path.read_text())
  for one in found["estimates"]:
    one |= {"threshold": 0.5, "threshold_rule": "(given)"}
  path.write_text(json.dumps(found))
  assert "; cut at 0.5 (given);" in table(capsys, "--runs", tmp_path)


def test_items_start_from_the_runs_of_another_sweep(tmp_path):
  for name in ("mask.ratio=0.5", "mask.ratio=0.9"):
    run = tmp_path / "masks" / name
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (run / "item.json").write_text('{"status": "done"}')
  (tmp_path / "masks" / "count").mkdir()  # a baseline has no weights
  (tmp_path / "masks" / "count" / "run.json").write_text('{"baseline": "x"}')
  items = planned(tmp_path)
  assert len(items) == 2 * 3
  assert items[0].folder.name == "init_from=mask.ratio=0.5,run.seed=0"
  run = str(tmp_path / "masks" / "mask.ratio=0.5")
  assert items[0].settings == {"init_from": run, "run.seed": 0}
  assert f"--config=init_from={run!r}" in items[0].commands[0]
  (tmp_path / "masks" / "mask.ratio=0.9" / "run.json").unlink()
  status = tmp_path / "masks" / "mask.ratio=0.9" / "item.json"
  status.write_text('{"status": "failed"}')
  with pytest.raises(ValueError, match="mask.ratio=0.9 has not ended"):
    planned(tmp_path)
  one = tmp_path / "masks" / "mask.ratio=0.5"
  assert sweep.runs_to_start_from(one) == [str(one)]
  with pytest.raises(ValueError, match="there is no run in it"):
    sweep.runs_to_start_from(tmp_path / "nothing")


def test_a_run_is_fine_tuned_with_its_own_seed(tmp_path):
  for seed in (1, 2):
    run = tmp_path / "masks" / str(seed)
    run.mkdir(parents=True)
    theirs = record("experiments/mae_pretrain.py", {"run": {"seed": seed}})
    (run / "run.json").write_text(json.dumps(theirs))
  items = planned(tmp_path, "--same-seed")
  assert [
    (item.settings["init_from"][-1], item.settings["run.seed"])
    for item in items
  ] == [("1", 1), ("2", 2)]
  (run / "run.json").write_text(json.dumps(theirs | {"seed": 7}))
  with pytest.raises(ValueError, match="no item of the sweep has seed 7"):
    planned(tmp_path, "--same-seed")
  alone = ["sweep", EF, "--workdir", str(tmp_path / "a"), "--same-seed"]
  assert main(alone) == 1


def planned(folder, *more):
  parser = argparse.ArgumentParser()
  sweep.add_arguments(parser)
  return sweep.plan_items(
    parser.parse_args(
      [EF, "--from", str(folder / "masks"), "--workdir", str(folder / "ef"),
       *more]
    )
  )
