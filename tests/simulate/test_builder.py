"""The builder: whole records, patients kept together, refusals."""

import argparse
import dataclasses
from collections import Counter

import numpy as np
import pytest

from data_builders import synthetic_echo
from echo_jax.data import schema
from echo_jax.data.frames import decode_frame, decode_mask
from echo_jax.simulate import (
  Switches,
  draw_study,
  measure_heart,
  simulate_video,
)


def _dataset(**changed):
  settings = {"patients": 20, "size": 48, "duration_s": 1.5} | changed
  return synthetic_echo.dataset(**settings)


@pytest.mark.parametrize("codec", ["png", "raw"])
def test_record_is_the_simulated_video(codec):
  dataset = _dataset(codec=codec, seed=4, cohort="clinic_like")
  record, notes = dataset.read(dataset.items[3])
  schema.check_record(record)
  facts = dataset.items[3].facts
  study = draw_study(4, facts["patient"], facts["study"], "clinic_like")
  video = simulate_video(study, size=48, duration_s=1.5)
  frame = decode_frame(record["frames"][5], codec, (48, 48, 1))
  np.testing.assert_array_equal(frame[..., 0], video.frames[5])
  np.testing.assert_array_equal(
    decode_mask(record["lv_mask"][5]), video.lv_mask[5]
  )
  np.testing.assert_array_equal(decode_mask(record["sector"]), video.sector)
  assert record["ef_pct"] == video.ef_pct and record["view"] == "A4C"
  assert record["ef_method"] == "simulated" and notes == ()


def test_patients_stay_in_one_split_when_more_are_added():
  few, many = _dataset(patients=20).items, _dataset(patients=40).items
  assert many[: len(few)] == few
  split_of = {}
  for item in many:
    patient = item.facts["patient"]
    assert split_of.setdefault(patient, item.split) == item.split


def test_shares_are_kept_in_small_cohorts():
  found = Counter(synthetic_echo.split_patients(200, synthetic_echo.SHARES))
  for name, share in synthetic_echo.SHARES.items():
    assert found[name] == pytest.approx(200 * share, abs=2)


def test_an_empty_split_and_bad_shares_are_refused():
  with pytest.raises(ValueError, match="2 patients leave .* empty"):
    _dataset(patients=2)
  with pytest.raises(ValueError, match="shares sum"):
    _dataset(shares={"train": 0.5})


def test_a_video_without_a_whole_beat_is_noted():
  dataset = _dataset(duration_s=0.2)
  record, notes = dataset.read(dataset.items[0])
  assert record["ed_frame"] == -1
  assert notes == ("no complete beat in the recording",)


def test_an_ef_of_too_few_beats_is_noted(monkeypatch):
  def draw(*which):
    study = draw_study(*which)
    state = dataclasses.replace(
      study.heart, rhythm="atrial_fibrillation", heart_rate_bpm=70.0
    )
    return dataclasses.replace(study, heart=state)

  monkeypatch.setattr(synthetic_echo.simulate, "draw_study", draw)
  dataset = _dataset(duration_s=2.5)
  record, notes = dataset.read(dataset.items[0])
  assert record["ed_frame"] >= 0 and len(notes) == 1
  assert notes[0].endswith("atrial_fibrillation wants at least 5")


def test_options_give_the_same_data_set():
  parser = argparse.ArgumentParser()
  synthetic_echo.add_options(parser)
  args = parser.parse_args(["--patients", "20", "--size", "48"])
  made = synthetic_echo.from_options(args)
  assert made.items == _dataset().items
  assert made.settings == _dataset(duration_s=2.0).settings


def test_views_are_records_of_their_own_and_the_default_keeps_its_names():
  plain, many = _dataset(), _dataset(views=("A4C", "PSAX"), clips=2)
  names = {item.name for item in many.items}
  assert {item.name for item in plain.items} < names
  item = next(i for i in many.items if i.facts["view"] == "PSAX")
  assert item.name.endswith("-psax-c0")
  record, _ = many.read(item)
  assert record["view"] == "PSAX"
  with pytest.raises(ValueError, match="views"):
    _dataset(views=("A9C",))


def test_sizes_are_those_of_the_heart():
  dataset = _dataset()
  record, _ = dataset.read(dataset.items[0])
  found = measure_heart(draw_study(0, 0, 0, "independent").heart)
  for name in ("lvidd_mm", "lvids_mm", "ivsd_mm", "lvpws_mm"):
    assert record[name] == getattr(found, name)


def _referral(**changed):
  return _dataset(
    patients=8, size=32, cohort="referral", shares={"train": 1.0}, **changed
  )


def test_a_referred_study_is_one_set_of_labels_over_all_its_recordings():
  """Cines, spectra and one ECG; a spectrum has its scales and no cavity."""
  dataset = _referral(views=("A4C", "PLAX"))
  first = dataset.items[0].facts["patient"], dataset.items[0].facts["study"]
  of_study = [
    item for item in dataset.items
    if (item.facts["patient"], item.facts["study"]) == first
  ]  # fmt: skip
  records = [dataset.read(item)[0] for item in of_study]
  study = draw_study(0, *first, "referral")
  spectra = [r for r in records if r["doppler_location"]]
  assert tuple(
    r["doppler_location"] for r in spectra
  ) == study.condition.spectra
  assert all(r["kind"] in ("cw", "pw", "tdi") for r in spectra)
  assert all(r["doppler_cm_s"] > 0 and r["doppler_ms"] > 0 for r in spectra)
  for name in (
    "ef_pct", "as_grade", "disease", "rhythm", "segment_09", "sex",
    "nt_probnp_pg_ml", "carrier_ttn", "arrhythmic_event_2y",
  ):  # fmt: skip
    values = {str(r[name]) for r in records}
    assert len(values) == 1, name
  with_ecg = [r for r in records if r["ecg_mv"].size]
  assert len(with_ecg) == study.condition.has_ecg
  for r in with_ecg:
    assert r["ecg_mv"].shape == (5000, 12) and r["view"] == "A4C"


def test_what_the_clinic_does_not_know_is_unknown_in_the_record():
  dataset = _referral()
  for item in dataset.items:
    if "location" in item.facts:
      continue
    facts = item.facts
    study = draw_study(0, facts["patient"], facts["study"], "referral")
    record, _ = dataset.read(item)
    known = study.condition.record | study.condition.genes
    for name, value in known.items():
      if value is None:
        assert str(record[name]) == str(schema.unknown(name)), name
      else:
        assert record[name] == value or record[name] == pytest.approx(value)


def test_a_reader_who_errs_changes_labels_and_says_so():
  plain, noisy = (
    _referral(switches=Switches(label_noise=noise)) for noise in (0.0, 1.0)
  )
  item = plain.items[0]
  true, read = plain.read(item)[0], noisy.read(item)[0]
  assert (true["ef_method"], read["ef_method"]) == ("simulated", "reported")
  assert true["ef_pct"] != read["ef_pct"]
  assert true["frames"] == read["frames"]


def test_the_first_studies_are_kept_where_fewer_are_asked_for():
  all_of, one = _referral(), _referral(studies=1)
  assert [i for i in all_of.items if i.facts["study"] == 0] == list(one.items)
