"""ECG for a model: same seconds at any rate, doubtful leads named and left."""

import numpy as np
import pytest
from made_signals import made_ecg
from scipy.signal import resample

from echo_jax.data.signals import (
  LEADS,
  LIMB_LEADS,
  identity_misfit,
  prepare_ecg,
  resample_ecg,
)

SPAN = {"to_hz": 250.0, "span_s": 2.0}


@pytest.fixture(scope="module")
def ecg():
  return made_ecg(500)


def prepare(mv, names=LEADS, hz=500.0, **given):
  return prepare_ecg(mv, hz, names, **{**SPAN, **given})


@pytest.mark.parametrize("hz", [250, 360, 500, 1000])
def test_any_rate_gives_the_signal_as_sampled_at_250_hz(hz):
  mv, known = resample_ecg(made_ecg(hz), float(hz), 250.0)
  assert mv.shape == (1000, 12) and known.all()
  middle = slice(25, -25)
  difference = np.abs(mv - made_ecg(250))[middle]
  assert difference.max() < 0.005  # mV; the largest R wave has 1.6


def test_periodic_signal_as_by_fourier(ecg):
  """Five beats of 0.8 s are a period: scipy's FFT resampling is exact."""
  polyphase, _ = resample_ecg(ecg, 500.0, 200.0)
  exact = resample(ecg, 800)
  np.testing.assert_allclose(polyphase[20:-20], exact[20:-20], atol=0.005)


def test_the_ends_of_a_recording_are_no_steps():
  level = np.full((500, 1), 1.5)
  np.testing.assert_allclose(resample_ecg(level, 500.0, 250.0)[0], 1.5, 1e-3)


def test_a_window_that_ends_in_a_qrs_is_like_the_whole(ecg):
  """R at 1.9 s; what comes after the window is read for the filter's sake."""
  window = prepare(ecg, span_s=1.92).ecg_mv
  same = prepare(made_ecg(250), hz=250, span_s=1.92).ecg_mv
  assert window.shape == (480, 12)
  assert np.abs(window - same)[25:].max() < 0.002  # 0.010 without it


def test_what_the_slower_rate_cannot_hold_is_not_folded_back():
  """A tone of 200 Hz at 1000 Hz would look like 50 Hz at 250 Hz."""
  tone = np.sin(2 * np.pi * 200 * np.arange(2000) / 1000)[:, None]
  mv, _ = resample_ecg(tone, 1000.0, 250.0)
  assert np.abs(mv[25:-25]).max() < 0.01


def test_gaps_stay_gaps(ecg):
  """Samples 100 to 149 at 500 Hz are lost: 50 to 74 at 250 Hz."""
  holed = ecg.copy()
  holed[100:150, 2] = np.nan
  mv, known = resample_ecg(holed, 500.0, 250.0)
  assert np.isfinite(mv).all()
  np.testing.assert_array_equal(np.flatnonzero(~known[:, 2]), range(50, 75))
  assert known[:, [0, 1, 3]].all()
  prepared = prepare(holed)
  assert not prepared.ecg_mv[50:75, 2].any()
  np.testing.assert_array_equal(prepared.sample_valid, known[:500])


def test_leads_find_their_places_by_name(ecg):
  """V1 and II in upper case, in any order; the rest is absent."""
  prepared = prepare(ecg[:, [6, 1]], ("V1", "II"))
  np.testing.assert_array_equal(
    np.array(LEADS)[prepared.lead_valid], ["ii", "v1"]
  )
  assert not prepared.flaws and not prepared.ecg_mv[:, 0].any()
  whole = prepare(ecg)
  np.testing.assert_array_equal(prepared.ecg_mv[:, 6], whole.ecg_mv[:, 6])
  np.testing.assert_array_equal(
    prepared.sample_valid, np.tile(prepared.lead_valid, (500, 1))
  )


