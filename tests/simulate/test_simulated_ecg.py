"""The twelve leads: in step with the beats, shaped as expected, and faulted."""

import dataclasses

import numpy as np
import pytest
from scipy.signal import welch

from echo_jax.data.ingest.ecg import ECG as Record
from echo_jax.data.ingest.ecg import r_peaks_ms
from echo_jax.simulate import VIEWS, draw_study, ecg, ecg_faults, heart, rhythm
from echo_jax.simulate.person import ECG as COHORT_ECG
from echo_jax.simulate.person import make_rng
from echo_jax.simulate.video import make_timeline

HZ = 500.0


def _study(name, patient=2, number=0, **changed):
  study = draw_study(5, patient, number, "independent")
  state = dataclasses.replace(study.heart, rhythm=name, **changed)
  return dataclasses.replace(study, heart=state)


def _record(name, patient=2, duration_s=10.0, **changed):
  return ecg.simulate_ecg(
    _study(name, patient, **changed), duration_s=duration_s
  )


def _lead(record, name):
  return record.mv[:, record.leads.index(name)].astype(float)


def _mean_beat(record, name, kind, before_ms=300, after_ms=450):
  """Average of one lead about the R waves of one kind of beat."""
  lead, rows = _lead(record, name), []
  for wave, its_kind in zip(
    record.beats.r_wave_ms, record.beats.kind, strict=True
  ):
    start = round((wave - before_ms) * HZ / 1000)
    stop = start + round((before_ms + after_ms) * HZ / 1000)
    if its_kind == kind and start >= 0 and stop <= len(lead):
      rows.append(lead[start:stop])
  return np.mean(rows, axis=0)


@pytest.mark.parametrize("name", rhythm.RHYTHMS)
def test_the_packages_own_finder_finds_the_r_waves(name):
  """Within 25 ms, sensitivity and predictive value 0.99 and more.

  The detector begins to learn at the first samples, so beats in the first and
  last 0.2 s are not asked for.
  """
  hits = misses = extras = 0
  for patient in range(24):
    record = _record(name, patient, 15.0, wide_qrs_ms=130.0 + 2 * patient)
    leads = tuple(lead.lower() for lead in record.leads)
    found = r_peaks_ms(Record(record.mv, record.hz, leads))
    true = record.r_wave_ms
    distance = np.abs(found[:, None] - true)
    asked = (true > 200) & (true < 14_800)
    hit = distance.min(axis=0)[asked] <= 25
    hits, misses = hits + hit.sum(), misses + (~hit).sum()
    extras += (distance.min(axis=1) > 25).sum()
  assert hits / (hits + misses) >= 0.99
  assert hits / (hits + extras) >= 0.99


@pytest.mark.parametrize("name", rhythm.RHYTHMS)
def test_leads_keep_einthoven_and_goldberger_to_the_last_bit(name):
  record = _record(name, 4)
  assert record.mv.dtype == np.float32 and record.mv.shape == (5000, 12)
  _check_identities(record.mv)


def _check_identities(mv):
  one, two, three, avr, avl, avf = mv.T[:6]
  np.testing.assert_array_equal(two, one + three)
  np.testing.assert_array_equal(avr + avl + avf, 0)
  np.testing.assert_array_equal(avr, -(one + two) / 2)
  np.testing.assert_array_equal(avl, (one - three) / 2)
  np.testing.assert_array_equal(avf, (two + three) / 2)


@pytest.mark.parametrize("name", rhythm.RHYTHMS)
def test_beats_are_those_of_the_video(name):
  study = _study(name)
  ventricle = heart.build_ventricle(study.heart)
  for video_s, clip, view in ((2.0, 0, "A4C"), (3.5, 1, "PLAX")):
    record = ecg.simulate_ecg(study, video_s=video_s, clip=clip, view=view)
    more = (VIEWS.index(view),) if view != "A4C" else ()
    timeline = make_timeline(study, ventricle, video_s, clip, *more)
    beats = timeline.beats
    count = len(beats.kind)
    np.testing.assert_array_equal(
      record.beats.r_wave_ms[:count], beats.r_wave_ms
    )
    assert record.beats.kind[:count] == beats.kind
    assert record.r_wave_ms[-1] > 7000


