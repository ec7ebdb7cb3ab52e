"""The clinical table: wrong units refused by name, missing stays missing."""

import math

import numpy as np
import pytest

from echo_jax.data.clinical import (
  CLINICAL,
  GENETIC,
  Column,
  check_row,
  encode,
  measure,
)

TABLE = (
  Column("height_cm", "number", "cm", 30, 250, (("m", 100.0),)),
  Column("sex", "category", categories=("F", "M")),
  Column("nt_probnp_pg_ml", "logarithm", "pg/ml", 1, 300_000),
  Column("carrier_ttn", "category", categories=("no", "yes")),
)
ROWS = (
  {"height_cm": 160, "sex": "F", "nt_probnp_pg_ml": 100.0, "carrier_ttn": 1},
  {"height_cm": 180, "sex": "M", "nt_probnp_pg_ml": math.nan},
  {"height_cm": None, "sex": "", "nt_probnp_pg_ml": "10000", "carrier_ttn": 0},
)


@pytest.mark.parametrize(
  "row, words",
  [
    ({"height_cm": 1.78}, (
      "height_cm is 1.78 cm", "30 to 250 cm", "in m it would be 178 cm",
      "multiply by 100",
    )),
    ({"weight_kg": 72_000}, ("72000 kg", "in g it would be 72 kg")),
    ({"systolic_mmhg": 16.5}, ("in kPa it would be 123.8 mmHg", "in cmHg")),
    ({"creatinine_mg_dl": 88}, ("in umol/l it would be 0.9955 mg/dl",)),
    ({"age_years": -1}, ("-1 years", "Correct it, or leave it empty")),
    ({"age_years": math.inf}, ("inf years", "0 to 120 years")),
    ({"height_cm": "1.78 m"}, ("'1.78 m'", "wants a number in cm")),
    ({"sex": "female"}, ("'female'", "('F', 'M')")),
    ({"diabetes": 2}, ("diabetes is 2", "('no', 'yes')")),
    ({"height": 178}, ("['height'] are not in the table", "height_cm")),
  ],
)  # fmt: skip
def test_what_could_be_misread_is_refused(row, words):
  with pytest.raises(ValueError) as refused:
    check_row(row, CLINICAL + GENETIC)
  for word in words:
    assert word in str(refused.value)


def test_stated_units_are_compared():
  check_row({"height_cm": 178}, TABLE, {"height_cm": "cm"})
  with pytest.raises(ValueError, match="stated in 'm', wants 'cm': multiply"):
    check_row({"height_cm": 178}, TABLE, {"height_cm": "m"})
  with pytest.raises(ValueError, match="'feet', wants 'cm'; convert it"):
    check_row({"height_cm": 178}, TABLE, {"height_cm": "feet"})


def test_plausible_and_missing_values_pass():
  check_row(
    {
      "age_years": 0, "height_cm": np.float32(178), "weight_kg": "", "sex": " ",
      "diabetes": True, "nt_probnp_pg_ml": None, "carrier_ttr": np.int64(1),
      "polygenic_score_sd": -2.5, "creatinine_mg_dl": math.nan,
    },
    CLINICAL + GENETIC,
  )  # fmt: skip


def test_statistics_and_codes_by_hand():
  """Heights 160, 180: mean 170, std 10; ln 100, ln 10000: std ln 10."""
  statistics = measure(ROWS, TABLE)
  np.testing.assert_allclose(
    statistics.mean, [170, 3 * math.log(10)], rtol=1e-12
  )
  np.testing.assert_allclose(statistics.std, [10, math.log(10)], rtol=1e-12)
  numbers, codes = encode(ROWS, TABLE, statistics)
  assert numbers.dtype == np.float32 and codes.dtype == np.int32
  np.testing.assert_allclose(
    numbers, [[-1, -1], [1, np.nan], [np.nan, 1]], rtol=1e-6
  )
  np.testing.assert_array_equal(codes, [[0, 1], [1, -1], [-1, 0]])


def test_a_constant_column_stays_finite_and_an_empty_one_is_missing():
  """Seven times 169.9 has a deviation of 3e-14 by rounding."""
  statistics = measure([{"height_cm": 169.9}] * 7, TABLE)
  assert statistics.std == (1.0, 1.0) and np.isnan(statistics.mean[1])
  numbers, codes = encode([], TABLE, statistics)
  assert numbers.shape == codes.shape == (0, 2)
  row = {"height_cm": 171.9, "nt_probnp_pg_ml": 300}
  numbers, _ = encode([row], TABLE, statistics)
  np.testing.assert_allclose(numbers, [[2.0, np.nan]], rtol=1e-5)


def test_a_wrong_value_stops_the_whole_table():
  with pytest.raises(ValueError, match="height_cm is 1.78 cm"):
    encode([*ROWS, {"height_cm": 1.78}], TABLE, measure(ROWS, TABLE))


@pytest.mark.parametrize(
  "given",
  [
    {"kind": "float"},
    {"kind": "category"},
    {"kind": "number", "categories": ("a",)},
    {"kind": "logarithm", "low": 0.0},
  ],
)
def test_columns_that_make_no_sense_are_refused(given):
  with pytest.raises(ValueError, match="column 'x'"):
    Column("x", **given)
