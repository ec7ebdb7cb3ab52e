"""Made ECG and Doppler with a formula in seconds and cm/s, at any sampling."""

import numpy as np

from echo_jax.data.ingest.spectrum import DopplerScale

# Waves P Q R S T: time from R in s, width in s, and a vector in the frontal
# plane in mV (to the left, to the feet), so that Einthoven's law is kept.
WAVES = (
  (-0.17, 0.025, 0.08, 0.10), (-0.03, 0.010, -0.06, -0.03),
  (0.0, 0.012, 0.80, 0.70), (0.03, 0.012, -0.10, -0.20),
  (0.25, 0.045, 0.20, 0.18),
)  # fmt: skip
BEAT_S = 0.8


def made_ecg(hz, seconds=4.0):
  """Twelve leads in the order of `LEADS`, of the same heart at any rate."""
  time = np.arange(round(hz * seconds)) / hz
  vector = np.zeros((len(time), 2))
  for since_r, width, left, feet in WAVES:
    phase = (time - since_r - 0.3 + BEAT_S / 2) % BEAT_S - BEAT_S / 2
    wave = np.exp(-0.5 * (phase / width) ** 2)
    vector += wave[:, None] * [left, feet]
  right_arm, left_arm, left_leg = (
    vector @ electrode for electrode in ([-0.5, -0.3], [0.5, -0.3], [0.1, 0.6])
  )
  centre = (right_arm + left_arm + left_leg) / 3
  leads = [
    left_arm - right_arm, left_leg - right_arm, left_leg - left_arm,
    1.5 * (right_arm - centre), 1.5 * (left_arm - centre),
    1.5 * (left_leg - centre),
  ]  # fmt: skip
  leads += [
    vector @ [share, 0.4] - centre for share in (-0.6, -0.2, 0.3, 0.8, 0.9, 0.8)
  ]
  return np.stack(leads, axis=1)


def made_spectrum(
  *, peak_cm_s=120.0, cm_s=1.0, ms=4.0, zero_px=150.0, shape=(260, 500)
):
  """A flow as a display of this zoom draws it: (grey picture, its scale).

  A jet above the baseline, in beats of 0.8 s; its edge is soft over 8 cm/s.
  """
  rows, columns = shape
  velocity = (zero_px - np.arange(rows)) * cm_s
  time_s = (np.arange(columns) + 0.5) * ms / 1000
  ejection = np.clip(np.sin(np.pi * ((time_s % BEAT_S) - 0.1) / 0.3), 0, None)
  ejection *= (time_s % BEAT_S) < 0.4
  edge = peak_cm_s * ejection
  above = 1 / (1 + np.exp((velocity[:, None] - edge) / 4))
  below = 1 / (1 + np.exp(-(velocity[:, None] - 10) / 4))
  picture = np.round(255 * 0.8 * above * below)
  scale = DopplerScale((0, 0, columns - 1, rows - 1), zero_px, cm_s, ms)
  return picture.astype(np.uint8), scale
