#!/usr/bin/env bash
# The same command on every host of a TPU pod slice, until it has ended.
#
#   scripts/tpu_pod.sh NAME ZONE experiments/mae_pretrain.py /mnt/runs/mae \
#     --config.data.dir=/mnt/data --config.run.dtype=bfloat16
#
# NAME and ZONE are of a TPU VM slice on which echo_jax is installed on every
# host, as SCALING.md says.  When a host dies, the others end within a minute;
# the command is given again and goes on from the last whole checkpoint.
set -euo pipefail
if [ $# -lt 4 ]; then
  echo "usage: tpu_pod.sh NAME ZONE EXPERIMENT WORKDIR [--config.KEY=VALUE ...]" >&2
  exit 2
fi
name=$1 zone=$2 experiment=$3 workdir=$4
shift 4
words=$(printf '%q ' echo-jax train "$experiment" --workdir "$workdir" "$@")
for attempt in 1 2 3 4 5; do
  if gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all \
    --command "$words"; then
    exit 0
  fi
  echo "attempt $attempt ended; trying again in a minute" >&2
  sleep 60
done
exit 1
