"""Fine-tuning on ejection fraction and volumes, or other targets, of a clip.

Starts from a pre-training run (`--config.init_from=runs/mae`), from weights of
another library (a file or its folder, see `echo_jax/interop/encoders.py`) or
from scratch (empty).  `targets` are rows of the task table
(`echo_jax/targets.py`), of any kind; numbers are standardised on the training
split only.

Example:
  echo-jax train experiments/ef_finetune.py --workdir runs/ef --tiny
  echo-jax train experiments/ef_finetune.py --workdir runs/ef \\
    --config.init_from=runs/mae --config.optimizer.freeze=^encoder/
  echo-jax train experiments/ef_finetune.py --workdir runs/ef_kinetics \\
    --config.init_from=videomae-base/model.safetensors \\
    --config.input.mean=0.449 --config.input.std=0.226  # as it was trained
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import jax
from ml_collections import ConfigDict, config_dict
from pandas import DataFrame

from echo_jax.data.controls import Change
from echo_jax.data.pipeline import (
  Batch,
  ClipMaker,
  evaluation_batches,
  training_batches,
)
from echo_jax.evaluation.predict import make_predict_step, validation_losses
from echo_jax.experiment import Experiment
from echo_jax.models.predictor import Predictor
from echo_jax.objectives.objective import hold_fixed
from echo_jax.objectives.outputs import Standardisation
from echo_jax.objectives.supervised import make_supervised, standardise_from
from echo_jax.targets import count_outputs
from echo_jax.training.optimizers import make_adamw
from experiments import parts


def get_config() -> ConfigDict:
  """ViT-B with STF-Net on EF, EDV and ESV together."""
  config = ConfigDict()
  config.update(parts.start_config())
  config.targets = ("ef_pct", "edv_ml", "esv_ml")
  config.in_logarithm = ()  # ("edv_ml", "esv_ml") as released
  config.scale = "training"  # or "hundredths": EF / 100, as released
  config.threshold = config_dict.placeholder(float)  # None: from validation
  config.interval = "percentile"  # of the report; or "bca", "released"
  config.loss = "huber"  # of regression targets that have none of their own
  config.weighting = "fixed"  # or "uncertainty": learned with the model
  config.weights = ()  # of fixed weighting, one a target; empty: all alike
  config.input = parts.input_config()
  config.data = parts.data_config()
  config.encoder = parts.encoder_config("B")
  config.head = parts.head_config()
  config.optimizer = parts.optimizer_config(rate=1e-4)
  config.run = parts.run_config(steps=20_000, batch_size=16)
  config.compute = parts.compute_config()
  return config.lock()


def sweep() -> Iterator[dict[str, object]]:
  """Heads, from scratch and frozen or not, as flat overrides."""
  for head in ("stf", "moments", "max", "mean", "gru"):
    for freeze in ("", "^encoder/"):
      yield {"head.name": head, "optimizer.freeze": freeze}


def tiny(config: ConfigDict) -> None:
  """Seconds on two cores; the same code paths."""
  config.update_from_flattened_dict(
    {
      "input.size": 32,
      "input.channels": 1,
      "encoder.width": 32,
      "encoder.depth": 1,
      "encoder.heads": 2,
      "head.slice_mixer": "pool_dense",
      "head.hidden": 16,
      "run.steps": 8,
      "run.batch_size": 4,
    }
  )


def build(
  config: ConfigDict, record: Mapping[str, Any] | None = None
) -> Experiment:
  """Unpacks the settings; nothing below sees a config.

  With the record of a trained run, the scale of its targets comes from there
  and no data set is opened before its clips are asked for.
  """
  contract = parts.make_contract(config)
  normalise = parts.make_normalise(contract)
  targets = parts.make_targets(config)
  weighting = parts.make_weighting(config, targets)
  rule = parts.make_adamw_rule(config)  # first: it checks the pattern
  split = config.data
  videos = cache(lambda name: parts.open_split(config, name, targets))
  if record is None:
    truth = parts.truths(videos(split.train_split).index, targets)
    scale = standardise_from(targets, truth, config.scale)
    data = parts.data_record(config)
    # What cannot be validated fails now, not in an hour.
    parts.refuse_unknown(
      targets, parts.truths(videos(split.validation_split).index, targets),
      split.validation_split,
    )  # fmt: skip
  else:
    known = {name: tuple(of) for name, of in record["scale"].items()}
    scale, data = Standardisation(**known), record["data"]
  model = Predictor(
    parts.make_encoder(config), parts.make_head(config),
    count_outputs(targets), hidden_layers=tuple(config.head.layers),
    frozen=parts.frozen_parts(config.optimizer.freeze),
  )  # fmt: skip
  plain = ClipMaker(contract, targets)
  augmented = ClipMaker(contract, targets, parts.make_augmentation(config))
  run = config.run

  def init(key: jax.Array) -> dict:
    # Compiled as a whole, initialising takes a third of the time.
    variables = jax.jit(model.init)(key, **parts.example_clip(contract))
    params = variables["params"] | weighting.parameters(targets)
    return variables | {"params": params}

  def clips_of(chosen: Sequence, clips: int) -> Iterator[Batch]:
    return evaluation_batches(
      chosen, plain, batch_size=run.batch_size, clips_per_video=clips,
      threads=config.data.threads,
    )  # fmt: skip

  def open_clips(
    name: str, clips: int, change: Change | None = None
  ) -> tuple[DataFrame, Iterator[Batch]]:
    chosen = parts.open_split(config, name, targets, change)
    return chosen.index, clips_of(chosen, clips)

  predict_step = make_predict_step(model, normalise, targets, scale)
  return Experiment(
    config=config.to_dict(),
    contract=contract,
    model=model,
    init=init,
    warm_start=parts.make_warm_start(config, contract, model.encoder),
    objective=hold_fixed(
      make_supervised(
        model, normalise, targets, scale, config.loss, weighting
      ),
      config.optimizer.freeze,
    ),
    optimizer=make_adamw(rule),
    batches=lambda first, rows=None: training_batches(
      videos(split.train_split), augmented, seed=run.seed,
      batch_size=run.batch_size, first_step=first, rows=rows,
      **parts.readers(config),
    ),
    validate=validation_losses(
      predict_step,
      lambda: clips_of(videos(split.validation_split), run.validation_clips),
      targets, scale, weighting.weights,
    ),
    predict_step=predict_step,
    open_clips=open_clips,
    data=data,
    targets=targets,
    scale=scale,
    threshold=config.threshold,
    interval=config.interval,
    needs_times=parts.needs_times(config),
    **parts.run_settings(config),
  )  # fmt: skip
