"""Masks from a trained model, and how well they agree with the true ones.

Axes: n frame, H W pixels.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Bool, Float, UInt8
from numpy.typing import ArrayLike

from echo_jax.evaluation.bootstrap import (
  number_patients,
  percentile_interval,
  resample,
  sum_by_patient,
)
from echo_jax.evaluation.estimate import Estimate

Masks = Bool[np.ndarray, "n H W"]


def dice(predicted: Masks, truth: Masks) -> Float[np.ndarray, "n"]:
  """2 |P and T| / (|P| + |T|) of each frame (Dice 1945).

  NaN where both are empty: there is nothing to agree on.
  """
  both = (predicted & truth).sum((1, 2))
  total = predicted.sum((1, 2)) + truth.sum((1, 2))
  return np.where(total > 0, 2 * both / np.maximum(total, 1), np.nan)


def dice_estimate(
  dice: Float[np.ndarray, "n"], patient_id: ArrayLike, *, target: str,
  split: str = "test", resamples: int = 2000, seed: int = 0,
) -> Estimate:  # fmt: skip
  """Mean Dice over all frames, its interval from resampled patients.

  Frames without a Dice (NaN) are left out and counted.

  Raises:
    ValueError: no frame has one.
  """
  known = np.isfinite(dice)
  if not known.any():
    raise ValueError(f"{target}: none of {len(dice)} frames has a Dice")
  values = dice[known]
  patient, patients = number_patients(np.asarray(patient_id)[known])
  columns = np.stack([np.ones_like(values), values], axis=1)
  sums = sum_by_patient(columns, patient, patients)

  def statistic(counts):
    frames, total = (counts @ sums).T
    return {"dice": total / frames}

  found = dict(
    name="dice", value=float(values.mean()), seed=seed, patients=patients,
    rows=len(values), target=target, split=split, row_level="frame",
    without_truth=int((~known).sum()),
    protocol=f"{split} split, mean over frames",
  )  # fmt: skip
  if patients == 1:
    return Estimate(**found, reason="one patient gives no interval")
  samples = resample(
    statistic, patients, resamples=resamples, seed=seed, rows=len(values)
  )["dice"]
  low, high = percentile_interval(samples)
  return Estimate(**found, low=low, high=high, resamples=resamples)


def make_segment(
  model: nn.Module, normalise: Callable[[jax.Array], jax.Array], params: Any,
  batch: int = 32,
) -> Callable[[UInt8[np.ndarray, "n H W 1"]], Masks]:  # fmt: skip
  """A function of stored grey frames: the mask of each, where P > 1/2.

  Frames go in groups of `batch`, the last one filled up, so that only one
  shape is compiled.
  """

  @jax.jit
  def inside(frames):
    return model.apply({"params": params}, normalise(frames))[0][..., 0] > 0

  def segment(frames: UInt8[np.ndarray, "n H W 1"]) -> Masks:
    masks = []
    for start in range(0, len(frames), batch):
      part = frames[start : start + batch]
      short = [(0, batch - len(part))] + [(0, 0)] * 3
      masks.append(np.asarray(inside(np.pad(part, short)))[: len(part)])
    return np.concatenate(masks)

  return segment
