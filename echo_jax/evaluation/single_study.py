"""One study at a time: its values, what they rest on, and what may be shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from echo_jax.data.pipeline import stack
from echo_jax.data.study_folder import Said
from echo_jax.data.study_inputs import StudyInput
from echo_jax.evaluation.predict import predict_clips
from echo_jax.evaluation.report import Reference, mixture_of
from echo_jax.evaluation.single import Judged, judge, why_no_size
from echo_jax.targets import Target
from echo_jax.training.state import TrainState


@dataclass(frozen=True)
class StudyFinding:
  """What a model says of one study.

  Attributes:
    record: who and where, by the names of the video record.
    judged: values and domain.
    rests_on: modalities that were there and are read.
    said: on every file, then on every modality that is not used.
    notes: what else the prediction is to be read with.
  """

  record: Mapping[str, Any]
  judged: Judged
  rests_on: tuple[str, ...]
  said: tuple[Said, ...]
  notes: tuple[str, ...] = ()

  def __str__(self) -> str:
    first, *values = self.judged.lines(self.record["study_id"])
    told = [line for line in self.said if line.status != "found"]
    return "\n".join(
      [
        first, f"  rests on {', '.join(self.rests_on)}", *values,
        *(f"  {line}" for line in told), *(f"  {note}" for note in self.notes),
      ]
    )  # fmt: skip

  def to_dict(self) -> dict[str, Any]:
    """Plain values for JSON; what is not known is None."""
    return {
      "study_id": self.record["study_id"], **self.judged.to_dict(),
      "rests_on": list(self.rests_on), "notes": list(self.notes),
      "said": [asdict(line) for line in self.said],
    }  # fmt: skip

  def rows(self) -> list[dict[str, Any]]:
    """Study rows of the predictions table."""
    return self.judged.rows("study", self.record["study_id"], self.record)

  def told(self, mask: Callable[[str], str]) -> "StudyFinding":
    """With each text that came from files masked."""
    said = tuple(replace(line, text=mask(line.text)) for line in self.said)
    return replace(self, said=said)


def predict_study(
  study: StudyInput,
  record: Mapping[str, Any],
  predict_step: Callable,
  state: TrainState,
  targets: Sequence[Target],
  modalities: Sequence[str],
  reference: Reference,
) -> StudyFinding:
  """The prediction of a study from what there is of it.

  Lengths and volumes are withheld where the spacing of a cine that the model
  sees is unknown or unlike those of training.  Intervals are given inside of
  the training domain, and where validation studies had the same modalities:
  without one of them the errors are others.

  Args:
    study: with one modality that the model reads, or more.
    record: who and where.
    predict_step, state, targets, modalities: the model's.
    reference: what it is judged by.
  """
  row = study.example | {"row_valid": np.True_}
  found = predict_clips(predict_step, state, iter([stack([row])]))
  mixture = mixture_of(study.example["present"], modalities)
  known = mixture in reference.mixtures
  judged = judge(
    found, targets, reference, _why_no_size(study, reference), known
  )
  return StudyFinding(
    record, judged, study.present, study.said,
    _notes(study, reference, known and bool(reference.intervals)),
  )  # fmt: skip


def _why_no_size(study: StudyInput, reference: Reference) -> str:
  """As of a video, over all cines; without one, no size rests on pixels."""
  if "video" not in study.present:
    return ""
  spacing_mm = study.example["clip_spacing_mm"][study.example["video_valid"]]
  ends = np.array([spacing_mm.min(), spacing_mm.max()])  # NaN if one is unknown
  return why_no_size(ends, reference.spacing_mm)


def _notes(
  study: StudyInput, reference: Reference, has_intervals: bool
) -> tuple[str, ...]:
  strange = [v for v in study.views if v not in reference.views]
  if study.views and not reference.views:
    return ("views and modalities of training are not known: evaluate again",)
  notes = [
    f"view {view or 'unknown'}: no cine of training had it, so the model has "
    "not learnt what it means"
    for view in dict.fromkeys(strange)
  ]
  if reference.intervals and not has_intervals:
    notes.append(
      "no intervals: no validation study had just these modalities, and "
      "theirs do not hold for this one"
    )
  return tuple(notes)
