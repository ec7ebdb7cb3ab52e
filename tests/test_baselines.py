"""The classic pipeline and records from a built data set, and the CNN's run."""

import dataclasses

import jax
import numpy as np
import pytest

from echo_jax import experiment
from echo_jax.data.clips import ClipFrames
from echo_jax.data.contract import InputContract, draw_cavity
from echo_jax.data.frames import encode_mask
from echo_jax.data.pipeline import ClipMaker
from echo_jax.data.sources import VideoSource, find_dataset, read_index
from echo_jax.data.transforms import Augmentation
from echo_jax.evaluation.score import score
from echo_jax.models.cnn import VideoCNN
from echo_jax.targets import TARGETS
from experiments import baselines

RECIPE = baselines.PixelRecipe(
  size=32, width=4, levels=1, steps=4, frame_hz=12.0
)
TARGET = TARGETS["ef_pct"]


@pytest.fixture(scope="module")
def done(data_dir, tmp_path_factory):
  """(work directory, rows of every baseline)."""
  workdir = tmp_path_factory.mktemp("baselines")
  return workdir, baselines.run_baselines(
    data_dir, "synthetic_echo", workdir, [TARGET], RECIPE
  )


def test_every_baseline_judges_the_same_studies(done, data_dir):
  _, rows = done
  index = read_index(find_dataset(data_dir, "synthetic_echo"))
  wanted = set(index["study_id"][index["split"] != "train"])
  assert len(rows) == 2 + 3 * 4  # and four of each of MODELS
  for table in rows.values():
    assert set(table["item_id"]) == wanted and (table["level"] == "study").all()
  first, *others = rows.values()
  for other in others:
    np.testing.assert_array_equal(first["item_id"], other["item_id"])
    np.testing.assert_array_equal(first["truth"], other["truth"])


def test_true_masks_tell_ef(done):
  _, rows = done
  errors = {
    name: score(rows[name], level="study", split="validation", resamples=100)[
      0
    ].value
    for name in ("training mean", "oracle (linear)")
  }
  assert errors["oracle (linear)"] < 0.6 * errors["training mean"]


def test_it_goes_on_where_it_was(done, data_dir, monkeypatch):
  """Nothing is trained or measured twice; another recipe is refused."""
  workdir, rows = done

  def never(*given):
    raise AssertionError("measured again")

  monkeypatch.setattr(baselines, "measured_videos", never)
  again = baselines.run_baselines(
    data_dir, "synthetic_echo", workdir, [TARGET], RECIPE
  )
  for name, table in rows.items():
    np.testing.assert_array_equal(
      table["prediction"], again[name]["prediction"]
    )
  other = dataclasses.replace(RECIPE, frame_hz=25.0)
  with pytest.raises(ValueError, match="frame_hz.*12"):
    baselines.run_baselines(
      data_dir, "synthetic_echo", workdir, [TARGET], other
    )


def test_masks_come_with_their_frames(data_dir):
  """A clip's masks are those of its frames; a video without any says so."""
  source = VideoSource(find_dataset(data_dir, "synthetic_echo"), "train")
  record = source[0]
  contract = InputContract(frames=3, span_s=0.5, size=32)
  clip = ClipMaker(contract, cavity=True).at(record, 100.0)
  whole = ClipFrames(
    0.0, np.arange(len(record["frames"]), dtype=np.int32),
    record["frame_time_ms"], np.ones(len(record["frames"]), bool),
  )  # fmt: skip
  masks = draw_cavity(record, whole, contract)
  np.testing.assert_array_equal(clip["lv_mask"], masks[clip["frame_index"]])
  assert clip["lv_mask_known"] and clip["lv_mask"].any((1, 2)).all()
  without = ClipMaker(contract, cavity=True).at(record | {"lv_mask": []}, 0.0)
  assert not without["lv_mask_known"] and not without["lv_mask"].any()
  # A mask twice as large is brought to the frame's size.
  large = [
    encode_mask(mask.repeat(2, axis=0).repeat(2, axis=1)) for mask in masks
  ]
  np.testing.assert_array_equal(
    draw_cavity(record | {"lv_mask": large}, whole, contract), masks
  )
  with pytest.raises(ValueError, match="moves frames and not"):
    ClipMaker(contract, augmentation=Augmentation(shift_px=2), cavity=True)


def test_a_video_is_thinned_in_time_and_whole():
  times = np.arange(0, 1000, 10, dtype=np.float32)
  found = baselines.thinned(times, 25.0)
  assert len(found.index) == 25
  np.testing.assert_array_equal(np.diff(found.time_ms), 40)
  assert len(baselines.thinned(times, 500.0).index) == 100
  assert len(baselines.thinned(times * np.nan, 25.0).index) == 100


def test_the_cnn_is_an_encoder_of_the_fine_tuning(settings):
  built = experiment.prepare("experiments.cnn_finetune", settings, tiny=True)
  assert isinstance(built.model.encoder, VideoCNN)
  shapes = jax.eval_shape(built.init, jax.random.key(0))
  assert shapes["params"]["output"]["kernel"].shape == (4 * 16, 3)
