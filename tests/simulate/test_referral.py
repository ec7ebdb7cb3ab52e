"""The referred: causes before effects, physics of every heart, known faults."""

import dataclasses
import math

import numpy as np
import pytest

from echo_jax import simulate
from echo_jax.data import clinical
from echo_jax.simulate import (
  flow,
  heart,
  motion,
  records,
  rhythm,
  sections,
  segments,
)
from echo_jax.simulate.condition import Switches
from echo_jax.simulate.views import Viewpoint

COUNT = 400


def draw(patient, study=0, **switches):
  return simulate.draw_study(
    5, patient, study, "referral", Switches(**switches)
  )


@pytest.fixture(scope="module")
def studies():
  return [draw(patient) for patient in range(COUNT)]


def where(studies, **wanted):
  return [
    s for s in studies
    if all(getattr(s.condition, k) == v for k, v in wanted.items())
  ]  # fmt: skip


def test_draws_are_repeatable_and_patients_keep_their_disease(studies):
  assert draw(7) == studies[7]
  several = [
    p for p in range(60) if simulate.count_studies(5, p, "referral") > 1
  ]
  for patient in several:
    first, second = draw(patient), draw(patient, 1)
    assert first.patient == second.patient
    assert first.condition.disease == second.condition.disease
    assert second.condition.day >= 180 > first.condition.day == 0


def test_every_disease_valve_and_rhythm_is_there_often_enough(studies):
  """Loose bounds, 4 standard errors of a tenth: the cohort is of use."""
  for name in simulate.DISEASES:
    assert len(where(studies, disease=name)) > 0.04 * COUNT
  areas = np.array([s.condition.valves.aortic_area_cm2 for s in studies])
  assert 0.04 < np.mean(areas < 1.0) < 0.15
  beats = [s.heart.rhythm for s in studies]
  for name in ("atrial_fibrillation", "left_bundle_branch_block",
               "ventricular_ectopy"):  # fmt: skip
    assert 0.03 < beats.count(name) / COUNT < 0.2
  assert 0.03 < np.mean([s.condition.event_2y for s in studies]) < 0.2


def test_stroke_volumes_of_the_healthy_are_those_of_doppler(studies):
  """About 42 ml/m2 (the guideline calls less than 35 low flow)."""
  index = [
    (s.heart.edv_ml - s.heart.esv_ml) / s.patient.bsa_m2
    for s in where(studies, disease="none")
  ]
  assert 38 < np.median(index) < 46


def test_diseases_look_as_they_are_described(studies):
  def median(name, of):
    return float(np.median([of(s) for s in where(studies, disease=name)]))

  def wall(s):
    return s.heart.anatomy.wall_mm

  assert median("dilated", lambda s: s.heart.ef_pct) < 45
  assert median("dilated", lambda s: s.heart.edv_ml) > 1.3 * median(
    "none", lambda s: s.heart.edv_ml
  )
  assert min(map(lambda n: median(n, wall), ("hypertrophic", "infiltrative")))\
    > median("none", wall) + 3  # fmt: skip
  assert median("infiltrative", lambda s: s.heart.voltage) < 0.8
  for study in studies:  # few of the ischaemic are spared, all others are
    ischaemic = study.condition.disease == "ischaemic"
    assert bool(study.heart.segment_functions) == ischaemic
  abnormal = [
    segments.any_abnormal(s.heart.segment_functions)
    for s in where(studies, disease="ischaemic")
  ]
  assert np.mean(abnormal) > 0.9


def test_carriers_fall_ill_of_their_genes_disease():
  """Odds of 12 to 33 times as much."""
  ill = {"dilating": [0, 0], "other": [0, 0]}
  for patient in range(1500):
    study = draw(patient)
    known = simulate.disease.draw_background(
      5, patient, _body(study.patient)
    ).carried
    kind = "dilating" if {"ttn", "lmna", "flnc"} & set(known) else "other"
    ill[kind][0] += study.condition.disease == "dilated"
    ill[kind][1] += 1
  carriers, others = (a / b for a, b in ill.values())
  assert carriers > 3 * others


def _body(person):
  names = ("sex", "age_years", "height_cm", "weight_kg", "bsa_m2")
  return {name: getattr(person, name) for name in names}


