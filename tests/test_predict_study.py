"""`echo-jax predict` of whole studies: as evaluated, and from what there is."""

import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import made_studies
import numpy as np
import pandas as pd
import pytest
from made_files import write_dicom
from made_study_folders import (
  LEADS,
  LOCATIONS,
  STATED,
  TESTED,
  dataset,
  header_of,
  write_records,
  write_samples,
  write_spectrum,
  write_study,
)

from data_builders import synthetic_echo
from echo_jax import experiment
from echo_jax.cli import main
from echo_jax.data import leakage
from echo_jax.data.build import build
from echo_jax.data.hospital import Hospital, write_hospital
from echo_jax.data.pipeline import stack
from echo_jax.data.sources import VideoSource, find_dataset
from echo_jax.data.studies import StudySource
from echo_jax.data.study_batches import (
  ARRAYS,
  PreparedStudies,
  prepare_signals,
  without,
)
from echo_jax.data.study_inputs import Stated
from echo_jax.data.study_places import find_studies
from echo_jax.evaluation.predict import predict_clips
from echo_jax.modalities import MODALITIES
from echo_jax.training.checkpoint import Checkpoints

SETTINGS = (
  "data.name=made_studies", "targets=('as_grade', 'ef_pct', 'la_ml')",
  "ecg.leads=('i', 'v1')", "video.cines=3", "run.steps=3", "missing_at_test=()",
  "weights=()", "trunk.depth=0", "data.threads=0",
  "input.span_s=0.6",
)  # fmt: skip
WHOLE = 31  # this patient's study has a part of every modality


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
  """The run that is asked again and again is loaded once."""
  load = experiment.load_evaluated
  experiment.load_evaluated = functools.cache(load)
  yield
  experiment.load_evaluated = load


def keep_untrained(made, workdir):
  """A run as training leaves it, with weights drawn instead: no compiling."""
  workdir.mkdir()
  people = leakage.check_run(made.config, made.open_clips, None)
  experiment.keep_record(made, workdir)
  leakage.write_people(workdir / leakage.PATIENTS, people)
  state = experiment.initial_state(made)
  rng = np.random.default_rng(1)
  params = {
    name: jax.tree.map(
      lambda x: x + 0.2 * rng.normal(size=x.shape).astype(x.dtype), part
    )
    # A frozen encoder stays as it came.
    if not (name == "encoder" and made.config["init_from"]) else part
    for name, part in state.params.items()
  }  # fmt: skip
  with Checkpoints(workdir / "checkpoints", made.metric) as checkpoints:
    state = state.replace(step=jnp.array(3), params=params)
    checkpoints.save(state, {made.metric: 1.0})


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
  """A run on cached features, whose encoder's run is gone."""
  folder = tmp_path_factory.mktemp("studies")
  build(dataset(), folder / "data", progress=False)
  settings = [*SETTINGS, f"data.dir={folder / 'data'}"]
  first = experiment.prepare("experiments.multimodal", settings, tiny=True)
  keep_untrained(first, folder / "encoder")
  settings += ["video.features=cached", f"init_from={folder / 'encoder'}"]
  made = experiment.prepare("experiments.multimodal", settings, tiny=True)
  keep_untrained(made, folder / "run")
  experiment.evaluate(
    made, folder / "run", clips=2, progress=False, draw=False
  )
  shutil.rmtree(folder / "encoder")
  shutil.rmtree(folder / "data")
  return folder / "run"


def predict(run, *folders, out, words=STATED):
  """(exit code, findings)."""
  code = main(
    ["predict", str(run), *map(str, folders), "--out", str(out), *words]
  )
  return code, json.loads((out / "findings.json").read_text())


def numbers(finding):
  """All that is predicted, in order."""
  return [
    n for v in finding["values"] for n in (v["value"], *v["chances"])
    if n is not None
  ]  # fmt: skip


def lines(finding, *words):
  """What is said that holds all of the words."""
  said = [" ".join(map(str, line.values())) for line in finding["said"]]
  return [line for line in said if all(word in line for word in words)]


@pytest.fixture(scope="module")
def whole(evaluated, tmp_path_factory):
  """A folder with everything, and its finding."""
  place = tmp_path_factory.mktemp("whole")
  folder = write_study(place / "in", WHOLE)
  (folder / "5-outflow_pw").unlink()  # it has no scale
  _, (finding,) = predict(evaluated, folder, out=place / "out")
  return folder, finding


