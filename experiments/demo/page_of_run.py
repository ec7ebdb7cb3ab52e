"""What stands on the demo's page, section by section."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from echo_jax import experiment
from echo_jax.data.clips import choose_frames
from echo_jax.data.contract import InputContract, draw_clip
from echo_jax.data.schema import Record
from experiments.demo import page


def write_demo_page(
  workdir: Path, result: Any, runs: Mapping[str, Path]
) -> None:
  """Draws `demo.html` from a `DemoResult` and the runs it came from."""
  warning = page.paragraph(
    f"{result.recipe.patients} patients and "
    f"{result.recipe.finetune_steps} steps: too few for numbers to mean "
    "anything; this only shows that everything runs."
  )
  page.write_page(
    workdir / "demo.html",
    [
      warning if result.recipe.finetune_steps < 100 else "",
      _results(result),
      _pictures(workdir),
      _main_figures(next(iter(runs.values()))),
      _curves(workdir, runs),
      _outside(result),
      _times(result),
    ],
  )


def _results(result: Any) -> str:
  constant = result.estimates["training mean"]["mae"].value
  rows = [
    (
      name, _interval(found["mae"], 1), f"{found['mae'].value / constant:.2f}",
      _interval(found["r2"], 2),
    )
    for name, found in result.estimates.items()
  ]  # fmt: skip
  paired = [
    (name, _interval(found, 1), f"{found.p:.4f}")
    for name, found in result.comparisons.items()
  ]
  first = next(iter(result.estimates.values()))["mae"]
  return page.section(
    "Ejection fraction on unseen patients",
    page.paragraph(
      f"{first.rows} videos of {first.patients} simulated patients whom the "
      "models never saw; EF was drawn apart from volume, heart rate and "
      "device, so that it must be read from motion. Value and 95 % interval "
      f"(bootstrap by patient, {first.resamples} resamples, seed "
      f"{first.seed}); one training seed. The main model is the first row: "
      "mean, deviation, maximum and minimum over time of each slice's mean "
      "token (moments), the best head of those tried at this size."
    ),
    page.table(
      ("model", "MAE, EF points", "x training mean", "R²"), rows
    ),
    page.paragraph(
      "The last three rows are no models: the mean EF of the training videos, "
      "and regressions on true values that a still picture could at best give."
    ),
    page.table(
      ("MAE of the main model minus that of", "difference", "p"), paired
    ),
  )


def _interval(estimate: Any, digits: int) -> str:
  return (
    f"{estimate.value:.{digits}f} "
    f"({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"
  )


def _pictures(workdir: Path) -> str:
  built = experiment.rebuild(workdir / "mae")
  split = built.config["data"]["validation_split"]
  video = next(built.open_clips(split, 1)[1])["video"]
  interval_ms = 1000 * built.contract.span_s / built.contract.frames
  names = ("clip", "what the encoder sees", "what the decoder fills in")
  moving = [
    page.figure(page.moving_picture(frames, interval_ms), name, kind="pixels")
    for frames, name in zip(
      page.reconstruct(built, workdir / "mae", video), names, strict=True
    )
  ]
  ratio = built.config["mask"]["ratio"]
  return page.section(
    "Masked reconstruction",
    page.paragraph(
      f"A validation clip; {ratio:.0%} of the tokens are hidden. The decoder "
      "predicts values normalised a tubelet; mean and deviation of each "
      "hidden tubelet are the true ones."
    ),
    *moving,
  )


def _main_figures(workdir: Path) -> str:
  return page.section(
    "Predicted against true",
    page.figure(
      (workdir / "figures" / "ef_pct_scatter.png").read_bytes(),
      "Mean over a video's clips against the simulated truth.",
    ),
    page.figure(
      (workdir / "figures" / "ef_pct_bland_altman.png").read_bytes(),
      "Prediction minus truth against their mean, with limits of agreement.",
    ),
  )


def _curves(workdir: Path, runs: Mapping[str, Path]) -> str:
  return page.section(
    "Learning curves",
    page.figure(
      page.learning_curves(
        {"pre-training": workdir / "mae"}, "loss", "Reconstruction error"
      ),
      "Validation patients; guessing every tubelet's mean would give 1.",
    ),
    page.figure(
      page.learning_curves(dict(runs), "mae_ef_pct", "MAE, EF points"),
      "Fine-tuning, validation patients.",
    ),
  )


def _outside(result: Any) -> str:
  if result.outside.real is None:
    return page.section(
      "Other input", page.paragraph(f"Not measured: {result.outside.reason}.")
    )
  record = result.outside.real.record
  contract = InputContract(frames=16, span_s=0.9, size=224)
  frames = _preview(record, contract)
  said = [
    page.paragraph(line) for line in str(result.outside.real).splitlines()
  ]
  return page.section(
    "Input that the model was not trained on",
    page.paragraph(
      "Distance of the embedding from the training videos; the limit is the "
      "95th percentile on validation patients."
    ),
    page.table(
      ("input", "flagged", "videos"),
      [
        (name, str(count), str(total))
        for name, (count, total) in result.outside.flagged.items()
      ],
    ),
    page.figure(
      page.moving_picture(frames, 1000 * contract.span_s / contract.frames),
      "A real apical four-chamber clip (pydicom's examples_ybr_color). Its "
      "region does not fit its picture, so spacing is unknown.",
    ),
    *said,
  )


def _preview(record: Record, contract: InputContract) -> np.ndarray:
  clip = choose_frames(
    record["frame_time_ms"], contract.frames, contract.span_s
  )
  return draw_clip(record, clip, contract)[..., 0]


def _times(result: Any) -> str:
  rows = [(name, f"{s:.0f} s") for name, s in result.seconds.items()]
  return page.section("Wall time", page.table(("stage", "time"), rows))