def test_a_short_recording_is_padded_and_a_long_one_cut(ecg):
  prepared = prepare(ecg[:500])  # one second of two
  assert prepared.ecg_mv.shape == (500, 12)
  assert prepared.sample_valid[:250].all()
  assert not prepared.sample_valid[250:].any()
  assert prepared.lead_valid.all() and not prepared.flaws


def test_a_standing_voltage_says_nothing(ecg):
  offset = prepare(ecg + np.arange(12)).ecg_mv
  np.testing.assert_allclose(offset, prepare(ecg).ecg_mv, atol=1e-5)


def test_flat_and_lost_leads_are_named_and_not_used(ecg):
  bad = ecg.copy()
  bad[:, 7] = 0.3
  bad[:700, 9] = np.nan
  prepared = prepare(bad)
  np.testing.assert_array_equal(
    np.array(LEADS)[~prepared.lead_valid], ["v2", "v4"]
  )
  assert not prepared.sample_valid[:, [7, 9]].any()
  flat, lost = prepared.flaws
  assert "v2 is flat: 0 mV" in flat and "v4 has 30% of its samples" in lost


def test_whole_recordings_keep_the_identities(ecg):
  limbs = {name: ecg[:, i] for i, name in enumerate(LIMB_LEADS)}
  assert identity_misfit(limbs) < 1e-6
  assert identity_misfit({"i": ecg[:, 0], "v1": ecg[:, 6]}) == 0


@pytest.mark.parametrize(
  "a, b", [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (1, 3)]
)
def test_exchanged_labels_are_found_and_named(ecg, a, b):
  names = list(LEADS)
  names[a], names[b] = names[b], names[a]
  prepared = prepare(ecg, names)
  (flaw,) = prepared.flaws
  assert "Einthoven" in flaw and f"{LEADS[a]} and {LEADS[b]} are exch" in flaw
  np.testing.assert_array_equal(
    prepared.lead_valid, [False] * 6 + [True] * 6
  )


def test_an_inverted_lead_is_found_and_named(ecg):
  bad = ecg * np.where(np.arange(12) == 5, -1, 1)
  assert "it fits if avf is inverted" in prepare(bad).flaws[0]


def test_exchanged_arm_electrodes_keep_the_identities_and_are_doubted(ecg):
  """At the body: I turns over, II and III, aVR and aVL change places."""
  arms = ecg[:, [0, 2, 1, 4, 3, *range(5, 12)]]
  arms = arms * np.where(np.arange(12) == 0, -1, 1)
  prepared = prepare(arms)
  assert prepared.lead_valid.all()
  (flaw,) = prepared.flaws
  assert "i and v6 are opposed" in flaw and "arm electrodes" in flaw


@pytest.mark.parametrize(
  "names, words",
  [
    (("i", "mlii"), "mlii.*are not among"),
    (("i", ""), "are not among"),
    (("II", "ii"), "'ii'.*twice"),
    (("i",), "2 leads and 1 names"),
  ],
)
def test_lead_names_that_are_not_known_are_refused(ecg, names, words):
  with pytest.raises(ValueError, match=words):
    prepare(ecg[:, :2], names)


def test_leads_may_be_left_out_by_name(ecg):
  prepared = prepare(ecg[:, :2], ("i", "VX"), leave_out=("vx",))
  assert prepared.lead_valid.sum() == 1
  with pytest.raises(ValueError, match="none of the leads"):
    prepare(ecg[:, :1], ("VX",), leave_out=("vx",))


def test_what_cannot_be_millivolts_is_refused(ecg):
  with pytest.raises(ValueError, match="mV; believable.*divide by 1000"):
    prepare(ecg * 1000)


@pytest.mark.parametrize("hz", [0.0, -500.0, np.nan, np.inf])
def test_a_recording_without_a_rate_is_refused(ecg, hz):
  with pytest.raises(ValueError, match="Hz"):
    prepare(ecg, hz=hz)
