"""Clinical encoder: one token a column, a learned one where it is missing.

Axes: b patient, d width, n token.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from echo_jax.models.layers import Codes
from echo_jax.models.trunk import Trunk

MISSING = -1  # the code of a missing category; a missing number is NaN


class NumberTokens(nn.Module):
  """weight * number + bias, each column with its own; a token if missing."""

  width: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, numbers: Float[Array, "b numbers"]
  ) -> Float[Array, "b numbers d"]:
    init = nn.initializers.normal(self.width**-0.5)
    shape = (numbers.shape[1], self.width)
    weight = self.param("weight", init, shape).astype(self.dtype)
    bias = self.param("bias", init, shape).astype(self.dtype)
    missing = self.param("missing", init, shape).astype(self.dtype)
    known = ~jnp.isnan(numbers)[..., None]
    value = jnp.where(known, numbers[..., None], 0).astype(self.dtype)
    return jnp.where(known, value * weight + bias, missing)


class ClinicalEncoder(nn.Module):
  """One vector of a row of standardised numbers and coded categories.

  A number becomes weight * number + bias and a category a row of its table,
  each column with its own (feature tokenizer of Gorishniy et al. 2021).  A
  missing value becomes the column's learned token, so that a test that was
  not ordered can mean something and is never taken for the mean.
  `classes` holds the number of classes of each category column.
  """

  trunk: Trunk
  numbers: int
  classes: tuple[int, ...] = ()

  @nn.compact
  def __call__(
    self,
    numbers: Float[Array | np.ndarray, "b numbers"],
    categories: Int[Array | np.ndarray, "b categories"],
    *,
    train: bool = False,
  ) -> tuple[Float[Array, "b d"], dict[str, Array]]:
    """NaN is a missing number, -1 a missing category; other codes give NaN."""
    del train  # no layer here behaves otherwise in training
    self.check_shape(numbers.shape[1], categories.shape[1])
    width, dtype = self.trunk.width, self.trunk.dtype
    tokens = [NumberTokens(width, dtype, name="number")(jnp.asarray(numbers))]
    for i, classes in enumerate(self.classes):
      code = jnp.asarray(categories)[:, i : i + 1]
      # The last code is that of a missing value, and no class may have it.
      code = jnp.where(code == classes, classes + 1, code)
      code = jnp.where(code == MISSING, classes, code)
      name = f"category_{i}"
      tokens.append(Codes(classes + 1, width, dtype, name=name)(code))
    x = jnp.concatenate(tokens, axis=1)
    return self.trunk(x, jnp.ones(x.shape[:2], bool))

  def check_shape(self, numbers: int, categories: int) -> None:
    """Refuses a table of other columns than the encoder was made for."""
    if (numbers, categories) != (self.numbers, len(self.classes)):
      raise ValueError(
        f"the table has {numbers} number and {categories} category columns, "
        f"the encoder was made for {self.numbers} and {len(self.classes)}"
      )
    if not self.numbers + len(self.classes):
      raise ValueError("the encoder has no column; give it at least one")
