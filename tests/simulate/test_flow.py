"""Flow against hand calculation and scipy: continuity, gradients, waves."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import integrate

from echo_jax.simulate import (
  COHORTS,
  draw_study,
  electrics,
  flow,
  heart,
  motion,
  organs,
  rhythm,
  segments,
)
from echo_jax.simulate.recordings import valves_of
from echo_jax.simulate.video import make_timeline, true_volumes

BSA = 1.9
RATES_BPM = (48.0, 70.0, 115.0)


def make_heart(ef_pct=60.0, edv_ml=120.0, **changes):
  state = draw_study(1, 4, 0, "clinic_like").heart
  return heart.build_ventricle(
    dataclasses.replace(state, ef_pct=ef_pct, edv_ml=edv_ml, **changes)
  )


def regular(ventricle, rate_bpm=70.0, kind="sinus"):
  """A beat of a steady rhythm."""
  phases = rhythm.make_phases(60 / rate_bpm, None, kind)
  early = ventricle.state.early_filling_share
  return rhythm.Cycle(phases, 0.0, 1.0, 0.0, early, True)


def curves(rate_bpm=70.0, valves=None, ventricle=None, kind="sinus"):
  ventricle = ventricle or make_heart()
  return flow.sample_beat(
    ventricle,
    valves or flow.healthy_valves(BSA),
    regular(ventricle, rate_bpm, kind),
  )


def ejection_rate(beat, t):
  """d(share)/dt of the clock's ejection by hand: smoothstep of t ** 0.9."""
  start = electrics.ISOVOLUMIC_CONTRACTION_S
  length = beat.ejection_end_s - start
  x = np.clip((t - start) / length, 1e-12, 1)
  s = x**0.9
  return 6 * s * (1 - s) * 0.9 * x**-0.1 / length


@pytest.mark.parametrize("rate", RATES_BPM)
def test_outflow_integral_times_area_is_the_stroke_volume(rate):
  valves = flow.healthy_valves(BSA)
  measures = flow.measure_beat(curves(rate, valves))
  stroke = measures.outflow_vti_cm * math.pi * (valves.outflow_mm / 20) ** 2
  assert stroke == pytest.approx(72.0, rel=1e-6)  # 60 % of 120 ml
  assert measures.stroke_ml == pytest.approx(72.0, rel=1e-6)


@pytest.mark.parametrize("rate", RATES_BPM)
@pytest.mark.parametrize("area_cm2", (0.5, 1.0, 2.4))
def test_area_by_continuity_is_the_true_area(rate, area_cm2):
  valves = flow.Valves(area_cm2, 20.0, 4.0, 10.0)
  m = flow.measure_beat(curves(rate, valves))
  area = math.pi * m.outflow_vti_cm / m.aortic_vti_cm  # 20 mm: pi cm2
  assert area == pytest.approx(area_cm2, rel=1e-6)


@pytest.mark.parametrize("rate", RATES_BPM)
def test_mean_gradient_is_the_mean_of_four_v_squared(rate):
  """Quadrature of the clock's own formula; the squared mean is far less."""
  beat = electrics.make_beat(60 / rate)
  area_cm2, stroke_ml = 0.8, 72.0
  start = electrics.ISOVOLUMIC_CONTRACTION_S

  def metres(t):
    return stroke_ml * ejection_rate(beat, t) / area_cm2 / 100

  whole, _ = integrate.quad(
    lambda t: 4 * metres(t) ** 2, start, beat.ejection_end_s
  )
  travelled, _ = integrate.quad(metres, start, beat.ejection_end_s)
  length = beat.ejection_end_s - start
  valves = dataclasses.replace(
    flow.healthy_valves(BSA), aortic_area_cm2=area_cm2
  )
  m = flow.measure_beat(curves(rate, valves))
  assert m.aortic_mean_mmhg == pytest.approx(whole / length, rel=0.005)
  assert m.aortic_mean_mmhg > 1.15 * 4 * (travelled / length) ** 2
  peak = metres(np.linspace(start, beat.ejection_end_s, 20001)).max()
  assert m.aortic_peak_cm_s == pytest.approx(100 * peak, rel=0.003)
  assert m.aortic_peak_mmhg == pytest.approx(4 * peak**2, rel=0.006)
  assert m.ejection_ms == pytest.approx(1000 * length)


def test_bernoulli_by_hand():
  assert flow.pressure_mmhg(400.0) == pytest.approx(64.0)
  np.testing.assert_allclose(
    flow.pressure_mmhg(np.array([0.0, 100.0, 250.0])), [0, 4, 25]
  )


