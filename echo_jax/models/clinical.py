"""Clinical encoder: one token a column, a learned one where it is missing.

Axes: b patient, d width, n token.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from echo_jax.models.trunk import Trunk

MISSING = -1  # the code of a missing category; a missing number is NaN


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
    tokens = [self.number_tokens(jnp.asarray(numbers))] if self.numbers else []
    for i, classes in enumerate(self.classes):
      # Code -1 is the last row of the table: the missing one.
      table = nn.Embed(
        classes + 1, self.trunk.width, dtype=self.trunk.dtype,
        name=f"category_{i}",
      )  # fmt: skip
      code = jnp.asarray(categories)[:, i]
      strange = (code < MISSING) | (code >= classes)
      row = jnp.where(code == MISSING, classes, code)
      token = jnp.where(strange[:, None], jnp.nan, table(row))
      tokens.append(token[:, None].astype(self.trunk.dtype))
    x = jnp.concatenate(tokens, axis=1)
    return self.trunk(x, jnp.ones(x.shape[:2], bool))

  def number_tokens(
    self, numbers: Float[Array, "b numbers"]
  ) -> Float[Array, "b numbers d"]:
    """One token a number column."""
    shape = (self.numbers, self.trunk.width)
    init = nn.initializers.normal(self.trunk.width**-0.5)
    weight, bias, missing = (
      self.param(f"number_{name}", init, shape).astype(self.trunk.dtype)
      for name in ("weight", "bias", "missing")
    )
    known = ~jnp.isnan(numbers)[..., None]
    value = jnp.where(known, numbers[..., None], 0).astype(self.trunk.dtype)
    return jnp.where(known, value * weight + bias, missing)

  def check_shape(self, numbers: int, categories: int) -> None:
    """Refuses a table of other columns than the encoder was made for."""
    if (numbers, categories) != (self.numbers, len(self.classes)):
      raise ValueError(
        f"the table has {numbers} number and {categories} category columns, "
        f"the encoder was made for {self.numbers} and {len(self.classes)}"
      )
    if not self.numbers + len(self.classes):
      raise ValueError("the encoder has no column; give it at least one")
