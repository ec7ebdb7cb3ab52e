"""The split of a patient: fixed, proportional, independent of the others."""

import pytest

from echo_jax.data.splits import DEFAULT_SHARES, parse_shares, split_of

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
