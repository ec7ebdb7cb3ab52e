"""The split of a patient: fixed, proportional, independent of the others."""

import pytest

from echo_jax.data.splits import (
  DEFAULT_SHARES,
  in_fraction,
  parse_shares,
  split_of,
)

PINNED = [
  "validation",
  "train",
  "train",
  "test",
  "train",
  "train",
  "train",
  "train",
]


def test_split_is_pinned():
  """Hashes are the same on every machine: these answers never change."""
  places = [split_of(f"x:{i}", DEFAULT_SHARES) for i in range(8)]
  assert places == PINNED


def test_shares_come_out():
  places = [split_of(f"x:{i}", DEFAULT_SHARES) for i in range(4000)]
  for name, share in DEFAULT_SHARES.items():
    assert places.count(name) / 4000 == pytest.approx(share, abs=0.02)
  assert split_of("x:1", {"pretrain": 1.0}) == "pretrain"


def test_shares_are_read():
  shares = parse_shares("train=0.5, test=0.5")
  assert shares == {"train": 0.5, "test": 0.5}


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    ("train=0.5", "sum to 0.5"),
    ("train=2,test=-1", "train is 2"),
    ("learn=1", "no split 'learn'"),
    ("train", "not NAME=FRACTION"),
    ("train=half,test=0.5", "not NAME=FRACTION"),
  ],
)
def test_bad_shares_are_refused(text, reason):
  with pytest.raises(ValueError, match=reason):
    parse_shares(text)


def test_a_fraction_is_of_patients_and_holds_every_smaller_one():
  patients = [f"x:{i // 3}" for i in range(90)]  # thirty, three rows each
  taken = {f: in_fraction(patients, f) for f in (0.01, 0.05, 0.1, 0.5, 1.0)}
  assert [taken[f].sum() / 3 for f in taken] == [1, 2, 3, 15, 30]
  for rows in taken.values():
    assert (rows.reshape(30, 3).all(1) == rows.reshape(30, 3).any(1)).all()
  for small, large in zip(taken, list(taken)[1:], strict=False):
    assert (taken[small] <= taken[large]).all()
  # Of the patients alone: neither their order nor how many rows they have.
  few = in_fraction(["x:2", "x:1", *(f"x:{i}" for i in range(30))], 0.1)
  assert (few[2:] == taken[0.1][::3]).all()
  assert (in_fraction(patients, 0.5, seed=1) != taken[0.5]).any()


@pytest.mark.parametrize("fraction", [0, -0.5, 1.01, float("nan")])
def test_a_fraction_that_is_none_is_refused(fraction):
  with pytest.raises(ValueError, match="not above 0 and up to 1"):
    in_fraction(["x:1"], fraction)
