"""How far a video lies from those the model was trained on.

The distance is Mahalanobis' over a model's features, with a covariance shrunk
towards a sphere (Ledoit & Wolf 2004), so that it holds with more features
than videos; as a flag for foreign input: Lee et al. (NeurIPS 2018), here with
one class.  Axes: n video, d feature.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from sklearn.covariance import LedoitWolf

Features = Float[np.ndarray, "n d"]

QUANTILE = 0.95


@dataclass(frozen=True)
class Domain:
  """The training videos' features: centre, scale, shape and limit.

  `whitener` turns scaled features into ones with unit covariance;
  `threshold` is the distance that 95 % of the validation videos keep below.
  """

  centre: Float[np.ndarray, "d"]
  scale: Float[np.ndarray, "d"]
  whitener: Float[np.ndarray, "d d"]
  threshold: float
  videos: int
  validation_videos: int

  def distance(self, features: Float[np.ndarray, "*n d"]):
    """Distance of each video, [n]; about 1 for a typical training video.

    Raises:
      ValueError: another number of features, or values not finite.
    """
    features = _checked(np.atleast_2d(features), len(self.centre))
    white = ((features - self.centre) / self.scale) @ self.whitener
    return np.sqrt(np.square(white).mean(1))

  def outside(
    self, features: Float[np.ndarray, "*n d"]
  ) -> Bool[np.ndarray, "n"]:
    """Whether each video lies farther out than the threshold."""
    return self.distance(features) > self.threshold

  def to_arrays(self) -> dict[str, np.ndarray]:
    """Plain arrays, for `numpy.savez`."""
    return {name: np.asarray(value) for name, value in vars(self).items()}

  @classmethod
  def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Domain":
    """The inverse of `to_arrays`."""
    return cls(
      centre=arrays["centre"], scale=arrays["scale"],
      whitener=arrays["whitener"], threshold=float(arrays["threshold"]),
      videos=int(arrays["videos"]),
      validation_videos=int(arrays["validation_videos"]),
    )  # fmt: skip


def fit_domain(
  train: Float[np.ndarray, "n d"], validation: Float[np.ndarray, "m d"]
) -> Domain:
  """Shape from training features, limit from validation features.

  Training videos lie nearer than unseen ones, so the limit is the 95th
  percentile of the validation videos' distances.

  Raises:
    ValueError: fewer than 2 training or 20 validation videos (below 20 there
      is no 95th percentile), or values not finite.
  """
  train = _checked(train, np.shape(train)[-1])
  validation = _checked(validation, train.shape[1])
  if len(train) < 2 or len(validation) < 20:
    raise ValueError(
      f"{len(train)} training and {len(validation)} validation videos; "
      "at least 2 and 20 are needed"
    )
  spread = train.std(axis=0)
  scale = np.where(spread > 0, spread, 1.0)
  centre = train.mean(axis=0)
  shape = LedoitWolf(assume_centered=True).fit((train - centre) / scale)
  variance, axes = np.linalg.eigh(shape.covariance_)
  floor = np.finfo(np.float64).eps * len(variance) * max(variance[-1], 1.0)
  fitted = Domain(
    centre=centre, scale=scale,
    whitener=axes / np.sqrt(np.maximum(variance, floor)),
    threshold=np.inf, videos=len(train), validation_videos=len(validation),
  )  # fmt: skip
  limit = np.quantile(fitted.distance(validation), QUANTILE, method="higher")
  return Domain(**{**vars(fitted), "threshold": float(limit)})


def _checked(features: np.ndarray, d: int) -> Features:
  features = np.asarray(features, np.float64)
  if features.ndim != 2 or features.shape[1] != d:
    raise ValueError(f"features have shape {features.shape}; want [n, {d}]")
  if not np.isfinite(features).all():
    raise ValueError("features must be finite")
  return features
