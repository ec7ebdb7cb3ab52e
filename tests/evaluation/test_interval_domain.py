"""Prediction intervals and the distance from the training domain."""

import numpy as np
import pytest

from echo_jax.evaluation.domain import Domain, fit_domain
from echo_jax.evaluation.interval import fit_interval


def test_half_width_is_the_finite_sample_quantile():
  truth = np.zeros(19)
  got = fit_interval(truth, np.arange(1.0, 20), coverage=0.9)
  assert got.half_width == 18  # ceil(20 * 0.9) = 18th smallest of 19
  assert fit_interval(truth, np.arange(1.0, 20), coverage=0.95).half_width == 19
  low, high = got.around(50.0, 0, 100)
  assert (low, high) == (32, 68)
  assert got.around(95.0, 0, 100)[1] == 100


@pytest.mark.parametrize(("coverage", "n"), [(0.9, 9), (0.95, 19), (0.8, 4)])
def test_needs_enough_patients(coverage, n):
  fit_interval(np.zeros(n), np.ones(n), coverage=coverage)
  with pytest.raises(ValueError, match=f"it needs {n}"):
    fit_interval(np.zeros(n - 1), np.ones(n - 1), coverage=coverage)
  with pytest.raises(ValueError, match="too few"):  # many rows, few patients
    fit_interval(
      np.zeros(50), np.ones(50), coverage=coverage,
      patient_id=np.arange(50) % (n - 1),
    )  # fmt: skip


def test_coverage_holds_whatever_the_distribution():
  rng = np.random.default_rng(0)
  inside = []
  for _ in range(400):
    error = rng.standard_t(2, size=(35, 1)) + rng.normal(0, 0.3, (35, 3))
    person = np.arange(30).repeat(3)
    got = fit_interval(
      np.zeros(90), error[:30].ravel(), coverage=0.9, patient_id=person
    )
    inside.append((abs(error[30:, 0]) <= got.half_width).mean())
  assert 0.89 <= np.mean(inside) <= 0.94


def test_rows_of_one_patient_share_its_weight():
  error = np.concatenate((np.arange(1.0, 20), np.full(500, 0.1)))
  person = np.concatenate((np.arange(19), np.full(500, 19)))
  got = fit_interval(np.zeros(519), error, coverage=0.9, patient_id=person)
  assert got.half_width == 18 and got.patients == 20  # 1 + 18 of 21 people


@pytest.mark.parametrize(
  ("truth", "coverage", "message"),
  [
    ([0.0, np.nan], 0.5, "finite"),
    ([0.0, 0.0], 1.0, "coverage is 1"),
    ([[0.0, 0.0]], 0.5, "rows"),
  ],
)
def test_interval_refuses(truth, coverage, message):
  with pytest.raises(ValueError, match=message):
    fit_interval(truth, [1.0, 2.0], coverage=coverage)


@pytest.mark.parametrize(("n", "d"), [(300, 16), (60, 128)])
def test_domain_flags_foreign_and_keeps_its_own(n, d):
  rng = np.random.default_rng(1)
  mix = rng.normal(size=(6, d))  # features of a network lie near a plane

  def draw(count):
    plane = rng.normal(size=(count, 6)) @ mix
    return plane + rng.normal(0, 0.3, (count, d))

  domain = fit_domain(draw(n).astype(np.float32), draw(200))
  assert domain.outside(draw(500)).mean() <= 0.10
  assert domain.outside(rng.normal(size=(50, d)) * mix.std() * 3).all()
  assert (domain.distance(draw(5)) < domain.distance(draw(5) + 20)).all()
  one = draw(1)
  assert domain.distance(one[0]) == domain.distance(one)


def test_domain_limit_is_the_validation_quantile_and_survives_a_file(tmp_path):
  rng = np.random.default_rng(2)
  train, validation = rng.normal(size=(50, 4)), rng.normal(size=(100, 4))
  train[:, 3] = validation[:, 3] = 1.0  # a dead feature
  domain = fit_domain(train, validation)
  assert domain.outside(validation).sum() == 4  # the 96th of 100 is the limit
  np.savez(tmp_path / "domain.npz", **domain.to_arrays())
  with np.load(tmp_path / "domain.npz") as arrays:
    again = Domain.from_arrays(arrays)
  assert (again.distance(validation) == domain.distance(validation)).all()
  assert again.threshold == domain.threshold and again.videos == 50


def test_domain_ignores_units_of_features():
  rng = np.random.default_rng(2)
  train, validation = rng.normal(size=(50, 4)), rng.normal(size=(30, 4))
  scale, shift = np.array([1, 10, 1e3, 1e-3]), np.array([0, 5, -3, 1e2])
  one = fit_domain(train, validation)
  other = fit_domain(train * scale + shift, validation * scale + shift)
  assert one.threshold == pytest.approx(other.threshold, rel=1e-6)


def test_domain_refuses():
  good = np.random.default_rng(0).normal(size=(30, 4))
  with pytest.raises(ValueError, match="30 training and 5 validation"):
    fit_domain(good, good[:5])
  with pytest.raises(ValueError, match="finite"):
    fit_domain(good, np.where(good > 2, np.nan, good))
  with pytest.raises(ValueError, match=r"want \[n, 4\]"):
    fit_domain(good, good).distance(good[:, :3])