def test_files_are_predicted_as_records_were_evaluated(evaluated, tmp_path):
  """Of all test studies, from one folder, with whatever each lacks."""
  for patient in TESTED:
    write_study(tmp_path / "in" / f"p{patient}" / "s0", patient)
  code, found = predict(evaluated, tmp_path / "in", out=tmp_path / "out")
  assert code == 0 and len(found) == len(TESTED)
  rows = pd.read_csv(tmp_path / "out" / "predictions.csv")
  assert set(rows["level"]) == {"study"} and rows["truth"].isna().all()
  told = (tmp_path / "out" / "predictions.csv").read_text()
  assert "secret" not in told and "/in/" not in told
  want = pd.read_csv(evaluated / "predictions.csv")
  want = want[want["split"] == "test"]
  keys = ["target", "class"]
  for finding, patient in zip(found, TESTED, strict=True):
    ours = rows[rows["item_id"] == finding["study_id"]]
    theirs = want[want["item_id"] == f"made:p{patient}-s0"]
    both = ours.fillna({"class": ""}).merge(
      theirs.fillna({"class": ""}), on=keys, how="outer"
    )
    assert len(both) == 6  # four grades, two numbers
    np.testing.assert_allclose(
      both["prediction_x"], both["prediction_y"], rtol=1e-3, atol=1e-4
    )
  names = [" ".join(one["rests_on"]) for one in found]
  assert names[-2:] == ["doppler ecg clinical genetic",
                        "video doppler clinical"]  # fmt: skip


def test_what_it_rests_on_and_what_is_not_used_is_said(whole):
  _, finding = whole
  assert finding["rests_on"] == [
    "video", "doppler", "ecg", "clinical", "genetic"
  ]
  assert lines(finding, "doppler", "annulus_tdi, as was stated")
  assert finding["notes"] == [] and len(numbers(finding)) == 6
  inside = finding["domain"] == "within the training domain"
  assert inside == (finding["values"][2]["low"] is not None)


ABSENT = {
  "video": ("0-A4C", "1-PLAX", "2-A4C"), "ecg": ("ecg",),
  "doppler": ("3-mitral_pw", "4-annulus_tdi"),
}  # fmt: skip


@pytest.mark.parametrize("modality", ABSENT)
def test_an_absent_modality_is_named(modality, whole, evaluated, tmp_path):
  folder = shutil.copytree(whole[0], tmp_path / "in")
  for name in ABSENT[modality]:
    (folder / name).unlink()
  code, (finding,) = predict(evaluated, folder, out=tmp_path / "out")
  assert code == 0 and modality not in finding["rests_on"]
  assert lines(finding, modality, "absent", "no file of it in the folder")
  assert numbers(finding) != pytest.approx(numbers(whole[1]), rel=1e-6)



def no_units(folder):
  write_samples(folder / "ecg", mv(), unit=False, **header_of(WHOLE))


def mv():
  (part,) = [p for p in made_studies.parts_of(WHOLE) if "ecg_mv" in p]
  return part["ecg_mv"]


def swapped(folder):
  names = ("ii", "i", *LEADS[2:])
  write_samples(folder / "ecg", mv(), names=names, **header_of(WHOLE))


def flat(folder):
  flat = mv().copy()
  flat[:, LEADS.index("v1")] = 0.01
  write_samples(folder / "ecg", flat, **header_of(WHOLE))


def some_leads(*leads):
  def write(folder):
    write_samples(folder / "ecg", mv(), leads=leads, **header_of(WHOLE))

  return write


def removing(*names):
  def remove(folder):
    for name in names:
      (folder / name).unlink()

  return remove


def no_scales(folder):
  part = made_studies.spectrum(WHOLE, "mitral_pw", ms=float("nan"))
  write_spectrum(folder / "3-mitral_pw", part, **header_of(WHOLE))


def two_frames(folder):
  """A spectrum of two frames."""
  from pydicom import dcmread

  path = folder / "3-mitral_pw"
  made = dcmread(path)
  picture = np.repeat(made.pixel_array[None], 2, axis=0)
  write_dicom(
    path, picture, made.SequenceOfUltrasoundRegions, **header_of(WHOLE)
  )


def metres(folder):
  write_records(folder, WHOLE, height_cm=1.78)


def genes_alone(folder):
  clinical = dict.fromkeys(
    ("age_years", "sex", "nt_probnp_pg_ml", "diabetes"), ""
  )
  write_records(folder, WHOLE, **clinical)


