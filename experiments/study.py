"""What pre-training, heads and objectives are worth on SynthEcho: all runs.

Ejection fraction and volumes of unseen patients, from A4C videos of 64 px.
Encoders are pre-trained on the training patients' videos, labels unseen; each
is then fine-tuned, or kept frozen, by the same recipe. Started again it goes
on: what is done is left alone, a run that was killed goes on from its last
checkpoint. Started twice at once, on a core each, two work on it side by side.
The table is made of the folders alone (`experiments/study_table.py`).

Example:
  python -m experiments.study --workdir runs/study --plan
  python -m experiments.study --workdir runs/study --minutes 60
  taskset -c 1 python -m experiments.study --workdir runs/study
"""

import argparse
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from echo_jax import experiment
from echo_jax.training.writers import locked
from experiments.demo import stages
from experiments.demo.recipe import (
  STANDARD,
  TINY,
  Recipe,
  as_words,
  finetune_settings,
  pretrain_settings,
  shared_settings,
)
from experiments.items import Item, print_plan, refuse_other, run_items
from experiments.paper.differences import FINETUNING, released
from experiments.study_table import Question, write_results

COHORT = "independent"
SEEDS = (0, 1, 2)
RECIPE = dataclasses.replace(STANDARD, pretrain_steps=2500)
UNSEEN_DEVICE, SEEN_DEVICE = "device-c", "device-a"
MAIN = "masked"
APART = "masked without a device"
MAE = "experiments.mae_pretrain"
JOINT = "experiments.joint_pretrain"
LATENT = "experiments.latent_pretrain"
CNN = "experiments.cnn_finetune"
FINETUNE = "experiments.ef_finetune"
# Encoders by name: the experiment that makes each, and what it sets beside
# the demo's recipe (single tokens, 75 % hidden).
PRETRAININGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
  MAIN: (MAE, {}),
  "masked 50 %": (MAE, {"mask.ratio": 0.5}),
  "masked 90 %": (MAE, {"mask.ratio": 0.9}),
  "masked in tubes": (MAE, {"mask.scheme": "tube"}),
  # 90 % asked for and 10 % hidden, as in the authors' script
  "masked with released polarity": (
    MAE, {"mask.ratio": 0.9, "mask.polarity": "released"},
  ),
  "masked with contrast of clips": (JOINT, {}),
  # moments are told apart where all of a slice is seen
  "masked with contrast by phase": (
    JOINT,
    {"weights.contrast": 0.0, "weights.phase": 0.2, "masked": False},
  ),
  "latent": (
    LATENT,
    {
      "predictor.width": 96, "predictor.depth": 2, "predictor.heads": 4,
      "run.average_decay": 0.996,
    },
  ),  # fmt: skip
  APART: (MAE, {"data.without": f"device={UNSEEN_DEVICE}"}),
}
RIVALS = tuple(name for name in PRETRAININGS if name not in (MAIN, APART))
FRACTIONS = (0.01, 0.05, 0.1, 0.5, 1.0)
# The same 90 % by name: hidden, and shown.
HIDING_LEAST = ("masked with released polarity", "masked 90 %")
FEW = 0.1  # of the labelled patients, where pre-trainings are compared
# With the map of whole slices that the demo leaves out for its size.
STF = {"head.name": "stf", "head.slice_mixer": "whole"}
HEADS: Mapping[str, Mapping[str, Any]] = {
  "max": {"head.name": "max"},
  "gru": {"head.name": "gru"},
  "STF-Net as described": STF,
  "STF-Net as released": STF | {
    k: v for k, v in released(FINETUNING).items() if k.startswith("head.")
  },
}  # fmt: skip
# Whether what came out is for want of training, or of its rate.
AS_LONG = RECIPE.pretrain_steps + RECIPE.finetune_steps
RATES = {"half": 0.5, "twice": 2.0}
RANDOM = "random weights, frozen"
STARTS = {"pre-trained": MAIN, "from scratch": ""}


@dataclasses.dataclass(frozen=True)
class Arm:
  """A way of training on labels.

  Attributes:
    encoder: of `PRETRAININGS`; "" begins with random weights.
    settings: beside the recipe's.
    module: the experiment.
  """

  encoder: str
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  module: str = FINETUNE


def named(start: str, share: float) -> str:
  """Name of the arm that has labels of a share of the training patients."""
  return f"{start}, {100 * share:g} % of labels"


def at_rate(start: str, word: str) -> str:
  """Name of the arm that has all labels and another rate."""
  return f"{start}, {word} the rate"


