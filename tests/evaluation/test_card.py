"""Cards say what the files say, and tell no small group apart."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from echo_jax.cli import main
from echo_jax.commands.card import card_of_run
from echo_jax.data import card
from echo_jax.data.leakage import CHOSE_ORIGIN, Group, write_people
from echo_jax.data.sources import find_dataset, read_index
from echo_jax.evaluation.estimate import Estimate
from echo_jax.evaluation.predictions import read_predictions, write_predictions
from echo_jax.experiment import read_record
from echo_jax.training.writers import read_log


@pytest.fixture(scope="module")
def model_card(trained, tmp_path_factory):
  _, workdir = trained
  out = tmp_path_factory.mktemp("card") / "MODEL_CARD.md"
  assert main(["card", str(workdir), "--out", str(out)]) == 0
  return workdir, out.read_text()


def test_a_model_card_holds_the_runs_own_numbers(model_card):
  workdir, text = model_card
  metrics = json.loads((workdir / "metrics.json").read_text())
  first = metrics["estimates"][0]
  assert f"seed {first['seed']}" in text
  assert f"{first['value']:.1f}" in text
  assert read_record(workdir)["contract_hash"] in text
  assert "simulated hearts" in text
  # As evaluate has them: of whole videos, not of clips.
  groups = text[text.index("## Subgroups"):text.index("## Input contract")]
  assert "video level" in groups and "clip level" not in groups
  (by_device,) = [
    one for one in metrics["subgroups"]
    if (one["by"], one["metric"], one["target"]) == ("device", "mae", "ef_pct")
  ]  # fmt: skip
  for one in by_device["groups"]:
    assert str(Estimate.from_dict(one)) in groups


def test_a_target_without_any_truth_leaves_the_others_their_card(
  trained, tmp_path
):
  _, workdir = trained
  for name in ("run.json", "metrics.json"):
    (tmp_path / name).write_text((workdir / name).read_text())
  rows = read_predictions(workdir / "predictions.csv")
  rows.loc[rows.target == "edv_ml", "truth"] = float("nan")
  write_predictions(tmp_path / "predictions.csv", rows)
  assert "ef_pct, MAE by device" in card_of_run(tmp_path)


def test_a_run_without_results_has_no_card(trained, tmp_path, capsys):
  _, workdir = trained
  (tmp_path / "run.json").write_text((workdir / "run.json").read_text())
  assert main(["card", str(tmp_path)]) == 1
  assert "echo-jax evaluate" in capsys.readouterr().err


def test_a_pre_training_has_a_card_of_what_it_was_not_judged_for(
  pretrained, capsys
):
  out = pretrained / "MODEL_CARD.md"
  assert main(["card", str(pretrained)]) == 0
  text, record = out.read_text(), read_record(pretrained)
  out.unlink()
  (last,) = [
    line for line in read_log(pretrained / "log.jsonl")
    if line["part"] == "validation" and line["step"] == 3
  ]  # fmt: skip
  assert f"- {last['loss']:.4g}, of one validation pass: " in text
  assert "loss of validation at step 3" in text
  assert record["contract_hash"] in text and "predicts: no target" in text
  assert "simulated hearts" in text and "in which patients" in text
  assert "## Subgroups" not in text
  sizes = record["learnt_from"]
  assert len(sizes["all"]) == 3 and "device: device-a" in sizes
  assert "| device: device-a |" in text


def cohort_in(text):
  """What a card says of whom a model learnt from."""
  return text[text.index("## Learnt from"):text.index("## Judged")]


def cohort_row(rows):
  """Patients, studies and videos of a card's row, rounded."""
  patients = rows.patient_id.nunique()
  if 0 < patients < 5:
    return "<5 | withheld | withheld"
  return f"{nearest_5(patients)} | " + " | ".join(
    str(nearest_5(count)) for count in (rows.study_id.nunique(), len(rows))
  )


