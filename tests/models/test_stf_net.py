"""STF-Net against references, its two axis orders, and its invariances."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.models.positions import sinusoid_grid
from echo_jax.models.stf_net import (
  Bottleneck,
  GatedAttention,
  GroupNorm,
  Neighbours,
  STFNet,
  convolve,
  convolve_as_product,
)
from echo_jax.models.tokens import TokenGrid
from echo_jax.trees import count_parameters

GRID = TokenGrid(t=3, h=2, w=2, tubelet=2, patch=8)
TIMES = np.float32([[0, 33, 70, 100, 140, 200]] * 2) / 1000
SMALL = {"attention_hidden": 10, "groups": 2}


@pytest.fixture(scope="module")
def tokens():
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.normal(size=(2, GRID.n, 8)), jnp.float32)


def inputs(grid=GRID, times=TIMES):
  index = np.tile(np.arange(times.shape[1]), (len(times), 1))
  return {
    "grid": grid,
    "frame_time_s": jnp.asarray(times),
    "frame_index": jnp.asarray(index),
  }


def run(head, variables, tokens, given, **options):
  """`head.apply` as one compiled call; `given` comes from `inputs`."""
  given = dict(given)
  grid = given.pop("grid")
  return jax.jit(
    lambda v, x, given: head.apply(v, x, grid=grid, **given, **options)
  )(variables, tokens, given)


@pytest.fixture(scope="module")
def grouped(tokens, fill):
  head = STFNet(norm="group", **SMALL)
  return head, fill(head, tokens, **inputs())


# --- parts --------------------------------------------------------------------


def test_gated_attention_by_numpy(tokens, fill):
  model = GatedAttention(hidden=5)
  params = fill(model, tokens)["params"]
  valid = np.arange(12)[None].repeat(2, 0) < 9
  pooled, weight = model.apply({"params": params}, tokens, jnp.asarray(valid))
  v, u, w = (np.array(params[k]) for k in ("value", "gate", "score"))
  x = np.asarray(tokens)
  score = (np.tanh(x @ v) / (1 + np.exp(-x @ u))) @ w
  share = np.exp(score) * valid
  share = share / share.sum(1, keepdims=True)
  np.testing.assert_allclose(weight, share, atol=1e-6)
  np.testing.assert_allclose(
    pooled, (share[..., None] * x).sum(1), atol=1e-5
  )
  assert {p.shape for p in params.values()} == {(8, 5), (5,)}


def test_released_initialisation_starts_nearly_one_hot():
  x = np.random.default_rng(0).normal(size=(8, 64, 32))
  x = jnp.asarray(x, jnp.float32)

  def strongest(start):
    model = GatedAttention(hidden=256, start=start)
    (_, weight), _ = model.init_with_output(jax.random.key(0), x)
    return float(weight.max(axis=1).mean())

  assert strongest("released") > 0.8 > 0.2 > strongest("fan_in")


@pytest.mark.parametrize("grid", [(5, 4), (3, 5, 4)])
def test_convolution_equals_flax_with_its_gradient(grid):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, *grid, 3)), jnp.float32)
  conv = nn.Conv(4, (3,) * len(grid), use_bias=False)
  kernel = conv.init(jax.random.key(0), x)["params"]["kernel"]
  own = Neighbours(4).init(jax.random.key(0), x)["params"]["kernel"]
  assert own.shape == kernel.shape

  def through(function):
    value, back = jax.vjp(function, x, kernel)
    return value, *back(jnp.cos(value))

  want = through(lambda x, k: conv.apply({"params": {"kernel": k}}, x))
  ours = Neighbours(4)
  module = through(lambda x, k: ours.apply({"params": {"kernel": k}}, x))
  for found in (module, through(convolve), through(convolve_as_product)):
    for a, b in zip(found, want, strict=True):
      np.testing.assert_allclose(a, b, atol=1e-4)


def test_group_norm_equals_flax_and_leaves_padding_out():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 6)) + 2)
  x = x.astype(jnp.float32)
  ours = GroupNorm(groups=2, epsilon=1e-5)
  params = ours.init(jax.random.key(0), x)
  reference = nn.GroupNorm(num_groups=2, epsilon=1e-5)
  want, _ = reference.init_with_output(jax.random.key(0), x)
  np.testing.assert_allclose(ours.apply(params, x), want, atol=1e-5)
  padded = jnp.concatenate([x, jnp.full((2, 2, 4, 6), 50.0)], axis=1)
  valid = jnp.ones((2, 5, 4), bool).at[:, 3:].set(False)
  np.testing.assert_allclose(
    ours.apply(params, padded, valid)[:, :3], want, atol=1e-5
  )
  with pytest.raises(ValueError, match="6 channels.*4 groups"):
    GroupNorm(groups=4).init(jax.random.key(0), x)


def test_bottleneck_turns_with_its_input(fill):
  """Mirrored input and mirrored kernel give the mirrored output."""
  x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 4, 5, 8)))
  x = x.astype(jnp.float32)
  block = Bottleneck(norm="group", groups=2)
  params = fill(block, x)["params"]
  mirrored = dict(params, mix={"kernel": params["mix"]["kernel"][:, :, ::-1]})
  np.testing.assert_allclose(
    block.apply({"params": mirrored}, x[:, :, :, ::-1]),
    block.apply({"params": params}, x)[:, :, :, ::-1],
    atol=1e-5,
  )


# --- the whole ----------------------------------------------------------------


@pytest.mark.parametrize("axes", ["described", "released"])
def test_joint_path_axes(axes, tokens, fill):
  """Described: one vector a place.  Released: the channels-first memory of
  the block's output read as (n, d)."""
  head = STFNet(axes=axes, norm="group", **SMALL)
  params = fill(head, tokens, **inputs())["params"]
  embedding, features = head.apply({"params": params}, tokens, **inputs())
  x = tokens.reshape(2, 3, 2, 2, 8) + sinusoid_grid(3, 2, 2, 8)
  block = Bottleneck("group", 2)
  y = np.asarray(block.apply({"params": params["joint_block"]}, x))
  if axes == "released":
    y = np.ascontiguousarray(y.transpose(0, 4, 1, 2, 3))
  pooled, weight = GatedAttention(10).apply(
    {"params": params["joint_pool"]}, jnp.asarray(y.reshape(2, 12, 8))
  )
  np.testing.assert_allclose(embedding[:, :8], pooled, atol=1e-5)
  np.testing.assert_allclose(features["joint_attention"], weight, atol=1e-5)