def test_a_smaller_valve_is_faster_in_proportion():
  wide, half = (
    flow.measure_beat(curves(valves=flow.Valves(area, 20.0, 4.0)))
    for area in (1.6, 0.8)
  )
  assert half.aortic_peak_cm_s == pytest.approx(2 * wide.aortic_peak_cm_s)
  assert half.aortic_mean_mmhg == pytest.approx(4 * wide.aortic_mean_mmhg)
  assert half.outflow_peak_cm_s == wide.outflow_peak_cm_s
  assert half.e_cm_s == wide.e_cm_s


def test_regurgitation_leaves_the_aorta_and_stays_in_the_filling():
  """EDV - ESV = 72 ml: 18 back, 54 forward, 72 through the mitral valve."""
  valves = flow.Valves(2.4, 20.0, 4.0, regurgitant_ml=18.0)
  beat = curves(valves=valves)
  m = flow.measure_beat(beat)
  assert m.forward_ml == pytest.approx(54.0)
  assert m.regurgitant_ml == pytest.approx(18.0)
  assert m.regurgitant_pct == pytest.approx(25.0)
  assert m.outflow_vti_cm == pytest.approx(54 / math.pi)
  filled = beat.inflow_cm_s.sum() * beat.step_s * 4.0
  assert filled == pytest.approx(72.0)
  healthy = flow.measure_beat(curves(valves=flow.Valves(2.4, 20.0, 4.0)))
  assert m.e_cm_s == healthy.e_cm_s
  assert m.aortic_peak_cm_s == pytest.approx(0.75 * healthy.aortic_peak_cm_s)


@pytest.mark.parametrize("rate", RATES_BPM)
def test_waves_of_filling_by_hand(rate):
  """Each wave is a parabola: its top is 1.5 times its mean."""
  ventricle = make_heart(early_filling_share=0.65)
  m = flow.measure_beat(curves(rate, flow.Valves(2.4, 20.0, 4.0), ventricle))
  beat = electrics.make_beat(60 / rate)
  early_s = beat.early_end_s - beat.mitral_opening_s
  late_s = beat.rr_s - beat.atrial_start_s
  assert m.e_cm_s == pytest.approx(1.5 * 0.65 * 72 / early_s / 4, rel=0.004)
  assert m.a_cm_s == pytest.approx(1.5 * 0.35 * 72 / late_s / 4, rel=0.006)
  # half of a parabola is left at 0.7071 of its half-width
  expected = 1000 * early_s / 2 * 2 * math.sqrt(0.5)
  assert m.deceleration_ms == pytest.approx(expected, rel=0.03)


def test_annulus_moves_as_the_long_axis_shortens():
  """Its travel is the shortening; peaks by the clock's own formula."""
  ventricle = make_heart(long_axis_share=0.25, early_filling_share=0.65)
  sampled = curves(ventricle=ventricle)
  shortening_cm = ventricle.length_mm / 10 * 0.25 * 0.60
  systole = sampled.time_s < sampled.beat.mitral_opening_s
  travel = sampled.annulus_cm_s[systole].sum() * sampled.step_s
  assert travel == pytest.approx(shortening_cm)
  assert sampled.annulus_cm_s.sum() == pytest.approx(0, abs=1e-9)
  m = flow.measure_beat(sampled)
  t = np.linspace(0.05, sampled.beat.ejection_end_s, 20001)
  peak = shortening_cm * ejection_rate(sampled.beat, t).max()
  assert m.s_prime_cm_s == pytest.approx(peak, rel=0.004)
  early_s = sampled.beat.early_end_s - sampled.beat.mitral_opening_s
  late_s = sampled.beat.rr_s - sampled.beat.atrial_start_s
  assert m.e_prime_cm_s == pytest.approx(
    1.5 * 0.65 * shortening_cm / early_s, rel=0.004
  )
  assert m.a_prime_cm_s == pytest.approx(
    1.5 * 0.35 * shortening_cm / late_s, rel=0.006
  )


def test_no_atrial_wave_where_early_filling_does_it_all():
  m = flow.measure_beat(curves(ventricle=make_heart(early_filling_share=1.0)))
  assert math.isnan(m.a_cm_s) and math.isnan(m.a_prime_cm_s)
  assert m.e_cm_s > 50
  other = flow.measure_beat(curves())
  mean = flow.average_measures([m, other])
  assert mean.a_cm_s == other.a_cm_s
  assert mean.e_cm_s == pytest.approx((m.e_cm_s + other.e_cm_s) / 2)


