"""Input that is not from the training domain, and what is said of it.

The real clip is the apical four-chamber cine that pydicom ships; its region
does not fit its picture, so its spacing is unknown.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.examples import get_path

from echo_jax import experiment
from echo_jax.data.controls import (
  Change,
  replace_by_noise,
  turn_upside_down,
)
from echo_jax.data.ingest import read_recording, to_record
from echo_jax.data.schema import Record
from echo_jax.evaluation.predict import predict_clips
from echo_jax.evaluation.report import Reference, mean_embeddings
from echo_jax.evaluation.single import Finding


@dataclass(frozen=True)
class Outside:
  """Share of videos flagged as outside the training domain, and the real one.

  `flagged` maps a kind of input to (flagged, videos).
  """

  flagged: dict[str, tuple[int, int]]
  real: Finding | None
  reason: str = ""

  def __str__(self) -> str:
    if self.real is None:
      return f"training domain: not measured ({self.reason})"
    lines = ["Flagged as outside the training domain:"]
    lines += [
      f"  {name:32}{count:4d} of {total} videos"
      for name, (count, total) in self.flagged.items()
    ]
    lines += ["Real apical four-chamber clip (pydicom):"]
    return "\n".join(lines + ["  " + x for x in str(self.real).splitlines()])

  def to_dict(self) -> dict[str, Any]:
    """Plain values for JSON."""
    return {
      "flagged": self.flagged,
      "real": self.real and self.real.to_dict(),
      "reason": self.reason,
    }


def meet_other_input(workdir: Path, clips: int) -> Outside:
  """Distances of unseen, inverted and noise videos, and of a real clip."""
  reference = Reference.load(workdir / "reference.npz")
  if reference.domain is None:
    return Outside({}, None, "fewer than 20 validation videos")
  built = experiment.rebuild(workdir)
  state = experiment.load_best(built, workdir)

  def flag(change: Change | None) -> tuple[int, int]:
    _, batches = built.open_clips("test", clips, change)
    found = predict_clips(built.predict_step, state, batches)
    outside = reference.domain.outside(mean_embeddings(found))
    return int(outside.sum()), len(outside)

  kinds: dict[str, Change | None] = {
    "unseen simulated patients": None,
    "simulated, upside down": turn_upside_down,
    "noise": replace_by_noise,
  }
  flagged = {name: flag(change) for name, change in kinds.items()}
  predict = experiment.single_predictor(workdir)
  return Outside(flagged, predict(real_record()))


def real_record() -> Record:
  """The real clip as a video record."""
  name = "pydicom:examples_ybr_color"
  recording = read_recording(Path(get_path("ybr_color")))
  return to_record(
    recording, video_id=name, study_id=name, patient_id=name, split="test"
  )

