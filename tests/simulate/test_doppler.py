"""Spectra: what a ruler reads in the picture is what flowed.

The reader is a plain threshold: in every column the outermost place, seen
from the zero line, where the smoothed grey is bright over a few rows.
"""

import dataclasses
import functools

import cv2
import numpy as np
import pytest

from echo_jax.data.schema import make_record
from echo_jax.simulate import doppler, draw_study, flow, heart, rhythm

PRESETS = {preset.name: preset for preset in doppler.PRESETS}
BLOOD = ("aortic_cw", "outflow_pw", "mitral_pw")


@functools.cache
def beats(area_cm2=0.8, name="sinus"):
  """Beats of one heart over the longest sweep, and their first R wave."""
  study = draw_study(1, 4, 0, "clinic_like")
  valves = dataclasses.replace(
    flow.healthy_valves(study.patient.bsa_m2), aortic_area_cm2=area_cm2
  )
  state = dataclasses.replace(study.heart, rhythm=name)
  run = rhythm.draw_beats(
    np.random.default_rng(0), name, state.heart_rate_bpm, 4.0
  )
  flows = flow.sample_beats(heart.build_ventricle(state), valves, run)
  return flows, float(run.r_wave_ms[0]), valves


@functools.cache
def picture(
  location, reach=None, preset="device-a", seed=0, area_cm2=0.8, name="sinus"
):
  flows, first, _ = beats(area_cm2, name)
  machine = PRESETS[preset]
  peak = doppler.find_peak_cm_s(location, flows)
  display = doppler.set_display(location, machine, peak)
  if reach is not None:
    scale = reach / max(display.top_cm_s, -display.bottom_cm_s)
    display = dataclasses.replace(
      display,
      top_cm_s=scale * display.top_cm_s,
      bottom_cm_s=scale * display.bottom_cm_s,
    )
  rng = np.random.default_rng(seed)
  return doppler.simulate_doppler(location, flows, first, machine, display, rng)


def spectrum(image):
  """[H, W] of the box, smoothed over three pixels."""
  x0, y0, x1, y1 = image.box_px
  inside = image.picture[y0 : y1 + 1, x0 : x1 + 1].astype(np.float32)
  return cv2.blur(inside, (3, 3))


def read_envelope(image, sign):
  """[W] speed in cm/s at the bright edge on one side of the zero line."""
  grey = spectrum(image)
  bright = grey > 0.55 * np.percentile(grey, 99)
  zero = int(image.zero_px) - image.box_px[1]
  side = bright[zero - 1 :: -1] if sign > 0 else bright[zero + 1 :]
  run = side[:-2] & side[1:-1] & side[2:]
  last = run.shape[0] - 1 - np.argmax(run[::-1], axis=0) + 2
  return np.where(run.any(axis=0), (last + 1.5) * image.cm_s, 0.0)


def whole_beats(image):
  """Column ranges of the beats that are wholly in the picture."""
  edges = np.rint(image.r_wave_ms / image.ms).astype(int)
  return list(zip(edges[:-1], edges[1:], strict=True))


def read_beats(image, sign):
  """Mean over whole beats of (peak in cm/s, velocity-time integral in cm)."""
  speed = read_envelope(image, sign)
  beats = whole_beats(image)
  peak = np.mean([speed[a:b].max() for a, b in beats])
  vti = np.mean([speed[a:b].sum() * image.ms / 1000 for a, b in beats])
  return peak, vti


def resting_grey(image, sign, since_s, length_s):
  """Mean grey on one side in a window of every whole beat, off the line."""
  grey = spectrum(image)
  zero = int(image.zero_px) - image.box_px[1]
  side = grey[: zero - 4] if sign > 0 else grey[zero + 5 :]
  start, width = (round(1000 * t / image.ms) for t in (since_s, length_s))
  firsts = [a + start for a, _ in whole_beats(image)]
  return np.mean([side[:, a : a + width].mean() for a in firsts])