@pytest.mark.parametrize("axes", ["described", "released"])
def test_disjoint_path_axes(axes, tokens, fill):
  """Released: the memory of (h, w, d) of a slice is read as (d, h, w)."""
  head = STFNet(axes=axes, norm="group", **SMALL)
  params = fill(head, tokens, **inputs())["params"]
  _, features = head.apply({"params": params}, tokens, **inputs())
  x = np.asarray(tokens).reshape(6, 2, 2, 8)
  if axes == "released":
    x = x.reshape(6, 8, 2, 2).transpose(0, 2, 3, 1)
  block = Bottleneck("group", 2)
  y = block.apply({"params": params["slice_block"]}, jnp.asarray(x))
  mixer, out = params["slice_mixer"], params["time_out"]
  slices = np.tensordot(y, mixer["kernel"], 3) + mixer["bias"]
  seconds = TIMES.reshape(6, 2)
  rate = 1e4 ** (-np.arange(0, 8, 2) / 8)
  angle = 30 * seconds[..., None] * rate
  code = np.stack([np.sin(angle), np.cos(angle)], -1).reshape(6, 2, 8).mean(1)
  hidden = params["time_hidden"]
  code = np.maximum(code @ hidden["kernel"] + hidden["bias"], 0)
  want = slices + code @ out["kernel"] + out["bias"]
  np.testing.assert_allclose(
    features["slices"].reshape(6, 8), want, atol=1e-4
  )


