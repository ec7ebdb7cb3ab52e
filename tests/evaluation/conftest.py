"""Made predictions tables, ours and another's."""

import numpy as np
import pandas as pd
import pytest


def _make_clips(patients=60, videos=2, clips=3, seed=0):
  """Clip rows of ef_pct and ef_below_50; a third of the patients validate."""
  rng = np.random.default_rng(seed)
  rows = []
  for patient in range(patients):
    split = "validation" if patient % 3 == 0 else "test"
    for video in range(videos):
      truth = rng.uniform(20, 70)
      offset = rng.normal(0, 5)
      for clip in range(clips):
        guess = truth + offset + rng.normal(0, 2)
        row = dict(
          level="clip", item_id=f"set:v{patient}_{video}",
          start_ms=400.0 * clip, study_id=f"set:s{patient}_{video}",
          patient_id=f"set:p{patient}", site="NA", device="x", view="A4C",
          split=split,
        )  # fmt: skip
        rows.append(
          dict(row, target="ef_pct", unit="%", truth=truth, prediction=guess)
        )
        rows.append(
          dict(
            row, target="ef_below_50", unit="", truth=float(truth < 50),
            prediction=1 / (1 + np.exp((guess - 50) / 4)),
          )  # fmt: skip
        )
  return pd.DataFrame(rows)


def _make_foreign(n=60):
  """The least another's file may hold: one target, rows named by clip_id."""
  clips = _make_clips(n, 1, 1)
  clips = clips[clips.target == "ef_pct"].rename(columns={"item_id": "clip_id"})
  return clips[
    ["clip_id", "patient_id", "split", "target", "truth", "prediction"]
  ]


@pytest.fixture(scope="session")
def make_clips():
  return _make_clips


@pytest.fixture
def make_foreign():
  return _make_foreign