@pytest.mark.parametrize("name", ["sinus", "atrial_fibrillation"])
def test_a_longer_record_begins_as_the_shorter_one(name):
  short, long = _record(name, 3, 10.0), _record(name, 3, 15.0)
  np.testing.assert_array_equal(short.mv, long.mv[:5000])
  other = ecg.simulate_ecg(_study(name, 3), clip=1)
  assert not np.array_equal(short.mv, other.mv)


def test_a_person_keeps_the_waves_and_rhythm_sets_the_beats():
  """One mean beat at two studies; another person has another."""
  first = _mean_beat(_record("sinus", 1, heart_rate_bpm=70.0), "V2", "sinus")
  study = _study("sinus", 1, heart_rate_bpm=70.0)
  later = dataclasses.replace(study, study=1)
  second = _mean_beat(ecg.simulate_ecg(later), "V2", "sinus")
  np.testing.assert_allclose(first, second, atol=0.05)
  third = _mean_beat(_record("sinus", 0, heart_rate_bpm=70.0), "V2", "sinus")
  assert np.abs(first - third).max() > 0.2


def test_p_waves_in_sinus_rhythm_and_none_in_fibrillation():
  """Energy of the mean beat from 210 to 80 ms before R in lead II."""
  energy = {}
  for name, kind in (
    ("sinus", "sinus"), ("left_bundle_branch_block", "block"),
    ("atrial_fibrillation", "fibrillation"),
  ):  # fmt: skip
    record = _record(name, 6, 120.0, heart_rate_bpm=70.0)
    beat = _mean_beat(record, "II", kind)
    before = beat[round(0.09 * HZ) : round(0.20 * HZ)]
    energy[name] = np.sum((before - before.min()) ** 2) / HZ
    if name != "atrial_fibrillation":
      assert 0.05 < before.max() < 0.25
  fibrillation = energy.pop("atrial_fibrillation")
  assert min(energy.values()) > 10 * fibrillation


def test_f_waves_beat_at_four_to_nine_hz():
  for patient in range(5):
    name = "atrial_fibrillation"
    rng = np.random.default_rng(patient)
    waves = ecg.draw_waves(rng, "F", 150.0)
    dipole = ecg.draw_f_waves(rng, waves, 15_000, HZ)
    lead = ecg.derive_leads(dipole @ ecg.DOWER.T)[:, ecg.LEADS.index("V1")]
    hz, power = welch(lead, HZ, nperseg=2000)
    assert 4 <= hz[power.argmax()] <= 9
    assert 0.02 < lead.std() < 0.15
  flat = _lead(_record("sinus", 1, heart_rate_bpm=50.0), "V1")
  wavy = _lead(_record(name, 1, heart_rate_bpm=50.0), "V1")
  assert np.mean(np.abs(flat) < 0.005) > 0.4 > np.mean(np.abs(wavy) < 0.005)


def _qrs_ms(record, kind, before_ms=105):
  """Time for which some lead is beyond 0.05 mV, by the mean beats."""
  span = before_ms, 120
  leads = [_mean_beat(record, name, kind, *span) for name in record.leads]
  beyond = np.flatnonzero(np.abs(leads).max(axis=0) > 0.05)
  return (beyond[-1] - beyond[0]) * 1000 / HZ


