"""Kills a tiny run at random moments, again and again, until it has ended.

Its weights and its log must be those of a run that nobody killed.

  python tests/training/kill_often.py --kills 100 --data-dir data
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from echo_jax import trees
from echo_jax.training.checkpoint import Checkpoints, saved_steps

EXPERIMENT = "experiments.mae_pretrain"


def command(workdir: Path, data_dir: Path, steps: int) -> list[str]:
  """A run that saves every second step."""
  settings = (
    f"data.dir={data_dir}", f"run.steps={steps}", "run.save_every=2",
    "run.validate_every=10", "run.average_decay=0.9",
  )  # fmt: skip
  words = [f"--config={setting}" for setting in settings]
  return [
    sys.executable, "-m", "echo_jax", "train", EXPERIMENT, "--tiny",
    "--workdir", str(workdir), *words,
  ]  # fmt: skip


def kill_until_done(words: list[str], kills: int, seed: int) -> list[float]:
  """Starts a run so often, kills it after a random time; then lets it end.

  It may end before; then there are fewer kills.

  Returns the seconds that each of the killed ones lived.
  """
  rng, lived = np.random.default_rng(seed), []
  for _ in tqdm(range(kills), desc="kills", unit="kill"):
    with subprocess.Popen(
      words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as running:
      started = time.monotonic()
      try:
        if code := running.wait(rng.uniform(0.2, 20.0)):
          raise RuntimeError(f"the run failed with {code}")
        print(f"the run ended by itself after {len(lived)} kills")
        return lived
      except subprocess.TimeoutExpired:
        running.kill()
      lived.append(time.monotonic() - started)
  subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
  return lived


def compare(one: Path, two: Path) -> int:
  """How many leaves were equal to the last bit.

  Raises:
    AssertionError: a leaf or a line of the log differs.
  """
  states = []
  for workdir in (one, two):
    with Checkpoints(workdir / "checkpoints") as checkpoints:
      newest = checkpoints.newest()
      states.append(trees.named_leaves(checkpoints.restore_tree(newest)))
  assert set(states[0]) == set(states[1])
  for name, leaf in states[0].items():
    np.testing.assert_array_equal(leaf, states[1][name], err_msg=name)
  logs = [(workdir / "log.jsonl").read_text() for workdir in (one, two)]
  assert logs[0] == logs[1], "the logs differ"
  return len(states[0])


def main() -> None:
  """Kills, compares, says what it found."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--data-dir", type=Path, required=True)
  parser.add_argument("--kills", type=int, default=100)
  parser.add_argument("--steps", type=int, default=3000)
  parser.add_argument("--seed", type=int, default=0)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory(prefix="kill-often-") as folder:
    whole, broken = Path(folder) / "whole", Path(folder) / "broken"
    subprocess.run(
      command(whole, args.data_dir, args.steps), check=True,
      stdout=subprocess.DEVNULL,
    )  # fmt: skip
    words = command(broken, args.data_dir, args.steps)
    lived = kill_until_done(words, args.kills, args.seed)
    leaves = compare(whole, broken)
    put_aside = saved_steps(broken / "checkpoints_damaged")
  print(
    f"{len(lived)} kills after {min(lived, default=0):.1f} to "
    f"{max(lived, default=0):.1f} s each; "
    f"{leaves} leaves of step {args.steps} and the log are equal to the "
    f"unbroken run's; checkpoints put aside: {put_aside or 'none'}"
  )


if __name__ == "__main__":
  main()
