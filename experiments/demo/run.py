"""The demo from an empty folder to a table and a page.

The table holds the main model (the moments head, the best of those tried at
this size), STF-Net, the controls beside it (no pre-training, frames held
still, frames shuffled) and what could be guessed without motion.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from echo_jax.data.controls import hold_still, shuffle_frames
from echo_jax.evaluation.estimate import Estimate
from experiments.demo import stages
from experiments.demo.clock import Clock
from experiments.demo.outside import Outside, meet_other_input
from experiments.demo.page_of_run import write_demo_page
from experiments.demo.recipe import STANDARD, TINY, Recipe
from experiments.demo.stages import Arm

MAIN, SCRATCH = "moments, pre-trained", "moments, from scratch"
STF = "STF-Net, pre-trained"
STILL, SHUFFLED = "main, frames held still", "main, frames shuffled"


@dataclasses.dataclass(frozen=True)
class DemoResult:
  """Everything the demo found, for the table, the page and results.json."""

  recipe: Recipe
  estimates: dict[str, dict[str, Estimate]]
  comparisons: dict[str, Estimate]
  outside: Outside
  seconds: dict[str, float]
  seed: int
  origin: dict[str, Any]


def run_demo(workdir: Path, *, tiny: bool = False, seed: int = 0) -> DemoResult:
  """Runs every stage that is not done yet and writes `demo.html`."""
  recipe = TINY if tiny else STANDARD
  clock = Clock(workdir)
  with clock("simulate"):
    data = workdir / "data"
    dataset = stages.build_data(recipe, data, "independent")
  runs = {
    MAIN: workdir / "moments_pretrained",
    SCRATCH: workdir / "moments_scratch",
    STF: workdir / "stf_pretrained",
  }
  mae = workdir / "mae"
  with clock("pre-train"):
    stages.pretrain(recipe, data, dataset, mae, seed)
  for name, init_from in ((MAIN, str(mae)), (SCRATCH, ""), (STF, str(mae))):
    with clock(f"fine-tune: {name}"):
      stages.finetune(
        recipe, data, dataset, runs[name], seed,
        head="stf" if name == STF else "moments", init_from=init_from,
      )  # fmt: skip
  with clock("evaluate"):
    arms = list(_arms(recipe, runs, data, dataset))
  with clock("other input"):
    outside = meet_other_input(runs[MAIN], recipe.clips)
  result = DemoResult(
    recipe,
    {arm.name: stages.arm_estimates(arm, recipe.resamples) for arm in arms},
    _comparisons(arms, recipe.resamples), outside, clock.seconds, seed,
    stages.origin(runs[MAIN], "echo-jax demo" + " --tiny" * tiny),
  )  # fmt: skip
  write_demo_page(workdir, result, runs)
  (workdir / "results.json").write_text(
    json.dumps(plain_result(result), indent=2) + "\n", encoding="utf-8"
  )
  return result


def _arms(
  recipe: Recipe, runs: dict[str, Path], data: Path, dataset: str
) -> Iterator[Arm]:
  main = stages.evaluate(recipe, runs[MAIN], MAIN)
  yield main
  for name in (SCRATCH, STF):
    yield stages.evaluate(recipe, runs[name], name)
  for change, name in ((hold_still, STILL), (shuffle_frames, SHUFFLED)):
    yield stages.evaluate_changed(recipe, runs[MAIN], change, name)
  yield from stages.shortcut_arms(data, dataset, main)


def _comparisons(arms: list[Arm], resamples: int) -> dict[str, Estimate]:
  """Main model against each other arm, paired by patient."""
  main, *others = arms
  return {
    other.name: stages.compare([main], [other], resamples)
    for other in others
  }


def plain_result(result: DemoResult) -> dict[str, Any]:
  """The result as plain values, for JSON."""
  return {
    "origin": result.origin,
    "training_seed": result.seed,
    "recipe": dataclasses.asdict(result.recipe),
    "estimates": {
      name: {metric: e.to_dict() for metric, e in found.items()}
      for name, found in result.estimates.items()
    },
    "comparisons": {k: e.to_dict() for k, e in result.comparisons.items()},
    "outside": result.outside.to_dict(),
    "seconds": result.seconds,
  }


def format_result(result: DemoResult) -> str:
  """The table that the terminal shows."""
  constant = result.estimates["training mean"]["mae"].value
  lines = [
    "Ejection fraction on unseen simulated patients (video level)",
    f"{'':24}{'MAE, points':>24}  {'x mean':>7}  {'R2':>24}",
  ]
  for name, found in result.estimates.items():
    mae, r2 = found["mae"], found["r2"]
    lines.append(
      f"{name:24}{_cell(mae):>24}  {mae.value / constant:>7.2f}  "
      f"{_cell(r2, 2):>24}"
    )
  lines += ["", "MAE of the main model minus MAE of (paired by patient):"]
  for name, found in result.comparisons.items():
    lines.append(f"  {name:24}{_cell(found):>24}  p {found.p:.4f}")
  lines += ["", *(str(result.outside).splitlines()), ""]
  lines += [
    f"{name}: {seconds:.0f} s" for name, seconds in result.seconds.items()
  ]
  return "\n".join(lines)


def _cell(estimate: Estimate, digits: int = 1) -> str:
  return (
    f"{estimate.value:.{digits}f} "
    f"({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"
  )