FAULTS = {
  "ECG without units": (no_units, removing("ecg"), 1),
  "it fits if i and ii are exchanged: limb leads not used": (
    swapped, some_leads(*LEADS[6:]), 0,
  ),
  "ECG lead v1 is flat": (
    flat, some_leads(*(lead for lead in LEADS if lead != "v1")), 0,
  ),
  "without time of a column (ms): not used": (
    no_scales, removing("3-mitral_pw"), 0,
  ),
  "spectrum of 2 frames: only a still one": (
    two_frames, removing("3-mitral_pw"), 1,
  ),
  "height_cm is 1.78 cm; plausible is 30 to 250 cm.  in m it would be 178": (
    metres, genes_alone, 1,
  ),
}  # fmt: skip


@pytest.mark.parametrize("reason", FAULTS)
def test_a_bad_part_is_named_and_does_not_count(
  reason, whole, evaluated, tmp_path
):
  spoil, leave_out, exit_code = FAULTS[reason]
  found = []
  for name, change in (("bad", spoil), ("never", leave_out)):
    folder = shutil.copytree(whole[0], tmp_path / name)
    change(folder)
    code, (finding,) = predict(evaluated, folder, out=tmp_path / f"{name}-out")
    found.append(finding)
    assert code == (exit_code if name == "bad" else 0)
  bad, never = found
  assert lines(bad, reason) and not lines(never, reason)
  assert numbers(bad) == numbers(never) and bad["values"] == never["values"]
  assert bad["rests_on"] == never["rests_on"]
  assert numbers(bad) != pytest.approx(numbers(whole[1]), rel=1e-6)


def test_two_patients_in_one_folder_are_refused(whole, evaluated, tmp_path):
  folder = shutil.copytree(whole[0], tmp_path / "in")
  write_samples(folder / "other", mv(), **header_of(30))
  code, found = predict(evaluated, folder, out=tmp_path / "out")
  assert code == 1 and found == []
  ledger = (tmp_path / "out" / "ledger.csv").read_text()
  assert ',,rejected,"2 patients in one study: ' in ledger
  assert "secret" not in ledger


def test_a_spectrum_of_unknown_place_is_not_used(whole, evaluated, tmp_path):
  folder, _ = whole
  words = [word for word in STATED if "annulus" not in word]
  _, (some,) = predict(evaluated, folder, out=tmp_path / "a", words=words)
  assert lines(some, "doppler", "ignored", "its header does not say where")
  other = shutil.copytree(folder, tmp_path / "in")
  (other / "4-annulus_tdi").unlink()
  _, (never,) = predict(evaluated, other, out=tmp_path / "b")
  assert some["values"] == never["values"]


def test_an_unknown_view_is_said_to_be_untrained(whole, evaluated, tmp_path):
  words = [word for word in STATED if "PLAX" not in word]
  _, (finding,) = predict(evaluated, whole[0], out=tmp_path / "a", words=words)
  (note,) = finding["notes"]
  assert note.startswith("view unknown: no cine of training had it")


def test_a_volume_without_a_known_scale_is_withheld(whole, evaluated, tmp_path):
  from pydicom import dcmread

  folder = shutil.copytree(whole[0], tmp_path / "in")
  made = dcmread(folder / "0-A4C")
  for part in made.SequenceOfUltrasoundRegions:
    part.PhysicalDeltaX = part.PhysicalDeltaY = 0.2
  made.save_as(folder / "0-A4C")
  _, (finding,) = predict(evaluated, folder, out=tmp_path / "out")
  grade, ef, volume = finding["values"]
  assert "in training saw 1.00 to 1.00 mm" in volume["withheld"]
  assert not ef["withheld"] and not grade["withheld"]
  rows = pd.read_csv(tmp_path / "out" / "predictions.csv")
  assert "la_ml" not in set(rows["target"])


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["--doppler=*pw*"], "is not PATTERN=LOCATION, one of aortic_cw"),
    (["--doppler=*pw*=aorta"], "'*pw*=aorta' is not PATTERN=LOCATION"),
    (["--view=*=A9C"], "is not PATTERN=VIEW, one of A4C"),
  ],
)
def test_wrong_words_are_one_line(
  words, message, whole, evaluated, tmp_path, capsys
):
  out = ["--out", str(tmp_path / "out")]
  assert main(["predict", str(evaluated), str(whole[0]), *out, *words]) == 1
  assert message in capsys.readouterr().err


