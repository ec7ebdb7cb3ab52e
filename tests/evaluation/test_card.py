"""Cards say what the files say, and tell no small group apart."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from echo_jax.cli import main
from echo_jax.commands.card import card_of_run
from echo_jax.data import card
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
