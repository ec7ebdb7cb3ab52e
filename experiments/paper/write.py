"""Writes the rows' files and the table of README.md that lists them.

Example:
  python -m experiments.paper.write
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from echo_jax import experiment
from echo_jax.commands.table import published_values
from echo_jax.evaluation.estimate import LABELS
from echo_jax.evaluation.published import Published
from echo_jax.experiment import Experiment
from echo_jax.training.flops import step_flops
from echo_jax.training.state import TrainState
from experiments import ef_finetune
from experiments.paper.models import MODELS, Model
from experiments.paper.rows import BATCH, make_row, recipe, row_names
from experiments.paper.tasks import ECHONET_LVEF, TASKS, Task

FOLDER = Path(__file__).parent
README = FOLDER / "README.md"
START, END = "<!-- rows -->\n", "<!-- end of rows -->\n"
# NVIDIA A100 data sheet: products of float32 as TF32, which is how XLA takes
# them there.  The share of it that a run reaches is assumed.
CHIP, PEAK_FLOPS_S, MFU = "one A100", 156e12, 0.3


def row_file(task: Task, model: Model) -> str:
  """The text of a row's file."""
  name = f"{task.name}_{model.name}"
  return f'''"""{task.title}: {model.title}.

Example:
  echo-jax sweep experiments/paper/{name}.py \\\\
    --workdir runs/paper/{name}
"""

from experiments.paper.models import {model.name.upper()}
from experiments.paper.rows import make_row
from experiments.paper.tasks import {task.name.upper()}

get_config, build, sweep, tiny = make_row(
  {task.name.upper()}, {model.name.upper()}
)
'''


def row_command(name: str) -> str:
  """What trains a row's seeds and judges each."""
  file = f"experiments/paper/{name}.py"
  return f"echo-jax sweep {file} --workdir runs/paper/{name}"


def unpack(settings: Any, targets: int = 1) -> Experiment:
  """The experiment of a config; no data set is opened."""
  scale = {"mean": (0.0,) * targets, "std": (1.0,) * targets}
  return ef_finetune.build(settings, {"scale": scale, "data": []})


def step_shapes(
  built: Experiment, clips: int
) -> tuple[TrainState, dict[str, jax.ShapeDtypeStruct]]:
  """Shapes of the state and of a batch of clips, as a train step takes them."""
  contract = built.contract

  def shape(*inner: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((clips, *inner), dtype)

  return experiment.state_shapes(built), {
    "video": shape(*contract.shape, dtype=jnp.uint8),
    "frame_time_ms": shape(contract.frames),
    "frame_index": shape(contract.frames, dtype=jnp.int32),
    "frame_valid": shape(contract.frames, dtype=jnp.bool_),
    "target": shape(sum(target.labels for target in built.targets)),
  }


@cache
def step_of(
  name: str, task: str
) -> tuple[Experiment, TrainState, dict[str, Any]]:
  """A model's row of a task, and shapes of its state and of a batch."""
  config = make_row(TASKS[task], MODELS[name]).get_config()
  if "heads" in config.encoder:
    config.compute.scan = True  # the same numbers, traced as one block
  built = unpack(config)
  return built, *step_shapes(built, BATCH)


@cache
def step_tflop(name: str) -> float:
  """TFLOP of a training step in any table; the last layer makes no matter."""
  model = MODELS[name]
  alike = next(
    one.name for one in MODELS.values()
    if (one.encoder, one.head) == (model.encoder, model.head)
  )  # fmt: skip
  if alike != name:
    return step_tflop(alike)
  built, state, batch = step_of(name, ECHONET_LVEF.name)
  return step_flops(built.objective, state, batch) / 1e12


def rows_table() -> str:
  """Every row: command, what was published, length, and hours as estimated."""
  values = published_values()
  lines = [
    "| row | command | published | steps | TFLOP a step | hardware assumed "
    "| hours a seed |",
    "|---|---|---|---|---|---|---|",
  ]
  for name, (task, model) in row_names().items():
    steps = recipe(task.training_clips)["run.steps"]
    tflop = step_tflop(model.name)
    hours = steps * tflop * 1e12 / (PEAK_FLOPS_S * MFU) / 3600
    known = _published(values, task, model)
    lines.append(
      f"| [{name}]({name}.py) | `{row_command(name)}` | {known} | {steps:,} "
      f"| {tflop:.1f} | {CHIP} | {hours:.1f} |"
    )
  return "\n".join(lines) + "\n"


def _published(
  values: Sequence[Published], task: Task, model: Model
) -> str:
  """The first value of each metric, which is the article's if it has one."""
  first = {}
  for one in values:
    if (one.table, one.model) == (task.name, model.name):
      first.setdefault(one.metric, one)
  return ", ".join(
    f"{LABELS[metric]} {one.value_text}{'*' * bool(one.note)} ({one.mark})"
    for metric, one in first.items()
  ) or "none found"  # fmt: skip


def readme() -> str:
  """README.md with the rows' table made anew."""
  text = README.read_text(encoding="utf-8")
  before, _, rest = text.partition(START)
  _, _, after = rest.partition(END)
  return before + START + rows_table() + END + after


def main() -> None:
  """Writes every row's file, and the table of README.md."""
  for name, row in row_names().items():
    (FOLDER / f"{name}.py").write_text(row_file(*row), encoding="utf-8")
  README.write_text(readme(), encoding="utf-8")


if __name__ == "__main__":
  main()
