"""Patients in two splits: planted ones are found, and training refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from echo_jax import experiment
from echo_jax.cli import main
from echo_jax.data import schema
from echo_jax.data.build import Dataset, Item, build
from echo_jax.data.leakage import (
  CHOSE_ORIGIN,
  Group,
  check_judged,
  check_run,
  compare,
  group_of,
  people_behind,
  write_people,
)  # fmt: skip
from echo_jax.data.sources import find_dataset, read_index
from echo_jax.training.loop import Stopped


def frame(*people, known=1):
  return pd.DataFrame(
    {"patient_id": list(people), "patient_known": [known] * len(people)}
  )


def group(role, *people, name="", known=True):
  return Group(name or f"set:{role}", role, {one: known for one in people})


@pytest.mark.parametrize("first", [*schema.SPLITS, CHOSE_ORIGIN])
@pytest.mark.parametrize("second", [*schema.SPLITS, CHOSE_ORIGIN])
def test_who_may_be_in_two_places(first, second):
  """All 25 pairs by hand: learned, then judged; chosen on, then tested."""
  learned = {"pretrain", "train"}
  forbidden = [{a, b} for a in learned for b in ("validation", "test")]
  forbidden += [{"validation", "test"}, {CHOSE_ORIGIN, "test"}]
  both = [group(first, "s:1", "s:2", name="a"), group(second, "s:2", name="b")]
  leaks = compare(both).leaks
  assert bool(leaks) == ({first, second} in forbidden)
  for leak in leaks:
    assert leak.patients == ("s:2",)
    # Whoever learned comes first, in whatever order they were given.
    assert leak.second == ("b" if both[1].role in ("validation", "test")
                           and both[0].role != "test" else "a")  # fmt: skip


def test_one_person_with_several_videos_is_one():
  one = group_of("a:train", "train", frame("s:1", "s:1", "s:2"))
  assert one.people == {"s:1": True, "s:2": True}


def test_whom_nobody_names_is_counted_not_cleared():
  found = compare(
    [
      Group("a:train", "train", {"s:1": True, "s:2": False}),
      group("test", "s:3", "s:4", known=False),
      group("pretrain", "s:9", known=False),  # with it there is a pair too
      group("train", "s:7", known=False, name="alone:train"),
    ]
  )
  assert not found.leaks
  counts = {one.group: (one.patients, one.of) for one in found.unnamed}
  assert counts == {
    "a:train": (1, 2), "set:test": (2, 2), "set:pretrain": (1, 1),
    "alone:train": (1, 1),
  }  # fmt: skip
  assert not compare([group("train", "s:1", known=False)]).unnamed


def test_two_groups_of_one_name_are_both_counted():
  found = compare(
    [
      group("pretrain", "s:1", known=False, name="a"),
      group("test", "s:2", "s:3", known=False, name="a"),
    ]
  )
  assert [one.of for one in found.unnamed] == [1, 2]


def test_the_same_id_leaks_even_if_no_person_is_named():
  """One EchoNet video in two splits is one person, whoever it is."""
  found = compare(
    [group("train", "e:v", known=False), group("test", "e:v", known=False)]
  )
  assert found.leaks[0].patients == ("e:v",)


def test_other_sources_cannot_be_compared():
  found = compare(
    [
      group("train", "mimic_iv:1", name="mimic:train"),
      group("test", "camus:1", name="camus:test"),
      group("test", "mimic_iv:2", name="mimic:test"),
    ]
  )
  assert not found.leaks
  (apart,) = found.strangers
  assert (apart.first, apart.second) == ("mimic:train", "camus:test")
  assert apart.sources == ("camus", "mimic_iv")


def keep_index(data_dir, name="set", **splits):
  """What a data set says of its splits; its records are not there."""
  folder = Path(data_dir) / name / "1.0.0"
  folder.mkdir(parents=True, exist_ok=True)
  rows = [people.assign(split=split) for split, people in splits.items()]
  pd.concat(rows).to_parquet(folder / "index.parquet")


def check(data_dir, splits, begun=None, init_from=None, **data):
  """`check_run` of a data set with these splits."""
  keep_index(data_dir, **splits)
  config = {"data": {"dir": str(data_dir), "name": "set"} | data}
  config["data"] |= {"train_split": "train", "validation_split": "validation"}
  if init_from:
    config["init_from"] = str(init_from)
  return check_run(config, lambda split, clips: (splits[split], None), begun)


def test_a_clean_run_keeps_who_is_who(tmp_path, capsys):
  used = check(
    tmp_path,
    {"train": frame("s:1", "s:2"), "validation": frame("s:3"),
     "test": frame("s:4")},
  )  # fmt: skip
  write_people(tmp_path / "patients.csv", used)
  assert (tmp_path / "patients.csv").read_text().splitlines() == [
    "split,patient_id,patient_known", "train,s:1,1", "train,s:2,1",
    "validation,s:3,1",
  ]  # fmt: skip
  assert capsys.readouterr().out == ""


def test_each_cohort_of_a_mixture_is_asked_for_its_test_split(tmp_path, capsys):
  """One has none, which must not hide whom the other is tested on."""
  mix = ("a:0.5", "set:1.0.0:0.5")
  clean = {"train": frame("s:1"), "validation": frame("s:2")}
  keep_index(tmp_path, "a", **clean)
  used = check(tmp_path, clean | {"test": frame("s:3")}, mix=mix)
  assert [one.name for one in used] == [
    "a+set:1.0.0:train", "a+set:1.0.0:validation"
  ]  # fmt: skip
  said = capsys.readouterr().out
  assert said == "a:test: not compared, there is no such split\n"
  with pytest.raises(ValueError, match="train are in set:1.0.0:test .s:1"):
    check(tmp_path, clean | {"test": frame("s:1")}, mix=mix)


def test_a_test_split_that_cannot_be_read_is_not_passed_over(tmp_path):
  splits = {"train": frame("s:1"), "validation": frame("s:2")}
  check(tmp_path, splits)
  (tmp_path / "set" / "1.0.0" / "index.parquet").unlink()
  with pytest.raises(ValueError, match="no index.parquet"):
    check_run(
      {"data": {"dir": str(tmp_path), "name": "set", "train_split": "train",
                "validation_split": "validation"}},
      lambda split, clips: (splits[split], None), None,
    )  # fmt: skip


@pytest.mark.parametrize(
  ("splits", "named"),
  [
    ({"train": frame("s:1"), "validation": frame("s:1")},
     "1 patients of set:train are in set:validation (s:1)"),
    ({"train": frame("s:1"), "validation": frame("s:2"),
      "test": frame("s:1", "s:9")},
     "1 patients of set:train are in set:test (s:1)"),
    ({"train": frame("s:1"), "validation": frame("s:2"),
      "test": frame("s:2", "s:9")},
     "1 patients of set:validation are in set:test (s:2)"),
  ],
)  # fmt: skip
def test_each_leak_within_a_run_is_refused(tmp_path, splits, named):
  with pytest.raises(ValueError) as refused:
    check(tmp_path, splits)
  assert named in str(refused.value)
  assert "data.allow_leakage=True" in str(refused.value)


def test_allowed_leakage_is_loud(tmp_path, capsys):
  splits = {"train": frame("s:1"), "validation": frame("s:1")}
  assert len(check(tmp_path, splits, allow_leakage=True)) == 2
  assert "LEAKAGE, allowed by data.allow_leakage: 1 pat" in (
    capsys.readouterr().err
  )


def test_an_experiment_that_cannot_say_is_refused():
  with pytest.raises(ValueError, match="no open_clips"):
    check_run({}, None, None)


def test_pretraining_is_known_through_a_chain_of_runs(tmp_path, capsys):
  """The first data set and the first run are gone when the third starts."""
  first, second = tmp_path / "mae", tmp_path / "more"
  first.mkdir(), second.mkdir()
  used = check(
    tmp_path, {"train": frame("s:1", "s:2"), "validation": frame("s:3")}
  )
  write_people(first / "patients.csv", used)
  used = check(
    tmp_path, {"train": frame("s:2", "s:4"), "validation": frame("s:3")},
    init_from=first,
  )  # fmt: skip
  write_people(second / "patients.csv", used)
  shutil.rmtree(first)
  for split, person, origin in (
    ("validation", "s:1", "more:pretrain"),
    ("validation", "s:4", "more:pretrain"),
    ("test", "s:1", "more:pretrain"),
    ("test", "s:3", f"more:{CHOSE_ORIGIN}"),
  ):
    splits = {
      "train": frame("s:1"), "validation": frame("s:8"), "test": frame("s:9")
    }  # fmt: skip
    with pytest.raises(ValueError, match=f"{origin} are in set:{split}"):
      check(tmp_path, splits | {split: frame(person)}, init_from=second)
  # Learning again from them, and choosing on those who chose, is no leak.
  again = {"train": frame("s:1", "s:2"), "validation": frame("s:3")}
  assert len(check(tmp_path, again, init_from=second)) == 4


def test_a_run_that_goes_on_needs_its_origin_no_more(tmp_path, capsys):
  first, second = tmp_path / "mae", tmp_path / "ef"
  first.mkdir(), second.mkdir()
  write_people(first / "patients.csv", [group("train", "s:1")])
  splits = {"train": frame("s:2"), "validation": frame("s:3")}
  used = check(tmp_path, splits, init_from=first)
  write_people(second / "patients.csv", used)
  kept = (second / "patients.csv").read_text()
  shutil.rmtree(first)
  again = check(tmp_path, splits, begun=second, init_from=first)
  assert again == used and "pretrain,s:1,1" in kept
  assert "no list was kept" not in capsys.readouterr().out


def test_a_list_of_a_run_that_saved_nothing_is_not_believed(
  data_dir, tmp_path, monkeypatch, capsys
):
  """First tried without the weights, then with them, in the same folder."""
  index = read_index(find_dataset(data_dir, "small"))
  tested = index[index["split"] == "test"]["patient_id"].iloc[0]
  origin, workdir = tmp_path / "mae", tmp_path / "ef"
  origin.mkdir()
  write_people(origin / "patients.csv", [group("train", tested)])

  def stop(built):
    raise Stopped

  monkeypatch.setattr(experiment, "initial_state", stop)
  words = (workdir, data_dir, "targets=('ef_pct',)")
  with pytest.raises(Stopped):
    train(*words, name="experiments.ef_finetune")
  assert (workdir / "patients.csv").exists()
  words += (f"init_from={origin}",)
  assert train(*words, name="experiments.ef_finetune") == 1
  said = capsys.readouterr().err
  assert f"leakage: 1 patients of {origin}:pretrain are in small:test" in said


def test_weights_of_unknown_patients_stay_unchecked(tmp_path, capsys):
  old, new = tmp_path / "old", tmp_path / "new"
  old.mkdir(), new.mkdir()
  splits = {"train": frame("s:1"), "validation": frame("s:2")}
  said = "old:pretrain: no list was kept: cannot be checked"
  used = check(tmp_path, splits, init_from=old)
  write_people(new / "patients.csv", used)
  assert said in capsys.readouterr().out
  behind, _ = people_behind(new)
  assert behind.people == {"s:1": True} and not behind.whole
  splits = {"train": frame(), "validation": frame("s:8")}
  check(tmp_path, splits, init_from=new)
  assert "new:pretrain: no list was kept" in capsys.readouterr().out


@pytest.mark.parametrize(
  "role", ["pretrain", "train", "validation", CHOSE_ORIGIN]
)
def test_nobody_in_a_runs_list_is_judged(tmp_path, role, capsys):
  """Not even in a split that the run itself did not open."""
  write_people(tmp_path / "patients.csv", [group(role, "s:1", "s:2", "s:3")])
  config = {"data": {}}
  check_judged(config, tmp_path, "pretrain", frame("s:4"))
  met = frame("s:1", "s:1", "s:3", "s:4")
  with pytest.raises(ValueError, match="leakage: 2 patients of .* pretrain"):
    check_judged(config, tmp_path, "pretrain", met)
  allowed = {"data": {"allow_leakage": True}}
  check_judged(allowed, tmp_path, "pretrain", met)
  assert "allowed by data.allow_leakage: 2 pat" in capsys.readouterr().err


def read_item(item):
  """A record of eight black pixels a side, half a second long."""
  times = np.arange(8) * 70.0
  record = schema.make_record(
    video_id=f"small:{item.name}", study_id=f"small:{item.name}",
    patient_id=item.facts["patient"], patient_known=1, split=item.split,
    kind="cine", view="A4C", frames=[bytes(64)] * 8, frames_codec="raw",
    frames_shape=(8, 8, 1), frame_time_ms=times, ef_pct=item.facts["ef_pct"],
  )  # fmt: skip
  return record, ()


def make_set(folder, moved=()):
  """A data set of two videos a patient: 3 to train on, 2 each to judge.

  A patient in `moved` passes for another one.
  """
  sizes, moved = {"train": 3, "validation": 2, "test": 2}, dict(moved)
  items = []
  for split, count in sizes.items():
    for person in range(count):
      who = f"small:{split}{person}"
      facts = {"patient": moved.get(who, who), "ef_pct": 50.0 + person}
      for video in range(2):
        items.append(Item(f"{split}{person}v{video}", split, facts))
  small = Dataset("small", "1.0.0", "Made.", {}, tuple(items), read_item)
  build(small, folder, progress=False)
  return folder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  return make_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def leaking(tmp_path_factory):
  """The same with one test patient in training and one in validation."""
  moved = {
    "small:test0": "small:train0", "small:test1": "small:validation0"
  }  # fmt: skip
  folder = make_set(tmp_path_factory.mktemp("leaking"), moved)
  return folder, "small:train0", "small:validation0"


def test_the_command_finds_them_and_says_so(leaking, data_dir, capsys):
  folder, in_train, in_validation = leaking
  words = ["leakage", "small", "--data-dir"]
  assert main([*words, str(data_dir)]) == 0
  assert "no leak found: 3 pairs compared" in capsys.readouterr().out
  assert main([*words, str(folder)]) == 1
  said = capsys.readouterr().out
  name = "small"
  for split, person in (("train", in_train), ("validation", in_validation)):
    leak = f"LEAK: 1 patients of {name}:{split} are in {name}:test ({person})"
    assert leak in said
  assert main([*words, str(folder), "--json"]) == 1
  found = json.loads(capsys.readouterr().out)
  assert {tuple(one["patients"]) for one in found["leaks"]} == {
    (in_train,), (in_validation,)
  }  # fmt: skip
  # Two of the test people now pass for others.
  assert found["patients"] == {
    f"{name}:train": 3, f"{name}:validation": 2, f"{name}:test": 2
  }  # fmt: skip


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_split_that_is_judged_and_was_learned_from(data_dir, split, capsys):
  words = ["leakage", "small", "--data-dir", str(data_dir)]
  assert main([*words, "--pretrain", f"small:{split}"]) == 1
  leak = f"2 patients of small:{split} (pretraining) are in small:{split}"
  said = capsys.readouterr().out
  assert leak in said and "1 leaks: 5 pairs compared" in said
  assert main([*words, "--pretrain", "small:train"]) == 0


def test_pretraining_by_runs_of_one_name(data_dir, tmp_path, capsys):
  """Whoever is behind the first counts too, and is named by its path."""
  words = ["leakage", "small", "--data-dir", str(data_dir)]
  index = read_index(find_dataset(data_dir, "small"))
  tested = index[index["split"] == "test"]["patient_id"].iloc[0]
  runs = [tmp_path / "a" / "mae", tmp_path / "b" / "mae"]
  for run, person in zip(runs, (tested, "small:other"), strict=True):
    run.mkdir(parents=True)
    write_people(run / "patients.csv", [group("train", person)])
    words += ["--pretrain", str(run)]
  assert main(words) == 1
  said = capsys.readouterr().out
  leak = f"1 patients of {runs[0]}:pretrain are in small:test ({tested})"
  assert leak in said and f"{runs[1]}:pretrain 1" in said


@pytest.mark.parametrize(
  ("origin", "named"),
  [
    ("small", "neither the folder of a run nor DATASET:SPLIT"),
    ("small:pretrain", "has no split pretrain"),
    ("nothing:test", "no data set nothing"),
  ],
)
def test_a_wrong_origin_is_named(data_dir, capsys, origin, named):
  words = ["leakage", "small", "--data-dir", str(data_dir)]
  assert main([*words, "--pretrain", origin]) == 1
  assert named in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_named(data_dir, tmp_path, capsys):
  words = ["leakage", "small", "--data-dir", str(data_dir)]
  assert main([*words, "--pretrain", str(tmp_path)]) == 1
  assert "has no patients.csv" in capsys.readouterr().err


def train(workdir, data_dir, *settings, name="experiments.mae_pretrain"):
  settings = (f"data.dir={data_dir}", "data.name=small", *settings)
  words = [f"--config.{one}" for one in settings]
  return main(["train", name, "--tiny", "--workdir", str(workdir), *words])


def test_train_refuses_and_leaves_no_run(leaking, tmp_path, capsys):
  folder, in_train, _ = leaking
  assert train(tmp_path / "run", folder) == 1
  said = capsys.readouterr().err
  assert "leakage: 1 patients of small:train are in" in said
  assert in_train in said
  assert list((tmp_path / "run").iterdir()) == []


def test_train_keeps_its_patients_and_the_next_run_sees_them(
  data_dir, tmp_path, capsys, monkeypatch
):
  run = tmp_path / "mae"

  def stop(built):  # training takes long and is tested elsewhere
    raise Stopped

  with monkeypatch.context() as patched:
    patched.setattr(experiment, "initial_state", stop)
    with pytest.raises(Stopped):
      train(run, data_dir)
  kept = pd.read_csv(run / "patients.csv")
  index = read_index(find_dataset(data_dir, "small"))
  for split in ("train", "validation"):
    wanted = set(index[index["split"] == split]["patient_id"])
    assert set(kept[kept["split"] == split]["patient_id"]) == wanted
  # A model that starts there may not be judged on whom it has seen.
  settings = (
    f"init_from={run}", "data.train_split=test",
    "data.validation_split=train", "targets=('ef_pct',)",
  )  # fmt: skip
  capsys.readouterr()
  name = "experiments.ef_finetune"
  assert train(tmp_path / "ef", data_dir, *settings, name=name) == 1
  seen = len(set(index[index["split"] == "train"]["patient_id"]))
  assert (
    f"leakage: {seen} patients of {run}:pretrain are in small:train"
    in capsys.readouterr().err
  )


def test_allowing_it_is_kept_in_the_run_record(leaking, tmp_path, capsys):
  folder, _, _ = leaking
  built = experiment.prepare(
    "experiments.mae_pretrain",
    (f"data.dir={folder}", "data.name=small", "data.allow_leakage=True"),
    tiny=True,
  )
  assert check_run(built.config, built.open_clips, None)
  assert "LEAKAGE, allowed" in capsys.readouterr().err
  experiment.keep_record(built, tmp_path)
  record = experiment.read_record(tmp_path)
  assert record["config"]["data"]["allow_leakage"] is True


def test_the_split_that_chose_is_judged_only_where_a_setting_names_it(tmp_path):
  """As the released code of 2024 tested on validation; never on training."""
  people = [group("train", "s:1"), group("validation", "s:2")]
  write_people(tmp_path / "patients.csv", people)
  plain = {"data": {"validation_split": "validation"}}
  named = {"data": {**plain["data"], "test_split": "validation"}}
  with pytest.raises(ValueError, match="leakage: 1 patients"):
    check_judged(plain, tmp_path, "validation", frame("s:2"))
  check_judged(named, tmp_path, "validation", frame("s:2"))
  for split, person in (("validation", "s:1"), ("train", "s:2")):
    with pytest.raises(ValueError, match="leakage: 1 patients"):
      check_judged(named, tmp_path, split, frame(person))
