"""Probes against scikit-learn itself; what is fitted and chosen on what."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import linen as nn
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

from echo_jax.evaluation.probes import (
  PENALTIES,
  FrozenClips,
  encode_clips,
  linear,
  make_encode,
  neighbours,
  probe,
  tokens_read,
)
from echo_jax.models.tokens import TokenGrid
from echo_jax.targets import target_named

TARGETS = tuple(map(target_named, ("ef_pct", "ef_below_50", "as_tmed3")))
COUNTS = {"train": 60, "validation": 30, "test": 30}


@pytest.fixture(scope="module")
def made():
  """(clips, truth, index): two clips a video, of 8 features."""
  rng = np.random.default_rng(0)
  clips, truth, rows = {}, {}, []
  for split, count in COUNTS.items():
    video = np.repeat(np.arange(count // 2), 2)
    ef = rng.uniform(20, 70, count // 2)[video]
    signal = np.stack([ef, ef % 3 // 1], 1)
    noise = rng.normal(0, 4, (count, 8)).astype(np.float32)
    noise[:, :2] += signal * (1, 9)
    ids = np.array([f"t:{split}{v}" for v in video])
    clips[split] = FrozenClips(ids, np.tile([0.0, 500.0], count // 2), noise)
    labels = np.stack([ef, ef < 50, ef % 3 // 1], 1)
    labels[:2, 0] = np.nan if split == "train" else labels[:2, 0]
    truth[split] = labels
    rows += [{"video_id": one, "split": split} for one in dict.fromkeys(ids)]
  index = pd.DataFrame(rows)
  for name in ("study_id", "patient_id"):
    index[name] = index["video_id"]
  for name in ("site", "device", "view", "sex", "quality"):
    index[name] = ""
  return clips, truth, index.assign(age_years=60.0, patient_known=1)


def predicted(rows, target, split, name=""):
  chosen = (rows["target"] == target) & (rows["split"] == split)
  return rows[chosen & (rows["class"] == name)]["prediction"].to_numpy()


def test_the_linear_probe_is_ridge_with_the_penalty_of_validation(made):
  clips, truth, _ = made
  rows, taken = probe(*made, TARGETS, linear)
  known = ~np.isnan(truth["train"][:, 0])
  scaler = StandardScaler().fit(clips["train"].features[known])
  x = {name: scaler.transform(of.features) for name, of in clips.items()}
  ridges = [
    Ridge(alpha=penalty).fit(x["train"][known], truth["train"][known, 0])
    for penalty in PENALTIES
  ]
  error = [
    np.abs(one.predict(x["validation"]) - truth["validation"][:, 0]).mean()
    for one in ridges
  ]
  best = int(np.argmin(error))
  assert 0 < best < len(PENALTIES) - 1  # something was to be chosen
  assert taken["ef_pct"] == [f"Ridge, alpha {PENALTIES[best]:g}"]
  np.testing.assert_allclose(
    predicted(rows, "ef_pct", "test"), ridges[best].predict(x["test"]), 1e-4
  )
  assert set(rows["level"]) == {"clip"} and "train" not in set(rows["split"])
  assert (rows["start_ms"] == np.tile([0.0, 500.0], len(rows) // 2)).all()


def test_classes_are_logistic_regression(made):
  clips, truth, index = made
  classes = {split: labels[:, 1:] for split, labels in truth.items()}
  rows, _ = probe(
    clips, classes, index, TARGETS[1:], lambda _: linear(True)[3:4]
  )
  scaler = StandardScaler().fit(clips["train"].features)
  x = {name: scaler.transform(of.features) for name, of in clips.items()}
  for column, target in ((1, "ef_below_50"), (2, "as_tmed3")):
    model = LogisticRegression(C=1 / PENALTIES[3], max_iter=2000)
    model.fit(x["train"], truth["train"][:, column])
    chance = model.predict_proba(x["test"])
    names = TARGETS[column].classes or (None, "")
    for k, name in enumerate(names):
      if name is not None:
        got = predicted(rows, target, "test", name)
        np.testing.assert_allclose(got, chance[:, k], atol=1e-5)


def test_neighbours_are_scikit_learns(made):
  clips, truth, _ = made
  rows, taken = probe(*made, TARGETS[:1], neighbours(7))
  known = ~np.isnan(truth["train"][:, 0])
  scaler = StandardScaler().fit(clips["train"].features[known])
  name, _, count = taken["ef_pct"][0].rpartition(" ")
  assert name == "KNeighborsRegressor, n_neighbors" and count in "7 5 2 1"
  count = int(count)
  model = KNeighborsRegressor(count).fit(
    scaler.transform(clips["train"].features[known]), truth["train"][known, 0]
  )
  wanted = model.predict(scaler.transform(clips["test"].features))
  np.testing.assert_allclose(predicted(rows, "ef_pct", "test"), wanted, 1e-5)


@pytest.mark.parametrize("candidates", [linear, neighbours(58)])
def test_nothing_is_chosen_by_looking_at_test(made, candidates):
  """Other pictures and labels of test change no prediction of validation."""
  clips, truth, index = made
  rows, taken = probe(clips, truth, index, TARGETS, candidates)
  rng = np.random.default_rng(1)
  of_test = clips["test"]
  wild = of_test._replace(
    features=rng.normal(0, 1e3, of_test.features.shape).astype(np.float32)
  )
  turned = {**truth, "test": truth["test"][::-1]}
  other, chosen = probe(
    {**clips, "test": wild}, turned, index, TARGETS, candidates
  )
  assert chosen == taken
  for target in ("ef_pct", "ef_below_50"):
    np.testing.assert_array_equal(
      predicted(rows, target, "validation"),
      predicted(other, target, "validation"),
    )
    assert (
      predicted(rows, target, "test") != predicted(other, target, "test")
    ).any()


class Patches(nn.Module):
  """An encoder whose token is the mean of 4 x 4 pixels of one frame."""

  def token_grid(self, shape):
    return TokenGrid.of(shape, 1, 4)

  def __call__(self, video, kept, valid, *, train):
    b, t, size, _, _ = video.shape
    x = video.reshape(b, t, size // 4, 4, size // 4, 4).mean((3, 5))
    return x.reshape(b, -1, 1), {}


def test_features_are_blocks_of_tokens_of_real_clips_only():
  video = np.arange(3 * 2 * 8 * 8, dtype=np.float32).reshape(3, 2, 8, 8, 1)
  batch = {
    "video": video, "frame_valid": np.array([[1, 1], [1, 0], [0, 0]], bool),
    "row_valid": np.array([True, True, False]), "video_id": ["a", "b", "b"],
    "start_ms": np.float32([0, 70, 70]),
  }  # fmt: skip
  encode = make_encode(Patches(), lambda raw: jnp.asarray(raw), (2, 1, 1))
  found = encode_clips(encode, {}, iter([batch, batch]))
  assert found.video_id.tolist() == ["a", "b", "a", "b"]
  assert found.start_ms.tolist() == [0, 70, 0, 70]
  means = video.mean((2, 3, 4))
  np.testing.assert_allclose(found.features[0], means[0])
  np.testing.assert_allclose(found.features[1], [means[1, 0], 0])


def test_a_probe_says_how_many_tokens_it_was_given():
  grid = TokenGrid(t=8, h=14, w=14, tubelet=2, patch=16)
  told = "98 tokens (2 x 7 x 7) as means of 1568 (8 x 14 x 14)"
  assert tokens_read((2, 7, 7), grid) == told
  one = TokenGrid(t=1, h=1, w=1, tubelet=16, patch=224)
  assert "a one-token encoder" in tokens_read((1, 1, 1), one)