@pytest.mark.parametrize("kept", [True, False])
def test_a_model_card_counts_whom_it_was_trained_on(
  model_card, data_dir, tmp_path, kept
):
  """As the run kept it; an older run's is read from the data set."""
  workdir, text = model_card
  if not kept:
    copy = older_run(workdir, tmp_path)
    assert "did not keep" in cohort_in(card_of_run(copy))
    text = card_of_run(copy, data_dir)
  text = cohort_in(text)
  index = read_index(find_dataset(data_dir, "synthetic_echo"))
  train = index[(index.split == "train") & (index.kind == "cine")]
  chosen = index[index.split == "validation"].patient_id.nunique()
  if kept:
    assert read_record(workdir)["learnt_from"] == card.group_sizes(train)
  assert "below 5: its others are rounded to 5" in text and "<5" in text
  assert f"| all | {cohort_row(train)} |" in text
  for column in ("site", "device", "view"):
    for name, rows in train.groupby(column, observed=True):
      assert f"| {column}: {name} | {cohort_row(rows)} |" in text
  assert f"- patients it was chosen on: {nearest_5(chosen)}\n" in text
  assert "did not keep" not in text and "first weights were" not in text


def older_run(workdir, folder):
  """A copy of a run as it was before runs kept whom they learn from."""
  copy = folder / "older"
  shutil.copytree(workdir, copy, ignore=shutil.ignore_patterns("checkpoints"))
  record = read_record(copy)
  record.pop("learnt_from", None)
  record["config"].pop("interval", None)  # there was no such setting
  (copy / "run.json").write_text(json.dumps(record))
  return copy


def test_a_card_says_who_is_behind_the_first_weights(model_card, tmp_path):
  workdir, _ = model_card
  copy = older_run(workdir, tmp_path)
  people = [
    Group("", "train", {f"s:{i}": i > 5 for i in range(12)}),
    Group("", "pretrain", {f"s:{i}": True for i in range(31)}),
    Group("", CHOSE_ORIGIN, {}, whole=False),
  ]
  write_people(copy / "patients.csv", people)
  text = cohort_in(card_of_run(copy))
  for line in (
    "it was trained on: 12, 6 of them not named by their owner",
    "its first weights were trained on: 31",
    "its first weights were chosen on: not known, no list of all was kept",
  ):
    assert f"- patients {line}\n" in text
  assert "it was chosen on" not in text and "rounded" not in text
  (copy / "patients.csv").unlink()
  assert "patients: the run kept no list" in cohort_in(card_of_run(copy))


def test_few_whom_their_owner_did_not_name_do_not_follow(model_card, tmp_path):
  workdir, _ = model_card
  copy = older_run(workdir, tmp_path)
  people = [Group("", "train", {f"s:{i}": i > 1 for i in range(42)})]
  write_people(copy / "patients.csv", people)
  text = cohort_in(card_of_run(copy))
  assert "trained on: 40, <5 of them not named by their owner\n" in text


def test_few_whom_a_run_was_chosen_on_do_not_follow(model_card, tmp_path):
  workdir, _ = model_card
  copy = older_run(workdir, tmp_path)
  people = [
    Group("", role, {f"s:{role}{i}": True for i in range(count)})
    for role, count in (("train", 42), ("validation", 3))
  ]
  write_people(copy / "patients.csv", people)
  text = cohort_in(card_of_run(copy))
  assert "it was trained on: 40\n" in text and "chosen on: <5\n" in text
  assert "its others are rounded" in text


def test_a_cohort_of_studies_has_no_number_of_videos():
  index = people({"a": 6, "": 7}, label=0).assign(view="A4C")
  assert card.group_sizes(index) == {
    "all": [13, 13, 13], "device: not known": [7, 7, 7],
    "device: a": [6, 6, 6], "view: A4C": [13, 13, 13],
  }  # fmt: skip
  sizes = card.group_sizes(index, of_studies=True)
  assert list(card.size_table(sizes, card.Counts())) == [
    "| group | patients | studies |", "|---|---|---|", "| all | 13 | 13 |",
    "| device: not known | 7 | 7 |", "| device: a | 6 | 6 |",
  ]  # fmt: skip


def test_a_card_names_the_page_on_what_may_leave(model_card):
  assert "`GOVERNANCE.md`" in model_card[1]


def nearest_5(count):
  return 5 * round(count / 5)