def test_one_path_alone_is_its_part_of_both(tokens, grouped):
  head, variables = grouped
  both, features = head.apply(variables, tokens, **inputs())
  joint, of_joint = head.clone(paths="joint").apply(
    variables, tokens, **inputs()
  )
  fine, of_fine = head.clone(paths="disjoint").apply(
    variables, tokens, **inputs()
  )
  np.testing.assert_array_equal(np.concatenate([joint, fine], 1), both)
  assert set(of_joint) | set(of_fine) == set(features)
  made = head.clone(paths="joint").init(jax.random.key(0), tokens, **inputs())
  assert set(made["params"]) == {"joint_block", "joint_pool"}


def test_without_its_code_a_slice_has_no_time(tokens, grouped):
  head, variables = grouped
  timeless = head.clone(time="none")
  one, features = timeless.apply(variables, tokens, **inputs())
  other, _ = timeless.apply(variables, tokens, **inputs(times=TIMES * 3))
  np.testing.assert_array_equal(one, other)
  _, dated = head.apply(variables, tokens, **inputs())
  assert np.abs(dated["slices"] - features["slices"]).max() > 1e-3
  made = timeless.init(jax.random.key(0), tokens, **inputs())["params"]
  assert not [name for name in made if name.startswith("time_")]


def test_described_and_released_differ(tokens, grouped):
  head, variables = grouped
  described, _ = head.apply(variables, tokens, **inputs())
  released, _ = head.clone(axes="released").apply(
    variables, tokens, **inputs()
  )
  assert np.abs(described - released).min(axis=1).max() > 1e-4


def test_fine_embedding_does_not_mind_the_order_of_dated_slices(
  tokens, grouped
):
  """Slices shuffled together with their times are the same clip."""
  head, variables = grouped
  order = np.array([2, 0, 1])
  shuffled = tokens.reshape(2, 3, 4, 8)[:, order].reshape(2, 12, 8)
  times = TIMES.reshape(2, 3, 2)[:, order].reshape(2, 6)
  before, _ = head.apply(variables, tokens, **inputs())
  after, _ = head.apply(variables, shuffled, **inputs(times=times))
  np.testing.assert_allclose(before[:, 8:], after[:, 8:], atol=1e-5)
  assert np.abs(before[:, :8] - after[:, :8]).max() > 1e-3  # joint path does


def test_seconds_and_frame_numbers_agree_at_30_hz(tokens, grouped):
  head, variables = grouped
  times = np.tile(np.arange(6, dtype=np.float32) / 30, (2, 1))
  seconds, _ = head.apply(variables, tokens, **inputs(times=times))
  index, _ = head.clone(time="index").apply(
    variables, tokens, **inputs(times=times * 9)
  )
  other, _ = head.apply(variables, tokens, **inputs(times=times * 9))
  assert np.abs(seconds - other).max() > 1e-3
  np.testing.assert_allclose(seconds, index, atol=1e-5)


@pytest.mark.parametrize(
  "mixer, norm, train",
  [
    ("whole", "batch", True),
    ("whole", "batch", False),
    ("pool_dense", "group", False),
  ],
)
def test_padding_changes_nothing(tokens, mixer, norm, train, fill):
  """Invalid slices behind the clip, in evaluation and in training."""
  head = STFNet(norm=norm, slice_mixer=mixer, **SMALL)
  variables = fill(head, tokens, **inputs())
  longer = TokenGrid(t=5, h=2, w=2, tubelet=2, patch=8)
  padded = jnp.concatenate([tokens, jnp.full((2, 8, 8), 9.0)], axis=1)
  times = np.concatenate([TIMES, np.full((2, 4), 5, np.float32)], axis=1)
  valid = jnp.asarray(np.arange(20)[None].repeat(2, 0) < 12)
  options = {"train": train, "mutable": ["batch_stats"]}
  (want, _), stats = run(head, variables, tokens, inputs(), **options)
  given = {**inputs(longer, times), "valid": valid}
  (got, features), padded_stats = run(
    head, variables, padded, given, **options
  )
  np.testing.assert_allclose(got, want, atol=2e-4)
  assert not features["slice_attention"][:, 3:].any()
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    stats,
    padded_stats,
  )


