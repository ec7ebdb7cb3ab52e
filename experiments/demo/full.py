"""The full demo: every head, a model trained on still frames, both cohorts.

Each model is trained with three seeds; every seed is shown, and intervals of
differences resample patients and seeds.  The page, with masks, figures and
input from elsewhere, is of the first seed.  An hour or two on two cores;
stopped and started again it goes on.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from echo_jax.data.controls import hold_still, shuffle_frames
from echo_jax.evaluation.estimate import Estimate
from experiments.demo import stages
from experiments.demo.clock import Clock
from experiments.demo.outside import meet_other_input
from experiments.demo.page_of_run import write_demo_page
from experiments.demo.recipe import STANDARD, TINY, Recipe
from experiments.demo.run import DemoResult
from experiments.demo.stages import Arm

COHORTS = ("independent", "clinic_like")
HEADS = ("max", "mean", "gru")


@dataclass(frozen=True)
class Training:
  """One model of the table.

  `change` is a control that training data had; `labels` is how many labelled
  videos there were (0: all).
  """

  name: str
  head: str = "moments"
  pretrained: bool = True
  change: str = ""
  labels: int = 0

  @property
  def folder(self) -> str:
    """Name of its work directory."""
    return self.name.replace(",", "").replace(" ", "_")


MAIN = Training("moments, pre-trained")
SCRATCH = Training("moments, from scratch", pretrained=False)


def trainings_of(cohort: str, few_labels: int) -> tuple[Training, ...]:
  """Every model of a cohort; most are of the independent one."""
  if cohort != "independent":
    return MAIN, SCRATCH
  few = f"{few_labels} labels"
  return (
    MAIN,
    SCRATCH,
    *(Training(f"{head}, pre-trained", head) for head in HEADS),
    Training("STF-Net, pre-trained", "stf"),
    Training("STF-Net, from scratch", "stf", pretrained=False),
    Training(f"moments, pre-trained, {few}", labels=few_labels),
    Training(
      f"moments, from scratch, {few}", pretrained=False, labels=few_labels
    ),
    Training(
      "moments, trained on still frames", pretrained=False,
      change="hold_still",
    ),
  )  # fmt: skip


@dataclass(frozen=True)
class CohortResult:
  """Arms of one cohort: one a training seed (references have one)."""

  arms: Mapping[str, Sequence[Arm]]
  comparisons: Mapping[str, Estimate]
  estimates: Mapping[str, Sequence[Mapping[str, Estimate]]]


def run_full(
  workdir: Path, *, tiny: bool = False, seeds: Sequence[int] = (0, 1, 2)
) -> dict[str, CohortResult]:
  """Runs what is not done yet; writes `results.json`, `table.md`, a page."""
  recipe = TINY if tiny else STANDARD
  clock = Clock(workdir)
  results = {
    cohort: run_cohort(recipe, workdir, cohort, seeds, clock)
    for cohort in COHORTS
  }
  first = write_page_of_first_seed(recipe, workdir, results, seeds[0], clock)
  plain = {
    "origin": first.origin,
    "training_seeds": list(seeds),
    "recipe": vars(recipe),
    "seconds": clock.seconds,
    "outside": first.outside.to_dict(),
    "cohorts": plain_results(results),
  }
  text = json.dumps(plain, indent=1)
  (workdir / "results.json").write_text(text + "\n", encoding="utf-8")
  table = format_results(results)
  (workdir / "table.md").write_text(table, encoding="utf-8")
  return results


def run_cohort(
  recipe: Recipe, workdir: Path, cohort: str, seeds: Sequence[int],
  clock: Clock,
) -> CohortResult:  # fmt: skip
  """Trains and judges every model of a cohort."""
  data, arms = workdir / "data", {}
  with clock(f"{cohort}: simulate"):
    dataset = stages.build_data(recipe, data, cohort)
  for seed in seeds:
    folder = workdir / cohort / f"seed_{seed}"
    with clock(f"{cohort}, seed {seed}: pre-train"):
      stages.pretrain(recipe, data, dataset, folder / "mae", seed)
    for training in trainings_of(cohort, recipe.few_labels):
      run = folder / training.folder
      with clock(f"{cohort}, seed {seed}: {training.name}"):
        stages.finetune(
          recipe, data, dataset, run, seed, head=training.head,
          init_from=str(folder / "mae") if training.pretrained else "",
          change=training.change, labels=training.labels,
        )  # fmt: skip
        arm = stages.evaluate(recipe, run, training.name)
      arms.setdefault(training.name, []).append(arm)
      if training == MAIN:
        for change, name in (
          (hold_still, "the same on frames held still"),
          (shuffle_frames, "the same on shuffled frames"),
        ):
          changed = stages.evaluate_changed(recipe, run, change, name)
          arms.setdefault(name, []).append(changed)
  for reference in stages.shortcut_arms(data, dataset, arms[MAIN.name][0]):
    arms[reference.name] = [reference]
  return judge(arms, recipe.resamples)


def judge(
  arms: Mapping[str, Sequence[Arm]], resamples: int
) -> CohortResult:
  """Estimates of every arm and seed, and differences to the main model."""
  main = arms[MAIN.name]
  return CohortResult(
    arms,
    {
      name: stages.compare(main, other, resamples)
      for name, other in arms.items()
      if name != MAIN.name
    },
    {
      name: [stages.arm_estimates(arm, resamples) for arm in seeds]
      for name, seeds in arms.items()
    },
  )


def write_page_of_first_seed(
  recipe: Recipe, workdir: Path, results: Mapping[str, CohortResult],
  seed: int, clock: Clock,
) -> DemoResult:  # fmt: skip
  """The independent cohort's models of one seed as the standard demo has it.

  The differences on it are those over all seeds.
  """
  folder = workdir / "independent" / f"seed_{seed}"
  trainings = trainings_of("independent", recipe.few_labels)
  runs = {training.name: folder / training.folder for training in trainings}
  with clock("other input"):
    outside = meet_other_input(runs[MAIN.name], recipe.clips)
  cohort = results["independent"]
  result = DemoResult(
    recipe, {name: seeds[0] for name, seeds in cohort.estimates.items()},
    cohort.comparisons, outside, clock.seconds, seed,
    stages.origin(runs[MAIN.name], "echo-jax demo --full"),
  )  # fmt: skip
  write_demo_page(folder, result, runs)
  return result


def plain_results(results: Mapping[str, CohortResult]) -> dict[str, Any]:
  """Everything as plain values, for JSON."""
  return {
    cohort: {
      "estimates": {
        name: [
          {metric: e.to_dict() for metric, e in seed.items()} for seed in found
        ]
        for name, found in result.estimates.items()
      },
      "comparisons": {
        name: e.to_dict() for name, e in result.comparisons.items()
      },
    }
    for cohort, result in results.items()
  }


def format_results(results: Mapping[str, CohortResult]) -> str:
  """Markdown tables, one a cohort."""
  parts = []
  for cohort, result in results.items():
    first = result.estimates[MAIN.name][0]["mae"]
    constant = result.estimates["training mean"][0]["mae"].value
    parts += [
      f"## {cohort} cohort: {first.rows} test videos of {first.patients} "
      "patients",
      "",
      "| model | MAE of each seed (95 % CI), EF points | mean | x training "
      "mean | R² of each seed | MAE of main model minus this |",
      "|---|---|---|---|---|---|",
    ]
    for name, found in result.estimates.items():
      mae = [seed["mae"] for seed in found]
      mean = float(np.mean([e.value for e in mae]))
      each = ", ".join(f"{e.value:.1f} ({e.low:.1f}–{e.high:.1f})" for e in mae)
      r2 = ", ".join(f"{seed['r2'].value:.2f}" for seed in found)
      other = result.comparisons.get(name)
      difference = (
        f"{other.value:.1f} ({other.low:.1f} to {other.high:.1f})"
        if other
        else ""
      )
      parts.append(
        f"| {name} | {each} | {mean:.1f} | {mean / constant:.2f} | {r2} | "
        f"{difference} |"
      )
    parts.append("")
  return "\n".join(parts)