def arms() -> dict[str, Arm]:
  """What is trained and judged, by name."""
  found = {
    named(start, share): Arm(encoder, {"data.train_fraction": share})
    for share in reversed(FRACTIONS)
    for start, encoder in STARTS.items()
  }
  for name in RIVALS:
    found[named(name, FEW)] = Arm(name, {"data.train_fraction": FEW})
  for name in (MAIN, *RIVALS):
    found[f"{name}, frozen"] = Arm(name, {"optimizer.freeze": "^encoder/"})
  without = {"data.without": f"device={UNSEEN_DEVICE}"}
  for start, encoder in STARTS.items():
    for name, head in HEADS.items():
      found[f"{name}, {start}"] = Arm(encoder, head)
    found[f"without a device, {start}"] = Arm(
      encoder and APART, without
    )  # fmt: skip
  for share in (1.0, FEW):
    found[named("CNN", share)] = Arm("", {"data.train_fraction": share}, CNN)
  found[RANDOM] = Arm("", {"optimizer.freeze": "^encoder/"})
  return found | second_looks()


def second_looks() -> dict[str, Arm]:
  """Both starts with as many steps as both trainings have, or another rate."""
  found = {
    named(f"{start} as long", share): Arm(
      encoder, {"data.train_fraction": share, **steps_of(AS_LONG)}
    )
    for share in (1.0, FEW)
    for start, encoder in STARTS.items()
  }
  rate = finetune_settings(RECIPE, "moments")["optimizer.rate"]
  for start, encoder in STARTS.items():
    for word, times in RATES.items():
      found[at_rate(start, word)] = Arm(
        encoder, {"optimizer.rate": times * rate}
      )  # fmt: skip
  return found