@pytest.mark.parametrize("rate", RATES_BPM)
def test_closed_valves_let_nothing_through(rate):
  c = curves(rate, flow.Valves(1.0, 20.0, 4.0, 5.0))
  step, beat = c.step_s, c.beat
  systole = (c.time_s > electrics.ISOVOLUMIC_CONTRACTION_S - step) & (
    c.time_s < beat.ejection_end_s + step
  )
  closed = c.time_s < beat.mitral_opening_s - step
  for name in ("outflow_cm_s", "jet_cm_s", "regurgitant_ml_s"):
    assert np.abs(getattr(c, name)[~systole]).max() < 1e-9
    assert getattr(c, name)[systole].max() > 1
  assert np.abs(c.inflow_cm_s[closed]).max() < 1e-9
  for name in ("outflow_cm_s", "jet_cm_s", "inflow_cm_s"):
    assert getattr(c, name).min() >= 0


def test_finer_steps_change_nothing():
  ventricle, valves = make_heart(), flow.healthy_valves(BSA)
  cycle = regular(ventricle, 75.0)
  rough, fine = (
    flow.measure_beat(flow.sample_beat(ventricle, valves, cycle, step))
    for step in (0.004, 0.0005)
  )
  for field in dataclasses.fields(flow.BeatMeasures):
    assert getattr(rough, field.name) == pytest.approx(
      getattr(fine, field.name), rel=0.01
    ), field.name


def test_beats_follow_the_r_waves():
  waves = np.array([-300.0, 500.0, 1250.0, 2300.0])
  run = rhythm.draw_beats(np.random.default_rng(0), "sinus", 70.0, 2.0)
  run = dataclasses.replace(run, r_wave_ms=waves, kind=("sinus",) * 4)
  beats = flow.sample_beats(make_heart(), flow.healthy_valves(BSA), run)
  assert [b.beat.rr_s for b in beats] == pytest.approx([0.8, 0.75, 1.05])
  assert all(
    b.time_s.size * b.step_s == pytest.approx(b.beat.rr_s) for b in beats
  )


@pytest.mark.parametrize("name", rhythm.RHYTHMS)
def test_every_beat_ejects_what_it_does_in_the_cine(name):
  """Beat by beat; without atrial contraction there is no late wave."""
  study = draw_study(1, 4, 0, "clinic_like")
  state = dataclasses.replace(study.heart, rhythm=name, ef_pct=55.0)
  study = dataclasses.replace(study, heart=state)
  ventricle = heart.build_ventricle(state)
  timeline = make_timeline(study, ventricle, 12.0, 0)
  edv_ml, esv_ml = true_volumes(study, timeline)
  valves = dataclasses.replace(flow.healthy_valves(BSA), regurgitant_ml=7.0)
  flows = flow.sample_beats(ventricle, valves, timeline.beats)
  assert [f.beat for f in flows] == [c.phases for c in timeline.cycles]
  end_ms = timeline.frame_time_ms[-1]
  whole = rhythm.complete_beats(timeline.beats, end_ms).tolist()
  measured = [flow.measure_beat(flows[i]) for i in whole]
  np.testing.assert_allclose([m.stroke_ml for m in measured], edv_ml - esv_ml)
  spread = np.ptp(edv_ml - esv_ml) / np.mean(edv_ml - esv_ml)
  assert len(whole) > 8 and (spread > 0.2) == (name not in rhythm.STEADY)
  # the atrial contraction at a beat's end belongs to the next R wave
  late = [bool(timeline.beats.atrial[i + 1]) for i in whole]
  assert [not math.isnan(m.a_cm_s) for m in measured] == late
  assert [not math.isnan(m.a_prime_cm_s) for m in measured] == late
  # what flows in fills the next beat from this one's end-systole
  filled = [f.filling_ml_s.sum() * f.step_s for f in flows]
  next_ml = [filled[i] + esv for i, esv in zip(whole, esv_ml, strict=True)]
  np.testing.assert_allclose(next_ml[:-1], edv_ml[1:])
  share = 7.0 / (state.edv_ml - state.esv_ml)
  assert {round(m.regurgitant_pct, 6) for m in measured} == {
    round(100 * share, 6)
  }


def test_beats_of_another_rhythm_are_refused():
  run = rhythm.draw_beats(
    np.random.default_rng(0), "atrial_fibrillation", 70.0, 2.0
  )
  with pytest.raises(ValueError, match="atrial_fibrillation for a heart in si"):
    flow.sample_beats(make_heart(), flow.healthy_valves(BSA), run)


def test_a_block_delays_ejection_and_leaves_its_length():
  """Xiao et al. 1991: 40 ms later, as long; the same jet at the same rate."""
  valves = flow.Valves(0.8, 20.0, 4.0)
  narrow, wide = (
    flow.measure_beat(curves(65.0, valves, kind=kind))
    for kind in ("sinus", "block")
  )
  assert wide.ejection_ms == pytest.approx(narrow.ejection_ms)
  assert wide.aortic_mean_mmhg == pytest.approx(
    narrow.aortic_mean_mmhg, rel=0.005
  )
  starts = [
    c.time_s[np.argmax(c.jet_cm_s > 5)]
    for c in (curves(65.0, valves, kind=kind) for kind in ("sinus", "block"))
  ]
  assert starts[1] - starts[0] == pytest.approx(0.04, abs=0.005)


