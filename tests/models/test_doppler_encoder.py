"""Doppler encoder: the flow is seen, and not the zoom it was drawn at."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_signals import made_spectrum

from echo_jax.data.spectra import SpectrumGrid, resample_spectrum
from echo_jax.models.doppler import KINDS, DopplerEncoder
from echo_jax.models.trunk import Trunk

TRUNK = Trunk(width=8, depth=1, heads=2, mlp_ratio=2.0)
MODEL = DopplerEncoder(TRUNK, patch=8)
GRID = SpectrumGrid(rows=32, columns=48, step_cm_s=10.0, step_ms=20.0)
ZOOMED = {"cm_s": 0.7, "ms": 2.5, "zero_px": 240.0, "shape": (460, 700)}


def given(*, kind="pw", both=None, beyond="dark", **drawn):
  made = resample_spectrum(*made_spectrum(**drawn), GRID, beyond=beyond)
  shown = made.shown if both is None else made.shown & both
  return (
    made.spectrum[None], shown[None], made.velocity_cm_s[None],
    made.time_ms[None], np.array([KINDS.index(kind)], np.int32),
  )  # fmt: skip


@pytest.fixture(scope="module")
def encoder(fill):
  return fill(MODEL, *given()), jax.jit(MODEL.apply)


def test_shapes_and_parameters_by_hand(encoder):
  """32 x 48 cells in patches of 8: 24 tokens of 2 * 64 values."""
  variables, call = encoder
  embedding, features = call(variables, *given())
  assert embedding.shape == (1, 8) and embedding.dtype == jnp.float32
  assert features["tokens"].shape == (1, 24, 8)
  count = sum(leaf.size for leaf in jax.tree.leaves(variables))
  attention, mlp, norms = 4 * 64 + 3 * 8, 2 * 128 + 16 + 8, 3 * 16
  assert count == 128 * 8 + 8 + 3 * 8 + attention + mlp + norms


def test_the_zoom_does_not_show(encoder):
  """One flow, other pixels: other cm/s, ms, baseline, range, picture size."""
  variables, call = encoder
  base, _ = call(variables, *given())
  wide = {"cm_s": 1.2, "ms": 4.0, "zero_px": 130.0, "shape": (260, 500)}
  faster, _ = call(variables, *given(peak_cm_s=110.0))
  for zoom in (ZOOMED, wide):
    difference = np.abs(call(variables, *given(**zoom))[0] - base).max()
    assert difference < 1e-3
    assert np.abs(faster - base).max() > 10 * difference


def test_what_two_displays_share_is_seen_alike(encoder):
  """Nothing is taken for dark: only cells that both displays show count."""
  variables, call = encoder
  both = np.logical_and(
    *(given(beyond="unknown", **zoom)[1][0] for zoom in ({}, ZOOMED))
  )
  assert 0.7 < both.mean() < 1
  base, _ = call(variables, *given(both=both))
  zoomed, _ = call(variables, *given(both=both, **ZOOMED))
  assert np.abs(zoomed - base).max() < 1e-3


def test_the_same_pixels_at_another_scale_are_another_flow(encoder):
  """Half the velocity at twice the zoom: the picture is equal, not the flow."""
  variables, call = encoder
  picture, scale = made_spectrum()
  base, _ = call(variables, *given())
  for change in ({"cm_s": 0.5}, {"ms": 8.0}, {"zero_px": 180.0}):
    other = resample_spectrum(
      picture, type(scale)(**{**vars(scale), **change}), GRID
    )
    embedding, _ = call(
      variables, other.spectrum[None], other.shown[None], *given()[2:]
    )
    assert np.abs(embedding - base).max() > 1e-2


def test_patches_lie_at_velocities_and_times_not_at_rows_and_columns(encoder):
  """The axes are inputs: moved by a patch, the code moves with them."""
  velocity, time = GRID.velocity_cm_s, GRID.time_ms
  place = np.asarray(MODEL.patch_places(velocity[None], time[None]))
  place = place.reshape(4, 6, 8)
  down, later = velocity[None] - 80, time[None] + 160
  moved = np.asarray(MODEL.patch_places(down, later)).reshape(4, 6, 8)
  np.testing.assert_allclose(moved[:-1, :-1], place[1:, 1:], atol=1e-4)
  # First sine and cosine of the lowest patch: its middle is at -120 cm/s.
  np.testing.assert_allclose(
    place[3, 0, :2], [np.sin(-120), np.cos(-120)], atol=1e-4
  )


def test_what_was_not_shown_has_no_influence(encoder):
  variables, call = encoder
  values, shown, *rest = given(shape=(200, 200), beyond="unknown")
  assert not shown.all()
  base, _ = call(variables, values, shown, *rest)
  filled = np.where(shown, values, np.float32(np.nan))
  np.testing.assert_array_equal(call(variables, filled, shown, *rest)[0], base)
  dark, _ = call(variables, values, shown | True, *rest)
  assert np.abs(dark - base).max() > 1e-3  # dark is another statement


def test_kinds_differ_and_a_strange_one_gives_nan(encoder):
  variables, call = encoder
  base, _ = call(variables, *given())
  assert np.abs(call(variables, *given(kind="tdi"))[0] - base).max() > 1e-3
  for strange in (-1, 3):
    kind = np.array([strange], np.int32)
    assert np.isnan(call(variables, *given()[:4], kind)[0]).all()


def test_gradient_reaches_every_parameter_and_nothing_shown_is_finite(encoder):
  variables, _ = encoder
  inputs = [np.repeat(x, 3, axis=0) for x in given()]
  inputs[-1] = np.arange(3, dtype=np.int32)

  @jax.jit
  @jax.grad
  def slope(variables, shown):
    embedding, _ = MODEL.apply(variables, inputs[0], shown, *inputs[2:])
    return jnp.square(embedding - 1).sum()

  all_kinds = slope(variables, inputs[1])
  flat = jax.tree_util.tree_leaves_with_path(all_kinds)
  assert not [path for path, leaf in flat if not np.abs(leaf).max() > 0]
  dark = slope(variables, inputs[1] & False)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(dark))


def test_half_precision_keeps_parameters_and_output_whole(encoder):
  variables, call = encoder
  half = MODEL.clone(trunk=TRUNK.clone(dtype=jnp.bfloat16))
  shapes = jax.eval_shape(half.init, jax.random.key(0), *given())
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
  embedding, _ = jax.jit(half.apply)(variables, *given())
  assert embedding.dtype == jnp.float32
  np.testing.assert_allclose(embedding, call(variables, *given())[0], atol=0.05)
