"""What a model must beat: records alone, and a classic pipeline from pixels.

Records go straight to scikit-learn.  The classic pipeline segments the left
ventricle with a U-Net trained on the training split's masks
(`experiments/segmentation.py`), measures it over time and gives that to
scikit-learn.  True masks are used in what is called oracle only.

Example:
  python -m experiments.baselines --data-dir data --workdir runs/baselines
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from echo_jax import experiment
from echo_jax.data.clinical import CLINICAL, GENETIC
from echo_jax.data.clips import ClipFrames, thin_frames
from echo_jax.data.contract import (
  InputContract,
  draw_cavity,
  draw_clip,
  fitted_spacing,
)
from echo_jax.data.schema import Record
from echo_jax.data.sources import VideoSource, find_dataset, read_index
from echo_jax.evaluation.cavity import cavity_features, study_features
from echo_jax.evaluation.classic import (
  Candidates,
  constant,
  fit_and_predict,
  forest,
  linear,
  one_a_study,
  record_features,
  trees,
)
from echo_jax.evaluation.estimate import Estimate, format_table
from echo_jax.evaluation.predictions import write_predictions
from echo_jax.evaluation.score import score
from echo_jax.evaluation.segmentation import (
  dice,
  dice_estimate,
  make_segment,
)
from echo_jax.targets import Target, target_named
from echo_jax.training.writers import write_whole
from echo_jax.units import MS_PER_S
from experiments import parts
from experiments.demo.recipe import as_words

SPLITS = ("train", "validation", "test")
MODELS: Mapping[str, Candidates] = {
  "linear": linear, "forest": forest, "trees": trees
}  # fmt: skip
GREY = {"channels": 1, "mean": 0.2, "std": 0.25}


@dataclass(frozen=True)
class PixelRecipe:
  """The classic pipeline; all chosen.

  Attributes:
    size: pixels a side.
    width, levels, steps: of the U-Net and its training.
    frame_hz: at most so many frames a second are measured; an end-systole is
      then met within half of 1 / frame_hz.
    views: which videos are segmented and measured.
    seed: of the training.
  """

  size: int = 64
  width: int = 8
  levels: int = 3
  steps: int = 300
  frame_hz: float = 30.0
  views: tuple[str, ...] = ("A4C",)
  seed: int = 0


def records_rows(
  index: pd.DataFrame, targets: Sequence[Target], candidates: Candidates, *,
  genes: bool,
) -> pd.DataFrame:  # fmt: skip
  """Predictions from clinical records, with genes or without."""
  table = CLINICAL + GENETIC if genes else CLINICAL
  columns = [column.name for column in table]
  studies = one_a_study(index, [*columns, *sources_of(targets)])
  features = record_features(studies, table)
  return fit_and_predict(features, studies, targets, candidates)


def filled_rows(
  index: pd.DataFrame, targets: Sequence[Target], candidates: Candidates
) -> pd.DataFrame:
  """Predictions from which cells of records and genes are filled, not from
  what they say: what a clinic asked for may give away what it found."""
  table = CLINICAL + GENETIC
  columns = [column.name for column in table]
  studies = one_a_study(index, [*columns, *sources_of(targets)])
  filled = record_features(studies, table).notna().astype(np.float64)
  return fit_and_predict(filled, studies, targets, candidates)


def feature_rows(
  index: pd.DataFrame, features: pd.DataFrame, targets: Sequence[Target],
  candidates: Candidates,
) -> pd.DataFrame:  # fmt: skip
  """Predictions from features by study_id, as those of `pixel_features`."""
  studies = one_a_study(index, sources_of(targets))
  return fit_and_predict(features, studies, targets, candidates)


def sources_of(targets: Sequence[Target]) -> list[str]:
  """Columns of the index that hold the targets' labels."""
  return [name for target in targets for name in target.sources]


def pixel_features(
  data_dir: Path, name: str, workdir: Path, recipe: PixelRecipe
) -> tuple[pd.DataFrame, pd.DataFrame, Estimate]:
  """Trains and applies the segmenter; goes on where it was stopped.

  Returns:
    Features by study_id from segmented masks, from true ones (oracle), and
    the Dice on the test split.
  """
  keep_recipe(workdir, recipe)
  run = workdir / "unet"
  train_segmenter(data_dir, name, run, recipe)
  measured = []
  for split in SPLITS:
    path = workdir / f"measured_{split}.parquet"
    if not path.exists():
      source = VideoSource(find_dataset(data_dir, name), split)
      table = measured_videos(source, load_segmenter(run), recipe)
      table.to_parquet(partial := path.with_suffix(".partial"))
      partial.replace(path)
    measured.append(pd.read_parquet(path).assign(split=split))
  videos = pd.concat(measured, ignore_index=True)
  test = videos[(videos["split"] == "test") & videos["true_masks"]]
  found = dice_estimate(
    np.concatenate(test["dice"].to_list()),
    np.repeat(test["patient_id"].to_numpy(), test["dice"].map(len)),
    target="LV cavity by U-Net",
  )
  return _features_of(videos, "found_"), _features_of(videos, "true_"), found


def _features_of(videos: pd.DataFrame, prefix: str) -> pd.DataFrame:
  who = videos[["video_id", "study_id", "view"]]
  columns = [c for c in videos if c.startswith(prefix) and c != "true_masks"]
  features = videos[columns].rename(columns=lambda c: c.removeprefix(prefix))
  return study_features(pd.concat([who, features], axis=1))


