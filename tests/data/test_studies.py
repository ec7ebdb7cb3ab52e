"""Records to studies, and parts of a study that are doubtful, hence absent."""

import made_studies
import numpy as np
import pandas as pd
import pytest

from echo_jax.data.contract import InputContract
from echo_jax.data.schema import VIEWS
from echo_jax.data.studies import StudySource
from echo_jax.data.study_batches import (
  Prepared,
  StudyMaker,
  count_notes,
  encode_studies,
)
from echo_jax.data.study_contract import (
  KIND_OF,
  LOCATIONS,
  StudyContract,
  StudyScale,
)
from echo_jax.data.study_parts import ecg_of, spectra_of, table_of
from echo_jax.objectives.outputs import Standardisation
from echo_jax.targets import TARGETS

CONTRACT = StudyContract(InputContract(frames=4, span_s=0.4, size=32))
EF = (TARGETS["ef_pct"],)


class Records(list):
  """Records in memory with the index that an opened split has."""

  @property
  def index(self):
    return pd.DataFrame(
      {name: value for name, value in record.items() if np.ndim(value) == 0}
      for record in self
    )


def records_of(*patients):
  """Whole studies of made patients."""
  return Records(
    record for p in patients for record in made_studies.records_of(p, "train")
  )


def source_of(*patients):
  return StudySource(records_of(*patients))


def scale_of(source):
  return StudyScale.measured(Standardisation((0.0,), (1.0,)), source)


def test_records_that_lie_apart_are_one_study():
  records = records_of(2, 3, 7)
  mixed = Records(records[::2] + records[1::2])
  source = StudySource(mixed, most=1)
  assert len(source) == 3
  whole = [r["video_id"] for study in source for r in study]
  assert sorted(whole) == sorted(r["video_id"] for r in records)
  for number in range(3):
    assert {r["study_id"] for r in source[number]} == {
      source.index["study_id"][number]
    }
  counts = [len(source.cines(i)) for i in range(3)]
  cines = sum(r["kind"] == "cine" for r in records)
  assert counts == [1, 1, 1] and source.left_out == cines - 3
  assert source.with_cine == 3


def test_what_records_contradict_is_unknown_and_counted():
  records = records_of(3, 4)
  records[0]["ef_pct"] = 41.0
  records[1]["sex"] = ""  # silence is no contradiction
  source = StudySource(records)
  assert np.isnan(source.index["ef_pct"][0])
  assert source.index["ef_pct"][1] == made_studies.labels_of(4)["ef_pct"]
  assert source.contradictions["ef_pct"] == 1
  assert source.index["sex"][0] == records[0]["sex"]
  assert "sex" not in source.contradictions
  assert source.index["study_day"].isna().all()
  assert (source.index["arrhythmic_event_2y"] == -1).all()


def test_two_patients_in_one_study_are_refused_by_its_name():
  records = records_of(3, 4)
  records[0]["patient_id"] = "made:p99"
  with pytest.raises(ValueError, match="1 studies .* of two.*made:p3-s0"):
    StudySource(records)


def test_spectra_lie_at_their_location_and_the_doubtful_are_absent():
  part = spectra_of(made_studies.records_of(0, "train"), CONTRACT)
  assert part.arrays["spectrum"].shape == (4, 80, 128)
  assert part.arrays["doppler_valid"].all() and part.present and not part.notes
  velocity = part.arrays["velocity_cm_s"]
  assert np.abs(velocity[LOCATIONS.index("aortic_cw")]).max() > 600
  odd = made_studies.records_of(1, "train")
  odd.append(odd[1] | {"doppler_location": ""})
  odd.append(odd[1])
  odd[-2]["kind"] = "pw"
  part = spectra_of(odd, CONTRACT)
  valid = dict(zip(LOCATIONS, part.arrays["doppler_valid"], strict=True))
  assert valid == {
    "aortic_cw": False, "outflow_pw": False, "mitral_pw": True,
    "annulus_tdi": True,
  }  # fmt: skip
  told = dict(part.notes)
  assert "without time of a column" in told["outflow_pw"]
  assert "unknown location" in told["doppler"]
  assert "1 more: the first is used" in told["mitral_pw"]
  unshown = part.arrays["spectrum"][LOCATIONS.index("outflow_pw")]
  assert not unshown.any()
  assert KIND_OF["mitral_pw"] == "pw" and KIND_OF["annulus_tdi"] == "tdi"


def test_a_spectrum_of_another_kind_than_its_location_is_not_used():
  record = made_studies.records_of(1, "train")[1]
  assert record["doppler_location"] == "mitral_pw"
  part = spectra_of([record | {"kind": "cw"}], CONTRACT)
  assert not part.present and "the record says 'cw'" in part.notes[0][1]


def ecg_record(mv=None):
  record = made_studies.records_of(1, "train")[0]
  return record if mv is None else record | {"ecg_mv": mv.astype(np.float32)}


