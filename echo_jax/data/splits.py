"""Which part of a data set a patient belongs to, from a hash of the patient.

The rule needs no list of the others: it gives the same answer on every
machine, in every order, and when patients are added later.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from echo_jax.data import schema

DEFAULT_SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}


def split_of(patient_id: str, shares: Mapping[str, float]) -> str:
  """The split of a patient.

  Args:
    patient_id: as the record has it; the same text gives the same split.
    shares: fraction of the patients for each split, in sum 1; see
      `check_shares`.
  """
  digest = hashlib.sha256(patient_id.encode("utf-8")).digest()
  place = int.from_bytes(digest[:8], "big") / 2**64  # uniform in [0, 1)
  edge = 0.0
  for name in schema.SPLITS:
    edge += shares.get(name, 0.0)
    if place < edge:
      return name
  return max(shares, key=shares.__getitem__)  # the sum was 1 - rounding


def in_fraction(
  patient_id: Sequence[str], fraction: float | int, seed: int = 0
) -> Bool[np.ndarray, "n"]:
  """Which rows are of a fraction of the patients, one patient at least.

  Patients come in an order that the seed draws, so that a smaller fraction is
  part of a larger one; `fraction` of them are taken, rounded.

  Raises:
    ValueError: a fraction that is not above 0 and up to 1.
  """
  if not 0 < fraction <= 1:
    raise ValueError(f"a fraction of {fraction:g} is not above 0 and up to 1")

  def place(patient: str) -> bytes:
    return hashlib.sha256(f"{seed} {patient}".encode()).digest()

  patients = sorted(set(patient_id), key=place)
  count = max(math.floor(fraction * len(patients) + 0.5), 1)
  return np.isin(np.asarray(patient_id, str), patients[:count])


def check_shares(shares: Mapping[str, float]) -> None:
  """Refuses fractions that do not part the patients.

  Raises:
    ValueError: names the split, its share and what is allowed.
  """
  for name, share in shares.items():
    if name not in schema.SPLITS:
      raise ValueError(f"no split {name!r}; there are {schema.SPLITS}")
    if not 0 <= share <= 1:
      raise ValueError(f"the share of {name} is {share:g}, wants 0 to 1")
  if not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
    raise ValueError(f"shares sum to {sum(shares.values()):g}, want 1")


def parse_shares(text: str) -> dict[str, float]:
  """Reads `train=0.7,validation=0.15,test=0.15`.

  Raises:
    ValueError: text of another form, or shares that are refused.
  """
  shares: dict[str, float] = {}
  for part in text.split(","):
    name, _, share = part.partition("=")
    try:
      shares[name.strip()] = float(share)
    except ValueError as error:
      raise ValueError(
        f"splits {text!r}: {part!r} is not NAME=FRACTION, as in "
        "train=0.7,validation=0.15,test=0.15"
      ) from error
  check_shares(shares)
  return shares
