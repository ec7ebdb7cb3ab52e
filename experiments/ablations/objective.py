"""Which objective of pre-training is worth most for EF?

Each is trained by itself, into a folder of its own below one; then every one of
them is fine-tuned.  Three seeds of that are shown, from one pre-training each:
what another seed of pre-training would give is in none of them.  All see clips
of one length, that of fine-tuning: contrast by phase learns only from those
that hold a second beat.

Example:
  echo-jax train experiments/mae_pretrain.py --workdir runs/objective/mae
  echo-jax train experiments/latent_pretrain.py --workdir runs/objective/latent
  echo-jax train experiments/contrastive_pretrain.py \\
    --workdir runs/objective/contrast
  echo-jax train experiments/joint_pretrain.py --workdir runs/objective/joint
  echo-jax train experiments/joint_pretrain.py --workdir runs/objective/phase \\
    --config.weights.phase=0.2 --config.weights.contrast=0.0 \\
    --config.masked=False
  echo-jax sweep experiments/ablations/objective.py --from runs/objective \\
    --workdir runs/objective_ef
  echo-jax table --runs runs/objective_ef
"""

from experiments.ablations import finetune

get_config, build, tiny = finetune.get_config, finetune.build, finetune.tiny
sweep = finetune.sweep
