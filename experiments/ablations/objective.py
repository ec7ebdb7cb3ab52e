"""Which objective of pre-training is worth most for EF?

Each is trained by its own recipe into a folder below one, then every one is
fine-tuned.  All must see clips of one input contract, hence the span.

Example:
  echo-jax train experiments/mae_pretrain.py --workdir runs/objective/mae
  echo-jax train experiments/latent_pretrain.py --workdir runs/objective/latent
  echo-jax train experiments/contrastive_pretrain.py \\
    --workdir runs/objective/contrast --config.input.span_s=1.4
  echo-jax train experiments/joint_pretrain.py \\
    --workdir runs/objective/joint --config.input.span_s=1.4
  echo-jax sweep experiments/ablations/objective.py --from runs/objective \\
    --workdir runs/objective_ef
  echo-jax table --runs runs/objective_ef
"""

from experiments.ablations import finetune

get_config, build, tiny = finetune.get_config, finetune.build, finetune.tiny
sweep = finetune.sweep