@pytest.mark.parametrize("patient", range(4))
def test_beats_past_the_left_bundle_are_wide(patient):
  for wide_ms in (130.0, 165.0):
    for name, kind in (
      ("left_bundle_branch_block", "block"), ("ventricular_ectopy", "ectopic"),
    ):  # fmt: skip
      record = _record(
        name, patient, 60.0, heart_rate_bpm=55.0, wide_qrs_ms=wide_ms
      )
      assert _qrs_ms(record, kind) == pytest.approx(wide_ms, abs=9)
  record = _record("sinus", patient, 60.0, heart_rate_bpm=55.0)
  assert 75 < _qrs_ms(record, "sinus", 65) < 112


@pytest.mark.parametrize("patient", range(6))
def test_block_is_broad_r_laterally_and_deep_s_in_v1(patient):
  record = _record("left_bundle_branch_block", patient, heart_rate_bpm=60.0)
  for name in ("I", "V6"):
    beat = _mean_beat(record, name, "block", 80, 90)
    assert beat.max() > 0.3 and beat.min() > -0.1  # neither q nor S wave
    assert np.sum(beat > 0.4 * beat.max()) * 1000 / HZ > 55
    assert _mean_beat(record, name, "block", -150, 400).min() < -0.04  # T
  v1 = _mean_beat(record, "V1", "block", 80, 90)
  assert v1.min() < -0.7 and v1.max() < 0.1
  assert _mean_beat(record, "V1", "block", -150, 400).max() > 0.15


def test_qt_shortens_with_rate():
  """Fridericia by hand, and the T wave in the record."""
  assert ecg.qt_ms(400.0, 0.512) == pytest.approx(320.0)
  peaks = []
  for rate in (50.0, 75.0, 110.0):
    record = _record("sinus", 2, heart_rate_bpm=rate)
    t_wave = _mean_beat(record, "II", "sinus", -120, 400 if rate < 90 else 330)
    peaks.append(120 + 1000 / HZ * t_wave.argmax())
    end_ms = record.qt_ms - 0.45 * 92
    assert peaks[-1] == pytest.approx(end_ms - 54, abs=14)
  assert np.all(np.diff(peaks) < -20)


@pytest.mark.parametrize("name", rhythm.RHYTHMS)
def test_the_qt_that_is_told_is_the_one_drawn(name):
  """From the onset of the QRS complex to two widths after the last T event."""
  study = _study(name, 2, heart_rate_bpm=60.0, wide_qrs_ms=160.0)
  record = ecg.simulate_ecg(study)
  shape = make_rng(study.patient.seed, study.patient.patient, 0, COHORT_ECG, 2)
  waves = ecg.draw_waves(shape, study.patient.sex, 160.0)
  block = name == "left_bundle_branch_block"
  number = next(
    i for i, kind in enumerate(record.beats.kind) if kind != "ectopic"
  )
  wave = record.beats.r_wave_ms[number]
  events = ecg.place_events(waves, record.beats)
  peaks = events[events[:, 1] == (30.0 if block else 27.0), 0]
  end = peaks[peaks > wave].min() + 54
  onset = wave - 0.45 * (160.0 if block else waves.narrow_ms)
  assert record.qt_ms == pytest.approx(end - onset, abs=1e-6)


def test_r_waves_grow_from_v1_to_v5_as_they_should():
  """Means over people: V1 rS, V5 tall R, aVR upside down, T upright in II."""
  records = [_record("sinus", p, heart_rate_bpm=65.0) for p in range(20)]

  def mean_of(name, reduce, *span):
    beats = [_mean_beat(r, name, "sinus", *span) for r in records]
    return np.mean([reduce(beat) for beat in beats])

  near = (60, 70)
  assert mean_of("V1", np.min, *near) < -2 * mean_of("V1", np.max, *near)
  assert mean_of("V5", np.max, *near) > -3 * mean_of("V5", np.min, *near)
  assert 0.7 < mean_of("II", np.max, *near) < 2.2
  assert mean_of("aVR", np.min, *near) < -0.5
  late = (-150, 400)
  for name in ("I", "II", "V3", "V4", "V5", "V6"):
    assert mean_of(name, np.max, *late) > -3 * mean_of(name, np.min, *late)