def steps_of(steps: int) -> dict[str, Any]:
  """Settings of so many steps of fine-tuning."""
  return {"run.steps": steps, "optimizer.warmup_steps": steps // 10}


def questions() -> tuple[Question, ...]:
  """Which arms are compared, in the order of the table and of the work."""
  asked = [
    Question("Labels", *(named(start, share) for start in STARTS))
    for share in reversed(FRACTIONS)
  ]
  for start in STARTS:
    asked += [
      Question("Heads", f"{name}, {start}", named(start, 1.0))
      for name in HEADS
    ] + [
      Question("Heads", f"STF-Net as described, {start}", other)
      for other in (f"max, {start}", f"STF-Net as released, {start}")
    ]
  asked += [
    Question(
      "Start of other heads (asked after its arms were seen)",
      *(f"{name}, {start}" for start in STARTS),
    )
    for name in HEADS
  ]
  return (*asked, *questions_of_device(), *questions_of_length(),
          *questions_of_pretraining(), *questions_of_cnn(),
          *questions_of_frozen(), *questions_of_rate())  # fmt: skip


def questions_of_cnn() -> Iterator[Question]:
  """Against the transformer, with all and with few labels."""
  for share in (1.0, FEW):
    for start in STARTS:
      yield Question("CNN", named("CNN", share), named(start, share))


def questions_of_device() -> Iterator[Question]:
  """On the device left out; on another, what fewer patients cost."""
  apart = [f"without a device, {start}" for start in STARTS]
  for device in (UNSEEN_DEVICE, SEEN_DEVICE):
    for name, start in zip(apart, STARTS, strict=True):
      yield Question("Unseen device", name, named(start, 1.0), device)
  yield Question("Unseen device", *apart, UNSEEN_DEVICE)


def questions_of_pretraining() -> Iterator[Question]:
  """Each way against the main one, with few labels."""
  for name in RIVALS:
    yield Question("Pre-training", named(name, FEW), named("pre-trained", FEW))
  yield Question("Pre-training", *(named(name, FEW) for name in HIDING_LEAST))


def questions_of_frozen() -> Iterator[Question]:
  """What each encoder tells a head that alone is trained, with all labels."""
  frozen = f"{MAIN}, frozen"
  for other in (RANDOM, named("pre-trained", 1.0)):
    yield Question("Frozen", frozen, other)
  for name in RIVALS:
    yield Question("Frozen", f"{name}, frozen", frozen)


def questions_of_length() -> Iterator[Question]:
  """Whether pre-training is worth more than its steps."""
  section = "Training as long as both"
  longer = {
    share: [named(f"{start} as long", share) for start in STARTS]
    for share in (1.0, FEW)
  }
  for share, (_, scratch) in longer.items():
    for start in STARTS:
      yield Question(section, scratch, named(start, share))
  for pair in longer.values():
    yield Question("Both as long (asked after scratch was seen)", *pair)


def questions_of_rate() -> Iterator[Question]:
  """Whether another rate changes what is said of pre-training."""
  section = "Rates (asked after the study's own rate was seen)"
  for word in RATES:
    for start in STARTS:
      yield Question(section, at_rate(start, word), named(start, 1.0))
    yield Question(section, *(at_rate(start, word) for start in STARTS))


def label_shares() -> dict[str, dict[str, float]]:
  """For the figure of labels: by start, arms and their share of patients."""
  return {
    start: {named(start, share): share for share in FRACTIONS}
    for start in STARTS
  }


def list_items(seeds: Sequence[int] = SEEDS) -> tuple[Item, ...]:
  """Every training, in the order of the questions, encoders before their arms.

  All seeds of one come before the next, so that what is done of a study is
  done for every seed.
  """
  names: dict[str, None] = {}
  for name in (name for asked in questions() for name in asked.names):
    if encoder := arms()[name].encoder:
      names[encoder_item(encoder)] = None
    names[name] = None
  return tuple(Item(name, (), seed) for name in names for seed in seeds)


def needs_of(item: Item) -> tuple[Item, ...]:
  """The pre-training that an item begins from."""
  arm = arms().get(item.name)
  if arm is None or not arm.encoder:
    return ()
  return (Item(encoder_item(arm.encoder), (), item.seed),)


def encoder_item(name: str) -> str:
  """Name of the item that pre-trains an encoder."""
  return f"encoder {name}"


def settings_of(
  item: Item, workdir: Path, recipe: Recipe
) -> tuple[str, dict[str, Any]]:
  """The experiment of an item and all that it sets."""
  settings = shared_settings(
    recipe, workdir / "data", f"synthetic_echo_{COHORT}", item.seed
  )
  encoders = {encoder_item(name): of for name, of in PRETRAININGS.items()}
  if item.name in encoders:
    module, own = encoders[item.name]
    common = pretrain_settings(recipe)
    if module == LATENT:  # it has masks of its own and no decoder
      common = {
        name: value for name, value in common.items()
        if not name.startswith(("mask.", "decoder."))
      }  # fmt: skip
    return module, settings | common | dict(own)
  arm = arms()[item.name]
  # Every seed has its own draw of labelled patients, the same for all arms.
  settings["data.fraction_seed"] = item.seed
  if arm.module == CNN:
    settings = {
      name: value for name, value in settings.items()
      if not name.startswith("encoder.")
    }  # fmt: skip
    return CNN, settings | {"run.steps": recipe.finetune_steps} | dict(
      arm.settings
    )
  start = "".join(str(one.folder(workdir)) for one in needs_of(item))
  head = arm.settings.get("head.name", "moments")
  settings |= finetune_settings(recipe, head, start)
  return arm.module, settings | dict(arm.settings)


def run_item(
  item: Item, workdir: Path, recipe: Recipe, *, progress: bool = True
) -> None:
  """Trains one; judges it where it predicts something."""
  module, settings = settings_of(item, workdir, recipe)
  folder = item.folder(workdir)
  built = experiment.prepare(module, as_words(settings))
  experiment.run(built, folder, progress=progress)
  if item.name in arms():
    experiment.evaluate(
      built, folder, clips=recipe.clips, progress=False, draw=False
    )


def run_study(
  workdir: Path, items: Sequence[Item], recipe: Recipe, *,
  minutes: float | int = np.inf, progress: bool = True,
) -> bool:  # fmt: skip
  """Runs what is not done, as far as time allows; writes the results.

  Returns:
    Whether all of the items are done.
  """
  workdir = Path(workdir)
  for item in items:
    if item.seconds(workdir) is not None:
      module, settings = settings_of(item, workdir, recipe)
      refuse_other(item.folder(workdir), module, as_words(settings))
  with locked(workdir / "study.lock", wait=True):
    stages.build_data(recipe, workdir / "data", COHORT)
  done = run_items(
    workdir, items,
    lambda item: run_item(item, workdir, recipe, progress=progress),
    needs=needs_of, minutes=minutes,
  )  # fmt: skip
  if any(item.name in arms() for item in done):
    with locked(workdir / "study.lock", wait=True):
      write_results(
        workdir, items, questions(), label_shares(), recipe.resamples
      )
  return len(done) == len(items)


def main() -> int:
  """Plan, run, table; exit code 1 if something is left to do."""
  options = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  options.add_argument("--workdir", type=Path, required=True)
  options.add_argument("--seeds", type=int, default=len(SEEDS))
  options.add_argument(
    "--minutes", type=float, default=np.inf, help="begin nothing after it"
  )
  options.add_argument("--plan", action="store_true", help="print it, no more")
  options.add_argument("--tiny", action="store_true", help="for a first look")
  args = options.parse_args()
  items = list_items(range(args.seeds))
  if args.plan:
    print_plan(args.workdir, items)
    return 0
  recipe = TINY if args.tiny else RECIPE
  return 0 if run_study(
    args.workdir, items, recipe, minutes=args.minutes
  ) else 1  # fmt: skip


if __name__ == "__main__":
  raise SystemExit(main())
