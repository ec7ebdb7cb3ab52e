"""Figures hold the numbers that they show."""

import numpy as np
import pytest

from echo_jax.evaluation import figures


@pytest.fixture
def rows():
  rng = np.random.default_rng(0)
  truth = rng.uniform(20, 70, 80)
  return truth, truth + rng.normal(1, 5, 80)


def texts(figure):
  axes = figure.axes[0]
  return [text.get_text() for text in axes.texts]


def test_agreement_figures(rows):
  truth, prediction = rows
  figure = figures.scatter_figure(
    truth, prediction, label="Ejection fraction", unit="%", note="MAE 4 %"
  )
  axes = figure.axes[0]
  assert axes.get_xlabel() == "True ejection fraction (%)"
  assert axes.get_title() == "MAE 4 %"
  shown = axes.collections[0].get_offsets()
  np.testing.assert_allclose(shown, np.stack((truth, prediction), 1))
  figure = figures.bland_altman_figure(truth, prediction, label="EF", unit="%")
  error = prediction - truth
  top = error.mean() + 1.96 * error.std(ddof=1)
  assert f"bias: {error.mean():.1f}" in texts(figure)
  assert f"+1.96 SD: {top:.1f}" in texts(figure)


def test_curves(rows):
  truth, prediction = rows
  positive = (truth < 45).astype(float)
  chance = 1 / (1 + np.exp((prediction - 45) / 5))
  for draw in (figures.roc_figure, figures.precision_recall_figure):
    figure = draw(positive, chance, label="EF below 45 %", threshold=0.4)
    assert "threshold 0.4" in texts(figure)
  first, second = (
    figures.encode_png(
      figures.reliability_figure(positive, chance, label="EF below 45 %")
    )
    for _ in range(2)
  )
  assert first[:4] == b"\x89PNG" and first == second
  few = figures.encode_png(
    figures.reliability_figure(positive, chance, label="EF below 45 %"),
    colours=16,
  )
  assert few[:4] == b"\x89PNG" and 1_000 < len(few) < len(first) / 2
  with pytest.raises(ValueError, match="both classes"):
    figures.roc_figure(np.ones(80), chance, label="EF")


def test_learning_figure():
  figure = figures.learning_figure(
    {"training": ([0, 10], [1.0, 0.5]), "validation": ([0], [1.1])}
  )
  legend = figure.axes[0].get_legend().get_texts()
  assert [text.get_text() for text in legend] == ["training", "validation"]
  with pytest.raises(ValueError, match="no curve"):
    figures.learning_figure({})


def test_figures_refuse_what_they_would_hide(rows):
  truth, prediction = rows
  with pytest.raises(ValueError, match="finite"):
    figures.scatter_figure(np.where(truth > 60, np.nan, truth), prediction,
                           label="EF")  # fmt: skip
  with pytest.raises(ValueError, match="non-empty"):
    figures.bland_altman_figure([], [], label="EF")


def test_sweep_figure_has_every_run_and_a_line_through_means():
  nan = float("nan")
  runs = {
    "tube": [(0.5, 4.0, 3.5, 4.5), (0.9, 6.0, nan, nan), (0.5, 5.0, 4.0, 6.0)],
    "token": [(0.5, 7.0, 6.0, 8.0)],
  }
  figure = figures.sweep_figure(runs, title="t", x_label="ratio", y_label="MAE")
  axes = figure.axes[0]
  through = [line for line in axes.lines if line.get_label() == "tube"]
  np.testing.assert_array_equal(
    through[0].get_xydata(), [[0.5, 4.5], [0.9, 6.0]]
  )
  points = [line.get_xydata() for line in axes.lines if len(line.get_xydata())]
  assert any(len(one) == 3 and (one == [0.9, 6.0]).all(1).any()
             for one in points)  # fmt: skip
  segments = axes.collections[0].get_segments()
  np.testing.assert_allclose([s[:, 1] for s in segments][0], [3.5, 4.5])
  assert axes.get_legend() is not None
  with pytest.raises(ValueError, match="no run to draw"):
    figures.sweep_figure({}, title="t", x_label="x", y_label="y")
