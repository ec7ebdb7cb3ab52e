"""The plans of results/plan: what the article's trainings need of TPU pods.

Every item is one `echo-jax plan`, in a process of its own, kept as JSON; items
that are there already are left, so that a run that was stopped goes on.  Each
takes minutes, and two cores compile one at a time.

Example:
  python -m experiments.plans --out results/plan --only pretrain_B
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from tqdm import tqdm

from echo_jax.training import sharding
from echo_jax.training.writers import write_whole

TOPOLOGIES = ("v5e:2x4", "v5e:16x16", "v5p:2x2x4", "v6e:4x4")
SIZES = {
  "B": (),
  "L": ("encoder.width=1024", "encoder.depth=24", "encoder.heads=16"),
}
TASKS = {
  "pretrain": ("experiments.mae_pretrain", ("mask.ratio=0.9",)),
  "finetune": ("experiments.ef_finetune", ()),
}
# Clips a chip; chosen, the same on every pod, so that pods can be compared.
CLIPS = {"pretrain": 32, "finetune": 8}
SETTINGS = (
  "run.dtype=bfloat16", "compute.scan=True", "compute.remat=blocks",
)  # fmt: skip
ROOFS = ("compute", "memory", "network")
COLUMNS = (
  "training", "pod", "mesh", "clips a chip", "peak GiB", "of", "model TFLOP",
  "program TFLOP", "HBM GB", "by layers", "sent GB", "by layers",
  "compute ms", "memory ms", "network ms", "MFU at most", "clips/s at most",
  "hours at least",
)  # fmt: skip


def item_name(task: str, size: str, topology: str) -> str:
  """Name of an item's file."""
  return f"{task}_{size}_{topology.replace(':', '_')}"


def command(task: str, size: str, topology: str, chips: int) -> list[str]:
  """The words of one item; parameters are parted over at most 16 chips."""
  module, settings = TASKS[task]
  parted = min(chips, 16)
  words = (*SIZES[size], *settings, *SETTINGS, f"compute.fsdp={parted}")
  return [
    sys.executable, "-m", "echo_jax", "plan", module, "--topology", topology,
    "--made-data", "--json", "--batch-per-chip", str(CLIPS[task]),
    *(f"--config={word}" for word in words),
  ]  # fmt: skip


def count_chips(topology: str) -> int:
  """Chips of a topology, by its name."""
  chips = 1
  for side in topology.split(":")[1].split("x"):
    chips *= int(side)
  return chips


def table(folder: Path) -> str:
  """Every plan of a folder as a row, in Markdown."""
  rows = [
    "| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"
  ]  # fmt: skip
  for task in TASKS:
    for size in SIZES:
      for topology in TOPOLOGIES:
        name = item_name(task, size, topology)
        path = folder / f"{name}.json"
        if path.exists():
          told = json.loads(path.read_text(encoding="utf-8"))["plan"]
          rows.append(_row(f"{task} ViT-{size}", topology, told))
  return "\n".join(rows) + "\n"


def _row(training: str, topology: str, plan: dict) -> str:
  memory, chips = plan["memory"], plan["chips"]
  mesh = " x ".join(str(plan["mesh"][axis]) for axis in sharding.AXES)
  cells = [
    training, topology, mesh, f"{plan['batch_per_chip']:g}",
    f"{memory['peak_bytes'] / 2**30:.2f}",
    f"{memory['usable_bytes'] / 2**30:.2f}",
  ]  # fmt: skip
  if not plan["fits"]:
    return "| " + " | ".join(cells) + " | does not fit" + " |" * 12
  costs, layers = plan["a_chip"], plan.get("by_layers")
  roof = plan["roofline"]
  cells += [
    f"{plan['model_flops'] / chips / 1e12:.3g}",
    f"{costs['flops'] / 1e12:.3g}",
    *(
      f"{of[name] / 1e9:.3g}" if of else ""
      for name in ("hbm_bytes", "sent_bytes") for of in (costs, layers)
    ),
    *(f"{1e3 * roof[f'{each}_s']:.3g}" for each in ROOFS),
    f"{roof['mfu_pct']:.0f} %, {roof['binds']} binds",
    f"{roof['clips_s']:,.0f}",
    f"{plan['run']['hours']:.3g}",
  ]
  return "| " + " | ".join(cells) + " |"


def main() -> None:
  """Makes what is missing, then the table of all."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--out", type=Path, required=True)
  parser.add_argument("--only", default="", help="start of an item's name")
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)  # before minutes are spent
  items = [
    (task, size, topology)
    for topology in TOPOLOGIES
    for task in TASKS
    for size in SIZES
    if item_name(task, size, topology).startswith(args.only)
  ]
  for task, size, topology in tqdm(items, desc="plans", unit="plan"):
    path = args.out / f"{item_name(task, size, topology)}.json"
    if path.exists():
      continue
    words = command(task, size, topology, count_chips(topology))
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1) or not done.stdout:
      sys.exit(f"{path.name}: echo-jax plan ended with {done.returncode}")
    write_whole(path, done.stdout)
  write_whole(args.out / "table.md", table(args.out))


if __name__ == "__main__":
  main()