def test_released_axes_have_no_place_to_mask(tokens, grouped):
  head, variables = grouped[0].clone(axes="released"), grouped[1]
  valid = jnp.asarray(np.arange(12)[None].repeat(2, 0) < 8)
  with_valid, _ = head.apply(variables, tokens, valid=valid, **inputs())
  without, _ = head.apply(variables, tokens, **inputs())
  np.testing.assert_array_equal(with_valid, without)


def test_batch_statistics_move_in_training_only(tokens, fill):
  head = STFNet(norm="batch", **SMALL)
  variables = fill(head, tokens, **inputs())

  def run(train):
    _, new = head.apply(
      variables, tokens, train=train, mutable=["batch_stats"], **inputs()
    )
    same = jax.tree.map(
      lambda a, b: bool((a == b).all()),
      new["batch_stats"],
      variables["batch_stats"],
    )
    return jax.tree.leaves(same)

  assert all(run(train=False)) and not any(run(train=True))
  assert "batch_stats" not in STFNet(norm="group", **SMALL).init(
    jax.random.key(0), tokens, **inputs()
  )


def test_jit_and_eager_agree(tokens, grouped):
  head, variables = grouped
  eager, _ = head.apply(variables, tokens, **inputs())
  jitted, _ = run(head, variables, tokens, inputs())
  np.testing.assert_allclose(eager, jitted, atol=1e-5)


def test_weights_of_another_grid_are_refused(tokens, grouped, fill):
  head, variables = grouped
  other = TokenGrid(t=1, h=3, w=4, tubelet=6, patch=8)
  with pytest.raises(ValueError, match="2x2 tokens.*3x4.*pool_dense"):
    head.apply(variables, tokens, **inputs(other))
  small = head.clone(slice_mixer="pool_dense")
  variables = fill(small, tokens, **inputs())
  embedding, _ = run(small, variables, tokens, inputs(other))
  assert embedding.shape == (2, 16)


def test_misspelt_options_are_refused(tokens):
  with pytest.raises(Exception, match="permuted"):
    STFNet(axes="permuted").init(jax.random.key(0), tokens, **inputs())


def test_bfloat16_computes_on_float32_parameters(tokens, grouped):
  head, variables = grouped
  half = head.clone(dtype=jnp.bfloat16)
  embedding, _ = run(half, variables, tokens, inputs())
  assert embedding.dtype == jnp.float32
  want, _ = head.apply(variables, tokens, **inputs())
  np.testing.assert_allclose(embedding, want, atol=0.1)
  shapes = jax.eval_shape(
    lambda x: half.init(jax.random.key(0), x, **inputs()), tokens
  )
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


def test_parameter_count_of_the_paper():
  """126.4 M at 224 px, of which the slice mixer has 115.6 M."""
  grid = TokenGrid.of((16, 224, 224, 3), 2, 16)
  tokens = jax.ShapeDtypeStruct((1, grid.n, 768), jnp.float32)
  times = np.zeros((1, 16), np.float32)
  params = jax.eval_shape(
    lambda x: STFNet().init(jax.random.key(0), x, **inputs(grid, times)),
    tokens,
  )["params"]
  millions = {k: count_parameters(v) / 1e6 for k, v in params.items()}
  assert sum(millions.values()) == pytest.approx(126.4, abs=0.05)
  assert millions["slice_mixer"] == pytest.approx(115.61, abs=0.01)
  assert millions["joint_block"] == pytest.approx(4.57, abs=0.01)
  assert millions["slice_block"] == pytest.approx(1.92, abs=0.01)
