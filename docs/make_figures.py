"""Draws the README's figures: python docs/make_figures.py

a4c.png: the real apical four-chamber clip that pydicom ships (first column)
beside SynthEcho patients on its three devices; above end-diastole, below
end-systole.  The real clip has no labels; its frames are chosen by eye.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from pydicom.examples import get_path

from echo_jax import simulate
from echo_jax.data.ingest import read_recording
from echo_jax.evaluation.figures import encode_png

REAL_FRAMES = (23, 4)  # mitral valve just closed; smallest cavity: by eye


def main() -> None:
  """Writes a4c.png beside this file."""
  columns = [("real (pydicom)", *real_pair())]
  columns += [simulated_pair(device) for device in find_devices()]
  figure = Figure(figsize=(2.3 * len(columns), 4.9), layout="constrained")
  axes = figure.subplots(2, len(columns))
  for place, (title, *pair) in zip(axes.T, columns, strict=True):
    for axis, frame, name in zip(place, pair, ("ED", "ES"), strict=True):
      axis.imshow(frame, cmap="gray", vmin=0, vmax=255)
      axis.set(xticks=[], yticks=[])
      axis.spines[:].set_visible(False)
      axis.set_ylabel(name if place is axes.T[0] else "")
    place[0].set_title(title, fontsize=9)
  png = encode_png(figure, dpi=100)
  Path(__file__).with_name("a4c.png").write_bytes(png)


def real_pair() -> tuple[np.ndarray, np.ndarray]:
  """A square cut-out of the real clip at its two frames."""
  frames = read_recording(Path(get_path("ybr_color"))).frames
  return tuple(frames[i, :, 56:296].mean(-1) for i in REAL_FRAMES)


def find_devices() -> list[simulate.Study]:
  """The first study of the clinic-like cohort on each device."""
  found: dict[str, simulate.Study] = {}
  for patient in range(60):
    study = simulate.draw_study(1, patient, 0, "clinic_like")
    video = simulate.simulate_video(study, size=32, duration_s=0.2)
    found.setdefault(video.device, study)
  return [found[name] for name in sorted(found)]


def simulated_pair(study: simulate.Study) -> tuple[str, np.ndarray, np.ndarray]:
  """Title and the two frames of a simulated study."""
  video = simulate.simulate_video(study, size=224, duration_s=2.0)
  title = f"{video.device}\nEF {video.ef_pct:.0f} %, EDV {video.edv_ml:.0f} ml"
  return title, video.frames[video.ed_frame], video.frames[video.es_frame]


if __name__ == "__main__":
  main()