@pytest.fixture(scope="module")
def clean():
  return _record("sinus", 3, 20.0).mv


def test_noise_hum_and_wander_are_what_they_are_called(clean):
  rng = np.random.default_rng(0)
  v4 = ecg.LEADS.index("V4")
  noise = ecg_faults.add_noise(clean, rng, 0.03) - clean
  hum = ecg_faults.add_hum(clean, rng, HZ, 0.05, 60.0) - clean
  wander = ecg_faults.add_wander(clean, rng, HZ, 0.3) - clean
  assert noise[:, v4].std() == pytest.approx(0.03, rel=0.05)
  assert abs(np.corrcoef(noise[1:, v4], noise[:-1, v4])[0, 1]) < 0.05
  hz, power = welch(hum[:, v4], HZ, nperseg=1000)
  assert hz[power.argmax()] == pytest.approx(60, abs=0.5)
  assert 0.02 < np.abs(hum[:, v4]).max() < 0.055
  hz, power = welch(wander[:, v4], HZ, nperseg=len(wander))
  assert power[hz > 0.5].sum() < 0.01 * power.sum()
  assert 0.05 < np.abs(wander[:, v4]).max() < 0.6
  for added in (noise, hum, wander):
    _check_identities(clean + added)


def test_no_fault_changes_what_it_is_given(clean):
  before = clean.copy()
  rng = np.random.default_rng(1)
  ecg_faults.add_noise(clean, rng)
  ecg_faults.drop_leads(clean, ["V1"])
  ecg_faults.swap_electrodes(clean, "RA", "LL")
  ecg_faults.swap_electrodes(clean, "V1", "V6")
  np.testing.assert_array_equal(clean, before)


def test_dropped_leads_are_flat_and_the_others_stay(clean):
  dropped = ecg_faults.drop_leads(clean, ["aVF", "V3"])
  flat = [ecg.LEADS.index(name) for name in ("aVF", "V3")]
  assert not dropped[:, flat].any()
  others = np.delete(np.arange(12), flat)
  np.testing.assert_array_equal(dropped[:, others], clean[:, others])
  with pytest.raises(ValueError, match="no ECG lead 'V7'"):
    ecg_faults.drop_leads(clean, ["V7"])


def test_swapped_arms_turn_lead_one_round(clean):
  """The textbook: I inverted, II and III and aVR and aVL change places."""
  one, two, three, avr, avl, avf = clean.T[:6]
  swapped = ecg_faults.swap_electrodes(clean, "RA", "LA")
  np.testing.assert_array_equal(
    swapped.T[:6], [-one, three, two, avl, avr, avf]
  )
  np.testing.assert_array_equal(swapped[:, 6:], clean[:, 6:])


@pytest.mark.parametrize("pair", [("RA", "LL"), ("LA", "LL"), ("V1", "V2")])
def test_swapping_twice_gives_back_the_record(clean, pair):
  once = ecg_faults.swap_electrodes(clean, *pair)
  assert not np.array_equal(once, clean)
  _check_identities(once)
  twice = ecg_faults.swap_electrodes(once, *pair[::-1])
  np.testing.assert_array_equal(twice, clean)


def test_impossible_requests_are_refused(clean):
  with pytest.raises(ValueError, match="cannot swap 'RA' and 'V1'"):
    ecg_faults.swap_electrodes(clean, "RA", "V1")
  with pytest.raises(ValueError, match="wide QRS is 110 ms, wants 130"):
    _record("ventricular_ectopy", wide_qrs_ms=110.0)
  with pytest.raises(ValueError, match="'SC' is none of A4C"):
    ecg.simulate_ecg(_study("sinus"), view="SC")
  with pytest.raises(ValueError, match="durations above 0 s, not 0 s"):
    ecg.simulate_ecg(_study("sinus"), duration_s=0)