def test_an_ecg_has_the_models_leads_rate_and_length():
  part = ecg_of([ecg_record()], CONTRACT)
  assert part.arrays["ecg_mv"].shape == (500, 8) and part.present
  assert part.arrays["lead_valid"].all() and not part.notes
  # Lead II is the second of the model; 200 Hz became 100.
  stored = ecg_record()["ecg_mv"][:1000:2, 1]
  stored = stored - np.median(stored)
  close = np.abs(part.arrays["ecg_mv"][:, 1] - stored) < 0.05
  assert close.mean() > 0.95


def test_limb_leads_in_doubt_are_absent_and_chest_leads_are_not():
  """Arms exchanged: I is upside down, and no identity is broken."""
  mv = ecg_record()["ecg_mv"].copy()
  swapped = mv.copy()
  swapped[:, 0] = -mv[:, 0]
  swapped[:, [1, 2]] = mv[:, [2, 1]]
  swapped[:, [3, 4]] = mv[:, [4, 3]]
  part = ecg_of([ecg_record(swapped)], CONTRACT)
  assert list(part.arrays["lead_valid"]) == [False] * 2 + [True] * 6
  assert "arm electrodes" in part.notes[0][1]
  assert not part.arrays["ecg_mv"][:, :2].any()
  flat = mv.copy()
  flat[:, 6] = 0.0
  part = ecg_of([ecg_record(flat)], CONTRACT)
  assert list(part.arrays["lead_valid"]) == [True] * 2 + [False] + [True] * 5


def test_an_ecg_in_microvolts_is_not_used_and_the_next_one_is():
  wrong = ecg_record(1000 * ecg_record()["ecg_mv"])
  part = ecg_of([wrong, ecg_record()], CONTRACT)
  assert part.present and "divide by 1000" in part.notes[0][1]
  alone = ecg_of([wrong], CONTRACT)
  assert not alone.present and not alone.arrays["sample_valid"].any()


def test_a_value_in_another_unit_is_missing_and_said():
  source = source_of(2, 3)
  scale = scale_of(source)
  row = source.index.to_dict("records")[0] | {"height_cm": 1.78}
  part = table_of("clinical", row, scale)
  assert "height_cm is 1.78 cm" in part.notes[0][1]
  assert count_notes(part.notes) == [
    f"clinical: 1 times something not used, first: {part.notes[0][1]}"
  ]
  nothing = table_of("genetic", {}, scale)
  assert not nothing.present and np.isnan(nothing.arrays["genetic_numbers"])


def test_statistics_are_of_the_source_that_is_measured():
  ages = [made_studies.labels_of(p)["age_years"] for p in (2, 3, 7)]
  scale = scale_of(source_of(2, 3, 7))
  assert scale.clinical.mean[0] == pytest.approx(np.mean(ages))
  assert scale.clinical.std[0] == pytest.approx(np.std(ages))


def test_clips_fill_their_places_and_a_study_without_one_has_no_video():
  source = source_of(2, 4)
  maker = StudyMaker(CONTRACT, EF, scale_of(source))
  made = []
  for number, row in enumerate(source.index.to_dict("records")):
    signals, _ = maker.signals(source[number])
    ready = maker.ready(row, signals)
    made.append(Prepared(ready, lambda n=number: source.cines(n)))
  first, empty = (maker.at(study, 2) for study in made)
  assert first["video"].shape == (12, 4, 32, 32, 1)
  assert first["video_valid"].tolist() == [True] * 4 + [False] * 8
  views = [VIEWS[i] for i in first["view"][:4]]
  assert views == ["A4C", "A4C", "PLAX", "PLAX"]
  assert first["present"][0] and not empty["present"][0]
  assert not empty["video_valid"].any()
  one = maker.drawn(made[0], np.random.default_rng(0))
  again = maker.drawn(made[0], np.random.default_rng(0))
  other = maker.drawn(made[0], np.random.default_rng(1))
  assert one["video"].shape[0] == 6
  np.testing.assert_array_equal(one["video"], again["video"])
  assert (one["video"] != other["video"]).any()
  features = encode_studies(
    source, maker, lambda video, valid: video.mean(axis=(1, 2, 3)), 2, "train",
    batch=5,
  )  # fmt: skip
  wanted = first["video"].mean(axis=(1, 2, 3))
  wanted[4:] = 0.0
  np.testing.assert_allclose(features["clip_features"][0], wanted)
  assert not features["video_valid"][1].any()


@pytest.mark.parametrize(
  "wrong, told",
  [
    ({"modalities": ("ecg", "video")}, "in this order"),
    ({"modalities": ("xray",)}, "modalities"),
    ({"coarsening": 3}, "divisor of 160 and 256"),
    ({"ecg_leads": ("i", "i")}, "each once"),
    ({"cines": 0}, "cines is 0"),
  ],
)
def test_contracts_that_cannot_be_are_refused(wrong, told):
  with pytest.raises(ValueError, match=told):
    StudyContract(InputContract(), **wrong)


def test_equal_contracts_hash_equally_and_others_do_not():
  other = StudyContract(CONTRACT.clip, ecg_hz=100)
  assert other.hash(["a"]) == CONTRACT.hash(["a"]) != CONTRACT.hash(["b"])
  assert StudyContract(CONTRACT.clip, ecg_hz=200).hash() != CONTRACT.hash()