TRUTH = {
  "aortic_cw": ("aortic_peak_cm_s", "aortic_vti_cm"),
  "outflow_pw": ("outflow_peak_cm_s", "outflow_vti_cm"),
}
SCALES = (
  *(("aortic_cw", 0.8, reach) for reach in (None, 400, 500, 600, 800)),
  *(("aortic_cw", 2.3, reach) for reach in (None, 150, 200, 300)),
  *(("outflow_pw", 0.8, reach) for reach in (None, 120, 160, 200)),
)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("location", "area_cm2", "reach"), SCALES)
def test_edge_reads_velocity_and_integral(location, area_cm2, reach, preset):
  """At every scale that holds the flow; `None` is what the machine sets."""
  image = picture(location, reach, preset, area_cm2=area_cm2)
  peak, vti = read_beats(image, doppler.LOCATIONS[location].sign)
  true_peak, true_vti = (getattr(image.truth, name) for name in TRUTH[location])
  assert peak == pytest.approx(true_peak, rel=0.05)
  assert vti == pytest.approx(true_vti, rel=0.07)


def test_a_zoomed_axis_means_the_same_velocity():
  """Twice the reach: half the rows, the same centimetres a second."""
  near, far = (picture("aortic_cw", reach) for reach in (400, 800))
  rows = [read_beats(image, -1)[0] / image.cm_s for image in (near, far)]
  assert rows[0] / rows[1] == pytest.approx(2, rel=0.03)
  assert far.cm_s == pytest.approx(2 * near.cm_s)
  assert near.truth == far.truth


@pytest.mark.parametrize("preset", PRESETS)
def test_mitral_waves_read_from_the_picture(preset):
  image = picture("mitral_pw", preset=preset)
  speed = read_envelope(image, 1)
  flows, _, _ = beats()
  found = []
  for (a, b), measured in zip(whole_beats(image), image.beats, strict=True):
    phases = next(f.beat for f in flows if flow.measure_beat(f) == measured)
    late = a + round(1000 * (phases.atrial_start_s + 0.01) / image.ms)
    early = a + round(1000 * (phases.mitral_opening_s + 0.02) / image.ms)
    found.append((speed[early:late].max(), speed[late : b - 3].max()))
  e, a = np.mean(found, axis=0)
  assert e == pytest.approx(image.truth.e_cm_s, rel=0.05)
  assert a == pytest.approx(image.truth.a_cm_s, rel=0.07)


@pytest.mark.parametrize("preset", PRESETS)
def test_annulus_velocities_read_from_the_picture(preset):
  image = picture("annulus_tdi", preset=preset)
  up, down = (read_envelope(image, sign) for sign in (1, -1))
  peaks = [(up[a:b].max(), down[a:b].max()) for a, b in whole_beats(image)]
  s, e = np.mean(peaks, axis=0)
  assert s == pytest.approx(image.truth.s_prime_cm_s, rel=0.08)
  assert e == pytest.approx(image.truth.e_prime_cm_s, rel=0.08)


def test_valve_area_by_continuity_from_two_pictures():
  """What a sonographer calculates: outflow area times the ratio of VTIs."""
  _, _, valves = beats()
  jet = read_beats(picture("aortic_cw"), -1)[1]
  before = read_beats(picture("outflow_pw"), -1)[1]
  area = valves.outflow_area_cm2 * before / jet
  assert area == pytest.approx(valves.aortic_area_cm2, rel=0.05)


def narrow(location, ahead, behind):
  """A spectrum on a scale too small for its flow, and the flow's peak."""
  flows, first, _ = beats()
  machine = PRESETS["device-a"]
  place = doppler.LOCATIONS[location]
  top, bottom = (ahead, behind) if place.sign > 0 else (behind, ahead)
  display = doppler.Display(top, -bottom, machine.sweep_s)
  image = doppler.simulate_doppler(
    location, flows, first, machine, display, np.random.default_rng(3)
  )
  return image, doppler.find_peak_cm_s(location, flows)


