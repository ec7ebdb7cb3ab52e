"""Cards say what the files say, and tell no small group apart."""

import json

import pandas as pd
import pytest

from echo_jax.cli import main
from echo_jax.commands.card import card_of_run
from echo_jax.data import card
from echo_jax.data.sources import find_dataset, read_index
from echo_jax.evaluation.estimate import NAN, Estimate
from echo_jax.evaluation.predictions import read_predictions, write_predictions
from echo_jax.experiment import read_record


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


def test_a_group_of_few_is_not_counted_in_what_is_printed():
  reason = "withheld: fewer than 20 patients"
  small, tiny = (
    str(Estimate("mae", NAN, patients=n, rows=3 * n, reason=reason))
    for n in (5, 4)
  )
  assert small == f"{reason}; 5 patients, 15 rows"
  assert tiny == f"{reason}; fewer than 5"


def test_a_run_without_results_has_no_card(trained, tmp_path, capsys):
  _, workdir = trained
  (tmp_path / "run.json").write_text((workdir / "run.json").read_text())
  assert main(["card", str(tmp_path)]) == 1
  assert "echo-jax evaluate" in capsys.readouterr().err


def test_a_data_card_counts_what_the_index_has(data_dir):
  assert main(["card", "synthetic_echo", "--data-dir", str(data_dir)]) == 0
  folder = find_dataset(data_dir, "synthetic_echo")
  text, index = (folder / "DATA_CARD.md").read_text(), read_index(folder)
  for split, rows in index.groupby("split", observed=True):
    counts = f"{rows.patient_id.nunique()} | {rows.study_id.nunique()}"
    assert f"| {split} | {counts} | {len(rows)} |" in text
  known = index[index.ef_pct.notna()]
  assert f"| ef_pct | {len(known)} | {known.patient_id.nunique()} |" in text
  assert f"{len(index)} items found" in text


def people(devices, label):
  """An index of one video of each of so many people a device."""
  of = [name for name, count in devices.items() for _ in range(count)]
  ids = [str(i) for i in range(len(of))]
  known = [0.5] * label + [float("nan")] * (len(of) - label)
  return pd.DataFrame(
    {"patient_id": ids, "study_id": ids, "device": of, "ef_pct": known}
  )


def test_fewer_than_five_patients_cannot_be_found_from_the_others():
  rows = people({"rare": 4, "common": 5, "usual": 30}, label=4)
  lines = list(card._count_table(rows, "device"))
  assert "| rare | <5 | withheld | withheld |" in lines
  assert "| common | withheld | withheld | withheld |" in lines
  assert "| usual | 30 | 30 | 30 |" in lines
  assert "| all | 39 | 39 | 39 |" in lines
  assert "| ef_pct | withheld | <5 | withheld |" in list(card._labels(rows))


def test_two_rare_groups_hide_each_other():
  rows = people({"one": 3, "other": 4, "usual": 30}, label=37)
  lines = list(card._count_table(rows, "device"))
  assert "| usual | 30 | 30 | 30 |" in lines
  assert "| ef_pct | 37 | 37 | median 0.5, 5 to 95 %: 0.5 to 0.5 |" in list(
    card._labels(rows)
  )