def test_stenosis_grows_and_treatment_helps():
  gone, helped, alone = [], [], []
  for patient in range(400):
    if simulate.count_studies(5, patient, "referral") < 2:
      continue
    first, second = draw(patient), draw(patient, 1)
    before, after = (
      s.condition.valves.aortic_area_cm2 for s in (first, second)
    )
    assert after <= before
    if 0.5 < after < before:
      years = second.condition.day / 365.25
      gone.append((before - after) / years)
    if first.condition.disease == "dilated":
      change = second.heart.ef_pct - first.heart.ef_pct
      (helped if second.condition.treated else alone).append(change)
  assert 0.09 < np.mean(gone) < 0.15  # 0.12 cm2 a year, Otto et al. 1997
  assert np.mean(helped) > 2 > np.mean(alone)


def test_truth_obeys_physics_in_every_kind_of_heart(studies):
  """VTI x area = EDV - ESV less the leak, within 3 %; continuity gives the true
  area; 4 v^2 of the peak is the peak gradient; nothing is out of reach."""
  kinds = {}
  for study in studies:
    leaks = bool(study.condition.valves.regurgitant_ml)
    kinds[study.condition.disease, study.heart.rhythm, leaks] = study
  assert len(kinds) > 20
  for study in kinds.values():
    valves = study.condition.valves
    ventricle = heart.build_ventricle(study.heart)
    beats = simulate.simulate_ecg(study).beats
    for beat in flow.sample_beats(ventricle, valves, beats):
      m = flow.measure_beat(beat)
      through = m.outflow_vti_cm * valves.outflow_area_cm2
      if study.heart.rhythm in rhythm.STEADY:  # every beat is the heart's own
        stroke = study.heart.edv_ml - study.heart.esv_ml
        assert m.stroke_ml == pytest.approx(stroke, rel=0.03)
        assert through == pytest.approx(
          stroke - valves.regurgitant_ml, rel=0.03
        )
      assert through == pytest.approx(m.stroke_ml - m.regurgitant_ml, rel=1e-6)
      assert through / m.aortic_vti_cm == pytest.approx(
        valves.aortic_area_cm2, rel=1e-6
      )
      assert m.aortic_peak_mmhg == pytest.approx(
        4 * (m.aortic_peak_cm_s / 100) ** 2
      )
      assert m.aortic_mean_mmhg < m.aortic_peak_mmhg


def test_labels_of_a_study_agree_with_its_heart(studies):
  for study in studies[:40]:
    truth = simulate.study_truth(study)
    if study.heart.rhythm in ("sinus", "left_bundle_branch_block"):
      assert truth.ef_pct == pytest.approx(study.heart.ef_pct)
    if not math.isnan(truth.ef_pct):
      assert truth.esv_ml < truth.edv_ml
    assert truth.as_area_cm2 == study.condition.valves.aortic_area_cm2
    assert len(truth.segments) == 17


def test_stiff_cusps_are_thick_and_open_less():
  """Tips of the open valve: apart in proportion to the root of its area."""
  healthy = draw(0).heart
  found = {}
  for share in (1.0, 0.25):
    state = dataclasses.replace(healthy, aortic_opening_share=share,
                                segment_functions=())  # fmt: skip
    ventricle = heart.build_ventricle(state)
    wall = motion.build_wall(ventricle)
    section = sections.make_section("A3C", wall, Viewpoint())
    pose = heart.pose_at(ventricle, 0.5, aortic_open=math.sqrt(share))
    now = motion.moment_at(wall, pose)
    points, level, thick = sections.leaflets(section, now)[1]
    apart = float(np.hypot(*(points[0, -1] - points[1, -1])))
    found[share] = apart, level, thick
  assert found[0.25][0] == pytest.approx(0.5 * found[1.0][0], rel=0.05)
  assert found[1.0][1:] == (sections.AORTIC_LEVEL, 1)
  assert found[0.25][1] > sections.AORTIC_LEVEL and found[0.25][2] >= 3