def test_pulsed_waves_wrap_at_twice_the_nyquist_limit():
  """From -50 to 30 cm/s, 80 apart: a peak of -107 has its tip at -27."""
  image, peak = narrow("outflow_pw", 50.0, 30.0)
  assert 100 < peak < 115
  grey = spectrum(image)
  curve = doppler.sweep_curve(
    "outflow_cm_s", *beats()[:1], beats()[1] / 1000, 3.2, grey.shape[1]
  )
  a, b = whole_beats(image)[0]
  top = a + int(np.argmax(curve[a:b]))
  strip = grey[:, top - 1 : top + 2].mean(axis=1)
  tip = np.flatnonzero(strip > 150).max() + image.box_px[1]
  velocity = (image.zero_px - tip) * image.cm_s
  assert velocity == pytest.approx(80 - peak, abs=3)
  # where the flow passes -50 cm/s it leaves below and enters above
  rising = a + int(np.argmax(curve[a:b] > 55))
  assert strip.size == 240 and grey[2:10, rising].mean() > 150


def test_a_stream_beside_the_beam_wraps_too():
  """Mitral inflow to 45 cm/s over a top of 25 enters again at the bottom."""
  flows, _, _ = beats()
  assert 0.7 * doppler.find_peak_cm_s("mitral_pw", flows) > 45
  image, _ = narrow("outflow_pw", 135.0, 25.0)
  grey = spectrum(image)
  a, _ = whole_beats(image)[0]
  edge = grey[-round(15 / image.cm_s) :].mean(axis=0)
  beat = flows[1].beat
  filling, relaxing = (
    round(1000 * t / image.ms)
    for t in (
      (beat.mitral_opening_s + beat.early_end_s) / 2,
      (beat.ejection_end_s + beat.mitral_opening_s) / 2,
    )
  )
  wrapped = edge[a + filling - 3 : a + filling + 4].mean()
  assert edge[a + relaxing - 2 : a + relaxing + 3].mean() < 3 < 12 < wrapped


def test_continuous_waves_do_not_wrap():
  image, peak = narrow("aortic_cw", 150.0, 100.0)
  assert peak > 350
  far = resting_grey(image, 1, 0.1, 0.15)
  quiet = resting_grey(image, 1, 0.36, 0.02)
  assert far < quiet + 25 and far < 60


def test_the_mirror_of_continuous_waves_does_not_wrap_either():
  """Below a jet of 1.2 m/s, at -170 to -200 cm/s, there is only noise."""
  image = picture("aortic_cw", 200, area_cm2=2.3)
  a, _ = whole_beats(image)[0]
  bottom = spectrum(image)[-25:]
  ejection = bottom[:, a + round(120 / image.ms) : a + round(250 / image.ms)]
  rest = np.percentile(bottom.mean(axis=0), 75)
  assert ejection.mean() < rest + 2


def test_folding_adds_whole_spans():
  """One line at -70 in a picture from -50 to 50 appears at 30 cm/s."""
  power = np.zeros((300, 1))
  velocity = 150 - np.arange(300)  # row 150 is zero
  power[velocity == -70] = 1
  folded = doppler.fold(power, 100)
  shown = 50 - np.arange(100)
  assert shown[np.argmax(folded)] == 30 and folded.sum() == 1


def test_nothing_flows_through_a_closed_valve():
  """Outflow in late diastole, inflow in mid systole: noise alone."""
  flows, _, _ = beats()
  beat = flows[1].beat
  out, mitral = picture("outflow_pw"), picture("mitral_pw")
  filling_s = beat.mitral_opening_s + 0.05
  noise = resting_grey(out, -1, filling_s, 0.2)
  assert noise < 30 < 60 < resting_grey(out, -1, 0.12, 0.15)
  assert resting_grey(mitral, 1, 0.1, 0.15) < 30
  assert read_envelope(mitral, 1)[whole_beats(mitral)[0][0] + 20] == 0


def test_valves_click_when_they_close():
  """Louder than the silence after it, on the side without flow."""
  image = picture("aortic_cw")
  flows, _, _ = beats()
  end = flows[1].beat.ejection_end_s
  click = resting_grey(image, 1, end - 0.007, 0.014)
  assert click > 1.5 * resting_grey(image, 1, end + 0.02, 0.014)


def test_the_opening_click_waits_for_a_blocked_bundle():
  """At 85 ms of a block beat, not at the 45 ms of a narrow one."""
  image = picture("aortic_cw", name="left_bundle_branch_block")
  start = beats(name="left_bundle_branch_block")[0][1].beat.ejection_start_s
  assert start == pytest.approx(0.085)
  click, before = (
    resting_grey(image, 1, moment - 0.007, 0.014) for moment in (start, 0.045)
  )
  assert click > 1.3 * before