def test_a_file_is_no_study(whole, evaluated, tmp_path, capsys):
  path = str(whole[0] / "ecg")
  out = ["--out", str(tmp_path / "out")]
  assert main(["predict", str(evaluated), path, *out]) == 1
  assert "pass the folder of one" in capsys.readouterr().err


HOSPITAL = {
  "cohort": "referral", "patients": 1, "studies": 1, "seed": 4, "size": 64,
  "duration_s": 0.8, "views": ("A4C", "PLAX"),
}  # fmt: skip


@pytest.fixture(scope="module")
def both(evaluated, tmp_path_factory):
  """One simulated study, read from a hospital's folder and from records."""
  place = tmp_path_factory.mktemp("hospital")
  write_hospital(Hospital(**HOSPITAL), place / "out", progress=False)
  made = synthetic_echo.dataset(**HOSPITAL, codec="raw", shares={"test": 1.0})
  build(made, place / "data", progress=False)
  run = experiment.load_evaluated(evaluated)
  rules = tuple((f"*{name}*", name) for name in LOCATIONS)
  reader, _ = experiment.study_predictor(run, Stated(rules), cut=True)
  ((folder,), left) = find_studies(place / "out" / "studies")
  assert left == []
  source = StudySource(VideoSource(find_dataset(
    place / "data", "synthetic_echo"), "test"))  # fmt: skip
  maker = reader.maker
  signals = prepare_signals(source, maker, "test")
  signals.pop("notes")
  (study,) = PreparedStudies(source, maker, signals)
  return run, reader.read(folder).example, maker.at(study, reader.windows)


def test_a_hospitals_folder_holds_what_the_records_hold(both):
  """ECG, records and genes exactly; pictures but for the noise of JPEG."""
  _, folder, records = both
  assert folder["present"].all() and records["present"].all()
  for name in ("view", "video_valid", "frame_valid", "doppler_valid"):
    np.testing.assert_array_equal(folder[name], records[name])
  for name in (*ARRAYS["ecg"], *ARRAYS["clinical"], *ARRAYS["genetic"]):
    np.testing.assert_array_equal(folder[name], records[name], name)
  np.testing.assert_allclose(
    folder["clip_spacing_mm"], records["clip_spacing_mm"], rtol=1e-5
  )
  clips = records["video_valid"]
  error = folder["video"][clips].astype(int) - records["video"][clips]
  assert np.abs(error).mean() < 1.5 and np.abs(error).max() < 25  # of 255
  error = np.abs(folder["spectrum"] - records["spectrum"])
  assert error.mean() < 0.005 and error.max() < 0.1  # of 1


def test_a_hospitals_folder_is_predicted_as_the_records_are(both):
  run, *examples = both

  def predicted(*missing):
    rows = [stack([without(e, missing) | {"row_valid": np.True_}])
            for e in examples]  # fmt: skip
    step = run.experiment.predict_step
    found = [predict_clips(step, run.state, iter([row])) for row in rows]
    return [one.prediction[0] for one in found]

  folder, records = predicted()
  # Chances, EF in points and ml: of what the noise of JPEG changes.
  np.testing.assert_allclose(folder, records, rtol=0.01, atol=0.01)
  np.testing.assert_array_equal(*predicted("video", "doppler"))
  assert np.abs(predicted("video")[0] - records).max() > 1e-4


def test_frozen_encoders_of_signals_are_those_of_the_evaluation(
  evaluated, whole, monkeypatch
):
  """They are not among the parameters: other weights there are refused."""
  run = experiment.load_evaluated(evaluated)

  def encoded(signals):
    gone = {k: v for k, v in signals.items() if k not in ARRAYS["ecg"]}
    return gone | {"ecg_tokens": np.full((1, 1, 16), 7.0, np.float32)}

  made = dataclasses.replace(
    run.experiment, encode_signals=encoded,
    frozen=lambda: {"ecg": {"kernel": np.ones(3, np.float32)}},
  )  # fmt: skip
  changed = dataclasses.replace(run, experiment=made)
  reader, _ = experiment.study_predictor(changed)
  example = reader.read(whole[0]).example
  assert (example["ecg_tokens"] == 7).all() and "ecg_mv" not in example
  assert example["present"][MODALITIES.index("ecg")]
  monkeypatch.setattr(experiment, "rebuild", lambda *_, **__: made)
  with pytest.raises(ValueError, match="with other frozen encoders than their"):
    experiment.load_evaluated.__wrapped__(evaluated)