def test_records_are_plausible_and_miss_what_nobody_asked_for(studies):
  for study in studies:
    condition = study.condition
    clinical.check_row(condition.record, clinical.CLINICAL)
    clinical.check_row(condition.genes, clinical.GENETIC)
    assert set(condition.record) == {c.name for c in clinical.CLINICAL}
    assert set(condition.genes) == {c.name for c in clinical.GENETIC}
  worry = np.array([records.suspicion(s) for s in studies])
  asked = np.array(
    [s.condition.record["nt_probnp_pg_ml"] is not None for s in studies]
  )
  assert asked[worry > 0.6].mean() > asked[worry < 0.1].mean() + 0.3
  panel = np.array([s.condition.genes["carrier_ttn"] is not None
                    for s in studies])  # fmt: skip
  sick = np.array([s.condition.disease in records.CARDIOMYOPATHIES
                   for s in studies])  # fmt: skip
  assert panel[sick].mean() > panel[~sick].mean() + 0.3


def test_switches_change_devices_and_windows_but_never_hearts(studies):
  for patient in range(60):
    plain, mixed = studies[patient], draw(patient, device_confounding=1.0)
    sick = plain.condition.disease != "none"
    assert mixed.device.name == ("device-c" if sick else "device-a")
    assert mixed.heart == plain.heart
    assert mixed.condition == plain.condition
    poor = draw(patient, quality_loss=0.4)
    assert poor.quality <= plain.quality and poor.heart == plain.heart
    moved = draw(patient, site_shift=1.0)
    if moved.patient.site == "site-3":
      assert moved.device.name == "device-c"
      assert moved.quality <= plain.quality
    else:
      assert moved.quality == plain.quality


def test_a_reader_errs_as_much_as_is_said(studies):
  truths = [simulate.study_truth(s) for s in studies[:120]]
  noisy = Switches(label_noise=1.0)
  read = [
    simulate.read_by_someone(t, s, noisy)
    for t, s in zip(truths, studies, strict=False)
  ]
  error = np.array(
    [r.ef_pct - t.ef_pct for r, t in zip(read, truths, strict=True)]
  )
  error = error[np.isfinite(error)]
  assert 3.9 < error.std() < 6.1  # 5 points, 4 standard errors
  assert [r.rhythm for r in read] == [t.rhythm for t in truths]
  same = simulate.read_by_someone(truths[0], studies[0], Switches())
  assert same is truths[0]


def test_spectra_know_the_rhythm_and_the_valve(studies):
  fibrillating = next(
    s for s in studies if s.heart.rhythm == "atrial_fibrillation"
  )
  wave = simulate.simulate_study_doppler(fibrillating, "mitral_pw").truth
  assert math.isnan(wave.a_cm_s) and wave.e_cm_s > 20
  narrow = min(studies, key=lambda s: s.condition.valves.aortic_area_cm2)
  jet = simulate.simulate_study_doppler(narrow, "aortic_cw")
  assert jet.truth.aortic_peak_cm_s > 300
  assert jet.device == narrow.device.name
  with pytest.raises(ValueError, match="location"):
    simulate.simulate_study_doppler(narrow, "tricuspid")


def test_ecg_is_in_step_with_the_cine_and_has_faults(studies):
  study = studies[0]
  video = simulate.simulate_video(study, size=32, duration_s=1.5)
  ecg = simulate.simulate_study_ecg(study, video_s=1.5)
  np.testing.assert_allclose(
    ecg.r_wave_ms[: len(video.r_wave_ms)], video.r_wave_ms, atol=1e-2
  )
  clean = simulate.simulate_ecg(study, video_s=1.5)
  assert 0.003 < (ecg.mv - clean.mv).std() < 0.3
  # Einthoven holds whatever was added to the electrodes
  np.testing.assert_allclose(
    ecg.mv[:, 0] + ecg.mv[:, 2], ecg.mv[:, 1], atol=1e-6
  )


def test_other_cohorts_have_no_switches_and_no_condition():
  assert simulate.draw_study(5, 0, 0, "clinic_like").condition is None
  with pytest.raises(ValueError, match="no switches"):
    simulate.draw_study(
      5, 0, 0, "clinic_like", Switches(device_confounding=1.0)
    )
  with pytest.raises(ValueError, match="site_shift is 2"):
    Switches(site_shift=2.0)