def test_the_wall_filter_is_off_for_tissue():
  """Tissue at rest is a bright line at zero; slow blood is not seen."""
  image = picture("annulus_tdi")
  zero = int(image.zero_px) - image.box_px[1]
  a, b = whole_beats(image)[0]
  rest = spectrum(image)[zero + 2, a : a + 6]
  assert rest.mean() > 100
  out = picture("outflow_pw")
  zero = int(out.zero_px) - out.box_px[1]
  a, _ = whole_beats(out)[0]
  ejection = slice(a + round(120 / out.ms), a + round(250 / out.ms))
  # of the slow blood of ejection only the part above the filter is seen
  x0, y0, *_ = out.box_px
  raw = out.picture[y0 + zero + 1 :, x0:].astype(float)
  assert raw[0, ejection].mean() < 0.5 * raw[15:25, ejection].mean()


def test_too_much_gain_lifts_noise_and_the_edge():
  """Overgained, the edge is read too far out, as at a real machine."""
  flows, first, _ = beats()
  machine = PRESETS["device-a"]
  peak = doppler.find_peak_cm_s("aortic_cw", flows)
  quiet, loud = (
    doppler.simulate_doppler(
      "aortic_cw", flows, first, machine,
      doppler.set_display("aortic_cw", machine, peak, gain_db),
      np.random.default_rng(0),
    )
    for gain_db in (0.0, 12.0)
  )  # fmt: skip
  assert resting_grey(loud, -1, 0.5, 0.1) > resting_grey(quiet, -1, 0.5, 0.1)
  edges = []
  for image in (quiet, loud):
    (a, b), grey = whole_beats(image)[0], spectrum(image)
    rows = np.flatnonzero((grey[:, a:b] > 120).sum(axis=1) > 2)
    edges.append((image.box_px[1] + rows.max() - image.zero_px) * image.cm_s)
  assert edges[0] < edges[1] < 1.15 * edges[0]
  assert quiet.truth == loud.truth


def test_truth_does_not_depend_on_the_picture():
  one, same, other = (picture("mitral_pw", seed=seed) for seed in (0, 0, 1))
  np.testing.assert_array_equal(one.picture, same.picture)
  assert (one.picture != other.picture).mean() > 0.1
  assert one.truth == other.truth and one.beats == other.beats


def test_labels_fill_the_record():
  image = picture("annulus_tdi", preset="device-c")
  rows, columns = image.picture.shape
  record = make_record(
    video_id="x:1", study_id="x:2", patient_id="x:3", split="train",
    frames=[image.picture.tobytes()], frames_codec="raw",
    frames_shape=(rows, columns, 1), frame_time_ms=[0.0], **image.labels(),
  )  # fmt: skip
  assert record["kind"] == "tdi"
  x0, y0, x1, y1 = record["doppler_box_px"].tolist()
  span = (y1 - y0 + 1) * record["doppler_cm_s"]
  assert span == pytest.approx(16.0)
  assert (x1 - x0 + 1) * record["doppler_ms"] == pytest.approx(3000)
  top = (record["doppler_zero_px"] - y0) * record["doppler_cm_s"]
  assert top == pytest.approx(8.0, abs=0.1)


def test_bad_requests_are_refused_by_name():
  flows, first, _ = beats()
  machine = PRESETS["device-a"]
  display = doppler.Display(100.0, -30.0, 3.2)
  rng = np.random.default_rng(0)

  def ask(location="mitral_pw", flows=flows, first=first, **changes):
    scales = dataclasses.replace(display, **changes)
    doppler.simulate_doppler(location, flows, first, machine, scales, rng)

  with pytest.raises(ValueError, match="'aorta' is none of aortic_cw"):
    ask(location="aorta")
  with pytest.raises(ValueError, match="zero must lie inside"):
    ask(top_cm_s=-1.0)
  with pytest.raises(ValueError, match="do not cover a sweep of 3.2 s"):
    ask(flows=flows[:2])
  with pytest.raises(ValueError, match="no whole beat in a sweep of 0.3 s"):
    ask(sweep_s=0.3)
