"""Another modality: EF from short-axis cine MR, from echo or from scratch.

A clip is the whole heartbeat of one slice (`span_s` 0), since ACDC gives no
frame times that hold; EF is that of the slice's whole stack, and a study's
prediction is the mean over its slices.  Weights refuse another input contract,
so the echo run that gives the first weights is made under this one.

Example:
  echo-jax build acdc --source ACDC/database --data-dir data
  echo-jax train experiments/mae_pretrain.py --workdir runs/mae_whole \\
    --config.input.span_s=0
  echo-jax train experiments/acdc.py --workdir runs/acdc \\
    --config.init_from=runs/mae_whole
  echo-jax evaluate runs/acdc --clips 1
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments import ef_finetune

build = ef_finetune.build
tiny = ef_finetune.tiny


def get_config() -> ConfigDict:
  """EF fine-tuning, on slices of MR instead of clips of echo."""
  config = ef_finetune.get_config()
  config.update_from_flattened_dict(
    {
      "targets": ("ef_pct",),
      "input.span_s": 0.0,
      "head.time": "index",
      "data.name": "acdc",
      "data.kinds": ("mr",),
      "data.views": (),
    }
  )
  return config


def sweep() -> Iterator[dict[str, object]]:
  """From scratch and from the echo run above, three seeds of each."""
  for seed in (0, 1, 2):
    for init_from in ("", "runs/mae_whole"):
      yield {"init_from": init_from, "run.seed": seed}
