#!/usr/bin/env bash
# One process a node, which uses all GPUs of it; JAX finds the others by itself.
#
#   sbatch --nodes=4 scripts/slurm.sh experiments/mae_pretrain.py runs/mae \
#     --config.data.dir=/shared/data --config.run.dtype=bfloat16
#
# A job that is pre-empted or out of time saves first and goes on when it is
# requeued: the work directory must be one that all nodes see.
#SBATCH --job-name=echo-jax
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: sbatch slurm.sh EXPERIMENT WORKDIR [--config.KEY=VALUE ...]" >&2
  exit 2
fi
experiment=$1 workdir=$2
shift 2
# 143: it saved after SIGTERM; then the job goes back into the queue.
code=0
srun --kill-on-bad-exit=1 echo-jax train "$experiment" --workdir "$workdir" "$@" || code=$?
if [ "$code" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
