"""What all pre-training shares: clips, optimiser and validation.

An experiment brings its model and objective; `params["encoder"]` is the
encoder's, which `ef_finetune` takes over by `init_from`, as these do: all but
the encoder starts from scratch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import jax
from flax import linen as nn
from ml_collections import ConfigDict
from pandas import DataFrame

from echo_jax.data.controls import Change
from echo_jax.data.pipeline import (
  Batch,
  ClipMaker,
  evaluation_batches,
  training_batches,
)
from echo_jax.data.study_clips import StudyClips, VideosOfStudies
from echo_jax.experiment import Experiment
from echo_jax.objectives.objective import Objective
from echo_jax.training.collapse import (
  Limits,
  make_feature_step,
  watch_collapse,
)
from echo_jax.training.optimizers import make_adamw
from echo_jax.training.step import make_loss_step
from echo_jax.training.validate import mean_loss, mean_losses
from experiments import parts

PAIRS = ("video", "study")
# What `tiny` sets in all of them.
TINY = {
  "input.size": 32,
  "input.channels": 1,
  "encoder.width": 32,
  "encoder.depth": 1,
  "encoder.heads": 2,
  "run.steps": 8,
  "run.batch_size": 4,
}


def make_pretraining(
  config: ConfigDict,
  model: nn.Module,
  init: Callable[[jax.Array], dict],
  objective: Objective,
  counts: str | Mapping[str, str],
  *,
  sector: bool = False,
  beats: bool = False,
  pairs: str | None = None,
) -> Experiment:
  """An experiment that learns from videos without labels.

  Features are watched where `config.collapse` says so.

  Args:
    config: of `parts`, with sections input, data, optimizer, run, compute.
    model, init, objective: see `Experiment`.
    counts: metric that says how much a loss is the mean of; of objectives
      together that of each, which `config.weights` weighs.
    sector, beats: whether batches have them, see `ClipMaker`.
    pairs: two clips of each "video" or "study" follow one another; None for
      single clips.

  Raises:
    ValueError: pairs of anything else, or studies of several data sets, or
      validation on another number of clips than a pair's.
  """
  if pairs not in (None, *PAIRS):
    raise ValueError(f"contrast of pairs of {pairs!r}; there are {PAIRS}")
  if pairs == "study" and config.data.mix:
    raise ValueError("pairs of a study need one data set; data.mix has more")
  if pairs and config.run.validation_clips not in (1, 2):
    raise ValueError(
      f"run.validation_clips is {config.run.validation_clips}, but contrast "
      "of pairs is validated on 2 clips of each; leave it at 1 or 2"
    )
  contract, run = parts.make_contract(config), config.run
  train = parts.open_split(config, config.data.train_split)
  validation = parts.open_split(config, config.data.validation_split)
  plain = ClipMaker(contract, sector=sector, beats=beats, person=bool(pairs))
  augmented = replace(plain, augmentation=parts.make_augmentation(config))
  group = VideosOfStudies if pairs == "study" else lambda videos: videos
  draw = StudyClips if pairs == "study" else lambda maker: maker

  def clips_of(videos: Sequence, clips: int) -> Iterator[Batch]:
    return evaluation_batches(
      group(videos), draw(plain), batch_size=run.batch_size,
      clips_per_video=2 if pairs else clips, fill_up=bool(pairs),
      threads=config.data.threads,
    )  # fmt: skip

  def open_clips(
    split: str, clips: int, change: Change | None = None
  ) -> tuple[DataFrame, Iterator[Batch]]:
    videos = parts.open_split(config, split, change=change)
    return videos.index, clips_of(videos, clips)

  def validation_clips() -> Iterator[Batch]:
    return clips_of(validation, run.validation_clips)

  loss_step = make_loss_step(objective, seed=run.seed)
  if isinstance(counts, str):
    validate = mean_loss(loss_step, validation_clips, counts)
  else:
    weights = {name: config.weights[name] for name in counts}
    validate = mean_losses(loss_step, validation_clips, weights, counts)
  if "collapse" in config:
    validate = watch_collapse(
      validate,
      make_feature_step(model.encoder, parts.make_normalise(contract)),
      validation_clips, Limits(**config.collapse),
    )  # fmt: skip
  return Experiment(
    config=config.to_dict(),
    contract=contract,
    model=model,
    init=init,
    warm_start=parts.make_warm_start(config, contract, model.encoder),
    objective=objective,
    optimizer=make_adamw(parts.make_adamw_rule(config)),
    batches=lambda first, rows=None: training_batches(
      group(train), draw(augmented), seed=run.seed, batch_size=run.batch_size,
      first_step=first, rows=rows, clips_per_video=2 if pairs else 1,
      **parts.readers(config),
    ),
    validate=validate,
    open_clips=open_clips,
    data=parts.data_record(config),
    **parts.run_settings(config),
  )  # fmt: skip