def keep_recipe(workdir: Path, recipe: PixelRecipe) -> None:
  """Writes the recipe; refuses to go on with another one.

  Raises:
    ValueError: what was measured there was measured otherwise.
  """
  path, text = workdir / "recipe.json", json.dumps(asdict(recipe))
  if path.exists() and path.read_text(encoding="utf-8") != text:
    raise ValueError(
      f"{workdir} holds another recipe: {path.read_text(encoding='utf-8')}, "
      f"now it is {text}; use another work directory"
    )
  write_whole(path, text)


def train_segmenter(
  data_dir: Path, name: str, run: Path, recipe: PixelRecipe
) -> None:
  """The U-Net of the recipe, in the work directory `run`."""
  settings = {
    "data.dir": str(data_dir), "data.name": name, "data.views": recipe.views,
    "input.size": recipe.size, "unet.width": recipe.width,
    "unet.levels": recipe.levels, "run.steps": recipe.steps,
    "run.seed": recipe.seed, "optimizer.warmup_steps": recipe.steps // 15,
  } | {f"input.{key}": value for key, value in GREY.items()}  # fmt: skip
  built = experiment.prepare("experiments.segmentation", as_words(settings))
  experiment.run(built, run)


def load_segmenter(run: Path) -> Callable[[np.ndarray], np.ndarray]:
  """The trained U-Net as a function from grey frames to masks."""
  built = experiment.rebuild(run)
  state = experiment.load_best(built, run)
  normalise = parts.make_normalise(built.contract)
  return make_segment(built.model, normalise, state.params)


def measured_videos(
  source: VideoSource, segment: Callable[[np.ndarray], np.ndarray],
  recipe: PixelRecipe,
) -> pd.DataFrame:  # fmt: skip
  """A row a video of the recipe's views: Dice of its frames and features."""
  wanted = source.index["view"].isin(recipe.views) & (
    source.index["kind"] == "cine"
  )
  return pd.DataFrame(
    [
      _measured(source[int(i)], segment, recipe)
      for i in tqdm(np.flatnonzero(wanted), desc="measure", unit="video")
    ]
  )


def _measured(
  record: Record, segment: Callable[[np.ndarray], np.ndarray],
  recipe: PixelRecipe,
) -> dict:  # fmt: skip
  contract = InputContract(size=recipe.size, **GREY)
  clip = thinned(record["frame_time_ms"], recipe.frame_hz)
  found = segment(draw_clip(record, clip, contract))
  spacing_mm = fitted_spacing(record, contract)
  row = {n: record[n] for n in ("video_id", "study_id", "patient_id", "view")}
  row |= _named("found_", cavity_features(found, clip.time_ms, spacing_mm))
  row["true_masks"] = len(record["lv_mask"]) > 0
  true = draw_cavity(record, clip, contract)
  if row["true_masks"]:
    row["dice"] = dice(found, true)
    row |= _named("true_", cavity_features(true, clip.time_ms, spacing_mm))
  return row


def _named(prefix: str, features: Mapping[str, float]) -> dict[str, float]:
  return {f"{prefix}{name}": value for name, value in features.items()}


def thinned(frame_time_ms: np.ndarray, frame_hz: float) -> ClipFrames:
  """A whole video at `frame_hz` at most; all frames where times are unknown."""
  among = np.arange(len(frame_time_ms))
  if len(among) > 1 and np.isfinite(frame_time_ms).all():
    rate = MS_PER_S / float(np.median(np.diff(frame_time_ms)))
    among = thin_frames(frame_time_ms, min(frame_hz / rate, 1.0), 0.0)
  time_ms = np.asarray(frame_time_ms, np.float32)[among]
  valid = np.ones(len(among), bool)
  return ClipFrames(0.0, among.astype(np.int32), time_ms, valid)


def run_baselines(
  data_dir: Path, name: str, workdir: Path, targets: Sequence[Target],
  recipe: PixelRecipe = PixelRecipe(),
) -> dict[str, pd.DataFrame]:  # fmt: skip
  """Rows of every baseline by its name; each is written to `workdir` too."""
  workdir.mkdir(parents=True, exist_ok=True)
  index = read_index(find_dataset(data_dir, name))
  found, true, agreement = pixel_features(data_dir, name, workdir, recipe)
  rows = {"training mean": feature_rows(index, found, targets, constant)}
  rows["filled cells (linear)"] = filled_rows(index, targets, linear)
  for kind, candidates in MODELS.items():
    for genes in (False, True):
      what = f"records {'and genes ' if genes else ''}({kind})"
      rows[what] = records_rows(index, targets, candidates, genes=genes)
    rows[f"pixels ({kind})"] = feature_rows(index, found, targets, candidates)
    rows[f"oracle ({kind})"] = feature_rows(index, true, targets, candidates)
  for what, table in rows.items():
    file = what.replace(" ", "_").replace("(", "").replace(")", "")
    write_predictions(workdir / f"{file}.csv", table)
  (workdir / "dice.json").write_text(
    json.dumps(agreement.to_dict(), indent=1) + "\n", encoding="utf-8"
  )
  print(format_table([agreement]))
  return rows


def main(words: Sequence[str] | None = None) -> None:
  """Prints the Dice and each baseline's errors on the test split."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--data-dir", type=Path, required=True)
  parser.add_argument("--name", default="synthetic_echo")
  parser.add_argument("--workdir", type=Path, required=True)
  parser.add_argument("--targets", default="ef_pct", help="joined by commas")
  args = parser.parse_args(words)
  targets = [target_named(one) for one in args.targets.split(",")]
  start = time.monotonic()
  rows = run_baselines(args.data_dir, args.name, args.workdir, targets)
  for what, table in rows.items():
    for target in targets:
      first = score(table, level="study", targets=[target.name])[0]
      print(f"{what:28} {target.name} {first.name} {first}")
  print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
  main()
