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
from echo_jax.simulate import doppler, draw_study, electrics, flow, heart

PRESETS = {preset.name: preset for preset in doppler.PRESETS}
BLOOD = ("aortic_cw", "outflow_pw", "mitral_pw")


@functools.cache
def beats(area_cm2=0.8):
  """Beats of one heart over the longest sweep, and their first R wave."""
  study = draw_study(1, 4, 0, "clinic_like")
  valves = dataclasses.replace(
    flow.healthy_valves(study.patient.bsa_m2), aortic_area_cm2=area_cm2
  )
  waves = electrics.draw_r_waves(
    np.random.default_rng(0), study.heart.heart_rate_bpm, 4.0
  )
  ventricle = heart.build_ventricle(study.heart)
  return flow.sample_beats(ventricle, valves, waves), float(waves[0]), valves


@functools.cache
def picture(site, reach=None, preset="device-a", seed=0, area_cm2=0.8):
  flows, first, _ = beats(area_cm2)
  machine = PRESETS[preset]
  peak = doppler.find_peak_cm_s(site, flows)
  display = doppler.set_display(site, machine, peak)
  if reach is not None:
    scale = reach / max(display.top_cm_s, -display.bottom_cm_s)
    display = dataclasses.replace(
      display,
      top_cm_s=scale * display.top_cm_s,
      bottom_cm_s=scale * display.bottom_cm_s,
    )
  rng = np.random.default_rng(seed)
  return doppler.simulate_doppler(site, flows, first, machine, display, rng)


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


TRUTH = {
  "aortic_cw": ("aortic_peak_cm_s", "aortic_vti_cm"),
  "outflow_pw": ("outflow_peak_cm_s", "outflow_vti_cm"),
}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
  ("site", "reach"),
  [(s, r) for s in TRUTH for r in (None, *doppler.SITES[s].scales_cm_s)],
)
def test_edge_reads_velocity_and_integral(site, reach, preset):
  """At every scale that holds the flow; the widest shows it 20 rows high."""
  flows, *_ = beats()
  if reach is not None and reach < doppler.find_peak_cm_s(site, flows):
    pytest.skip("this scale is too small for the flow")
  image = picture(site, reach, preset)
  peak, vti = read_beats(image, doppler.SITES[site].sign)
  true_peak, true_vti = (getattr(image.truth, name) for name in TRUTH[site])
  print(site, reach, preset, peak / true_peak, vti / true_vti)
  assert peak == pytest.approx(true_peak, rel=0.05)
  assert vti == pytest.approx(true_vti, rel=0.07)
