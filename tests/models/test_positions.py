"""Position codes against values worked out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.models.positions import sinusoid, sinusoid_grid, sinusoid_table


def test_table_by_hand():
  """Width 4: frequencies 1 and 1/100, sine and cosine interleaved."""
  table = sinusoid_table(3, 4)
  rows = [
    [np.sin(i), np.cos(i), np.sin(i / 100), np.cos(i / 100)] for i in range(3)
  ]
  np.testing.assert_array_equal(table, np.float32(rows))


def test_code_of_real_positions_continues_the_table():
  whole = sinusoid(jnp.arange(40).reshape(2, 20), 24)
  np.testing.assert_allclose(
    whole.reshape(40, 24), sinusoid_table(40, 24), atol=5e-6
  )
  half = sinusoid(jnp.array([2.5]), 4)[0]
  np.testing.assert_allclose(
    half, [np.sin(2.5), np.cos(2.5), np.sin(0.025), np.cos(0.025)], atol=1e-6
  )


def test_grid_by_hand():
  """Width 8 has 4 channels an axis, 12 in all, the last 4 cut off."""
  code = sinusoid_grid(3, 4, 5, 8)

  def axis(i):
    return [np.sin(i), np.cos(i), np.sin(i / 100), np.cos(i / 100)]

  np.testing.assert_allclose(code[2, 3, 4], axis(2) + axis(3), atol=1e-6)
  assert code.shape == (3, 4, 5, 8)


@pytest.mark.parametrize("width, channels", [(7, 4), (32, 12), (768, 256)])
def test_grid_gives_each_axis_its_share(width, channels):
  code = sinusoid_grid(2, 2, 2, width)
  moved = np.abs(code[1, 0, 0] - code[0, 0, 0]) > 0
  assert not moved[channels:].any() and moved[:2].all()