def test_the_annulus_of_a_wall_with_dead_segments_is_that_of_motion():
  functions = segments.describe_function(
    {number: "akinetic" for number in segments.territory_numbers("LAD")}
  )
  ventricle = make_heart(ef_pct=38.0, segment_functions=functions)
  sampled = curves(ventricle=ventricle)
  wall = motion.build_wall(ventricle)
  moments = np.arange(1, sampled.time_s.size + 1) * sampled.step_s
  travel_cm = np.cumsum(sampled.annulus_cm_s) * sampled.step_s
  for i in range(5, moments.size - 1, 25):
    share = rhythm.ejected_at(regular(ventricle), moments[i])
    now = motion.moment_at(wall, heart.pose_at(ventricle, share))
    expected = (ventricle.length_mm - now.length_mm) / 10
    assert travel_cm[i] == pytest.approx(expected, abs=1e-9)
  healthy = curves(ventricle=make_heart(ef_pct=38.0))
  most = np.cumsum(healthy.annulus_cm_s).max() * healthy.step_s
  assert travel_cm.max() < 0.7 * most


@pytest.mark.parametrize("cohort", COHORTS)
def test_flow_and_picture_have_one_outflow_tract(cohort):
  """The lumen of the long-axis views, measured on its axis at the annulus."""
  for patient in range(20):
    study = draw_study(1, patient, 0, cohort)
    valves = valves_of(study)
    around = organs.build_organs(heart.build_ventricle(study.heart))
    step_mm = 0.02
    across = np.arange(-20, 20, step_mm)
    # along a line at right angles to the root, through the annulus' middle
    tilt, turn = organs.ROOT_TILT_RAD, organs.OUTFLOW_RAD
    p = around.root_p_mm + across * math.cos(tilt)
    w = around.ventricle.length_mm - across * math.sin(tilt)
    outside, along = organs.aorta_mm(
      around, p * math.cos(turn), p * math.sin(turn), w
    )
    assert np.abs(along).max() < 1e-9
    # the sinus of Valsalva adds a little at the annulus already
    lumen_mm = (outside < 0).sum() * step_mm / (1 + 0.3 * math.exp(-2.25))
    assert lumen_mm == pytest.approx(valves.outflow_mm, abs=0.1)


@pytest.mark.parametrize(
  ("valves", "message"),
  [
    (flow.Valves(0.0, 20.0, 4.0), "aortic_area_cm2 is 0"),
    (flow.Valves(1.0, math.nan, 4.0), "outflow_mm is nan"),
    (flow.Valves(3.5, 20.0, 4.0), "3.50, more than .* 3.14 cm2"),
    (flow.Valves(3.2, 20.0, 4.0), "3.20, more than .* 3.14 cm2"),
    (flow.Valves(1.0, 20.0, 4.0, 80.0), "80.0 ml; .* below the 72.0 ml"),
    (flow.Valves(1.0, 20.0, 4.0, -1.0), "regurgitant_ml is -1.0 ml"),
  ],
)
def test_impossible_valves_are_refused(valves, message):
  with pytest.raises(ValueError, match=message):
    curves(valves=valves)


def test_healthy_hearts_have_believable_velocities():
  """Medians of the clinic-like cohort's normal hearts, EF above 55 %.

  Ranges are normal at about 60 years: outflow VTI 18 to 22 cm, aortic jet 1.0
  to 1.7 m/s, E and A 0.5 to 0.9 m/s.  The annulus is slower than in life
  (s' about 6, not 8 cm/s): the kinematics are those of the long axis.
  """
  found = []
  for patient in range(60):
    study = draw_study(1, patient, 0, "clinic_like")
    if study.heart.ef_pct > 55:
      found.append(
        flow.measure_beat(
          curves(
            study.heart.heart_rate_bpm,
            flow.healthy_valves(study.patient.bsa_m2),
            heart.build_ventricle(study.heart),
          )
        )
      )
  m = {
    f.name: np.median([getattr(x, f.name) for x in found])
    for f in dataclasses.fields(flow.BeatMeasures)
  }
  assert 17 < m["outflow_vti_cm"] < 22
  assert 70 < m["outflow_peak_cm_s"] < 110
  assert 100 < m["aortic_peak_cm_s"] < 170
  assert 50 < m["e_cm_s"] < 90 and 40 < m["a_cm_s"] < 80
  assert 5 < m["s_prime_cm_s"] < 10 and 5 < m["e_prime_cm_s"] < 10