def test_a_data_card_counts_what_the_index_has(data_dir):
  """Of a small data set, where some groups have fewer than five patients."""
  assert main(["card", "synthetic_echo", "--data-dir", str(data_dir)]) == 0
  folder = find_dataset(data_dir, "synthetic_echo")
  text, index = (folder / "DATA_CARD.md").read_text(), read_index(folder)
  assert "all others are rounded to 5" in text
  exact = list(card.count_table(index, "split", card.Counts()))
  for split, rows in index.groupby("split", observed=True):
    counts = [rows.patient_id.nunique(), rows.study_id.nunique(), len(rows)]
    assert f"| {split} | {' | '.join(map(str, counts))} |" in exact
    rounded = " | ".join(str(nearest_5(count)) for count in counts)
    assert f"| {split} | {rounded} |" in text
  known = index[index.ef_pct.notna()]
  counts = nearest_5(len(known)), nearest_5(known.patient_id.nunique())
  assert "| ef_pct | {} | {} |".format(*counts) in text
  assert f"{nearest_5(len(index))} items found" in text


def people(devices, label):
  """An index of one video of each of so many people a device."""
  of = [name for name, count in devices.items() for _ in range(count)]
  ids = [str(i) for i in range(len(of))]
  known = [0.5] * label + [float("nan")] * (len(of) - label)
  return pd.DataFrame(
    {"patient_id": ids, "study_id": ids, "device": of, "ef_pct": known}
  )


def test_fewer_than_five_patients_do_not_follow_from_sums():
  rows = people({"rare": 4, "common": 33, "usual": 31}, label=66)
  exact, rounded = card.Counts(), card.Counts(5)
  lines = list(card.count_table(rows, "device", exact))
  assert "| common | 33 | 33 | 33 |" in lines
  assert exact.small
  assert list(card.count_table(rows, "device", rounded))[2:] == [
    "| common | 35 | 35 | 35 |", "| rare | <5 | withheld | withheld |",
    "| usual | 30 | 30 | 30 |", "| all | 70 | 70 | 70 |",
  ]  # fmt: skip
  assert list(card.count_table(rows[:4], "device", rounded))[-1] == (
    "| all | <5 | withheld | withheld |"
  )


def test_few_items_left_out_are_small(data_dir, tmp_path, monkeypatch):
  source = find_dataset(data_dir, "synthetic_echo")
  folder = tmp_path / "set" / source.name
  shutil.copytree(source, folder)
  index = people({"usual": 41}, label=41).assign(
    split="train", patient_known=1, age_years=50.0
  )
  monkeypatch.setattr(card, "read_index", lambda _: index)
  told = {"found": 54, "written": 41, "rejected": 13, "noted": 0}
  for few, exact in ((6, True), (2, False)):
    reasons = {"no frames": 13 - few, "no spacing": few}
    (folder / "counts.json").write_text(json.dumps(told | {"reasons": reasons}))
    text = card.data_card(folder)
    assert ("| usual | 41 | 41 | 41 |" in text) == exact
    assert ("54 items found = 41 written + 13 rejected" in text) == exact
    assert ("- no spacing: <5" in text) != exact
    assert ("55 items found = 40 written + 15 rejected" in text) != exact


@pytest.mark.parametrize(
  ("label", "line"),
  [
    (3, "| ef_pct | withheld | <5 | withheld |"),
    (37, "| ef_pct | 37 | 37 | median 0.5, 5 to 95 %: 0.5 to 0.5 |"),
  ],
)
def test_few_who_have_a_label_or_have_it_not_are_small(label, line):
  rows, counts = people({"usual": 39}, label), card.Counts()
  assert line in list(card.label_table(rows, counts))
  assert counts.small


def test_without_small_groups_a_card_is_exact(data_dir, monkeypatch):
  folder = find_dataset(data_dir, "synthetic_echo")
  index = read_index(folder)
  everybody = index.assign(
    device="a", quality="fair", sex="F", age_years=50.0,
    **{name: np.float32(1) for name in index if name.startswith("ef_")},
  )  # fmt: skip
  columns = ["video_id", "patient_id", "study_id", "patient_known", "split",
             "device", "quality", "sex", "age_years", "ef_pct"]  # fmt: skip
  monkeypatch.setattr(card, "read_index", lambda _: everybody[columns])
  text, people = card.data_card(folder), index.patient_id.nunique()
  assert "rounded" not in text
  assert f"| all | {people} | {index.study_id.nunique()} | {len(index)} |" in (
    text
  )
  assert f"| 40 to below 60 | {people} |" in text
