"""Encoder: what it sees, what it must not see, and how it is computed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from echo_jax.models.layers import Attention, Execution, gelu, read_twice
from echo_jax.models.tokens import take_tokens
from echo_jax.models.video_vit import SIZES, VideoViT
from echo_jax.trees import count_parameters

TINY = functools.partial(VideoViT, width=24, depth=2, heads=2, patch=8)


@pytest.fixture(scope="module")
def video():
  return np.random.default_rng(0).random((2, 4, 16, 16, 3), np.float32)


@pytest.fixture(scope="module")
def params(video, fill):
  return fill(TINY(), video)["params"]


def run(model, params, *args):
  return jax.jit(lambda p, *a: model.apply({"params": p}, *a))(params, *args)


@pytest.fixture(scope="module")
def whole(params, video):
  return run(TINY(), params, video)


def test_jit_and_eager_agree(params, video, whole):
  tokens, features = TINY().apply({"params": params}, video)
  assert tokens.shape == (2, 8, 24)
  assert set(features) == {"block_0", "block_1", "tokens"}
  np.testing.assert_allclose(tokens, whole[0], atol=1e-5)


def test_kept_everything_is_the_whole_in_that_order(params, video, whole):
  order = np.random.default_rng(1).permuted(
    np.tile(np.arange(8, dtype=np.int32), (2, 1)), axis=1
  )
  tokens, _ = run(TINY(), params, video, order)
  np.testing.assert_allclose(tokens, take_tokens(whole[0], order), atol=1e-5)


def test_a_token_left_out_is_a_token_not_attended_to(params, video, whole):
  """Keeping a subset equals masking the rest and gathering the subset."""
  kept = np.array([[0, 3, 5], [1, 2, 7]], np.int32)
  valid = np.zeros((2, 8), bool)
  np.put_along_axis(valid, kept, True, axis=1)
  subset, _ = run(TINY(), params, video, kept)
  masked, _ = run(TINY(), params, video, None, valid)
  np.testing.assert_allclose(subset, take_tokens(masked, kept), atol=1e-5)
  assert np.abs(subset - take_tokens(whole[0], kept)).max() > 1e-3


def test_final_norm_is_the_only_difference(params, video, whole):
  bare = {k: v for k, v in params.items() if k != "norm"}
  tokens, _ = run(TINY(final_norm=False), bare, video)
  centred = tokens - tokens.mean(-1, keepdims=True)
  last = params["norm"]
  want = centred / centred.std(-1, keepdims=True)
  want = want * last["scale"] + last["bias"]
  np.testing.assert_allclose(want, whole[0], atol=1e-4)


@pytest.mark.parametrize("remat", ["none", "blocks", "dots"])
@pytest.mark.parametrize("scan", [False, True])
def test_execution_changes_no_gradient(params, video, remat, scan):
  def slope(execution):
    model = TINY(execution=execution)
    return jax.jit(
      jax.grad(lambda p: model.apply({"params": p}, video)[0][..., 0].sum())
    )(params)

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
    slope(Execution()),
    slope(Execution(remat=remat, scan=scan)),
  )


def test_scanned_blocks_have_the_same_features(params, video):
  model = TINY(execution=Execution(scan=True), keep_attention=True)
  _, scanned = model.apply({"params": params}, video)
  _, plain = TINY(keep_attention=True).apply({"params": params}, video)
  assert set(scanned) == set(plain)
  for name, value in plain.items():
    np.testing.assert_allclose(scanned[name], value, atol=1e-5, err_msg=name)


def test_an_unknown_rematerialisation_is_refused():
  with pytest.raises(ValueError, match="remat is 'all'"):
    Execution(remat="all")


def test_bfloat16_computes_on_float32_parameters(video, params, whole):
  model = TINY(dtype=jnp.bfloat16)
  shapes = jax.eval_shape(model.init, jax.random.key(0), video)
  assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
  tokens, _ = run(model, params, video)
  assert tokens.dtype == jnp.bfloat16
  np.testing.assert_allclose(tokens.astype("float32"), whole[0], atol=0.1)


@pytest.mark.parametrize(
  "c, patch, tubelet, n", [(1, 8, 2, 8), (3, 4, 1, 64), (1, 16, 4, 1)]
)
def test_channels_patch_and_tubelet_are_free(c, patch, tubelet, n):
  model = VideoViT(
    width=12, depth=1, heads=1, patch=patch, tubelet=tubelet, channels=c
  )
  shape = jax.ShapeDtypeStruct((1, 4, 16, 16, c), jnp.float32)
  (tokens, _), variables = jax.eval_shape(
    model.init_with_output, jax.random.key(0), shape
  )
  assert tokens.shape == (1, n, 12)
  values = tubelet * patch**2 * c
  assert variables["params"]["embed"]["kernel"].shape == (values, 12)


def test_refusals(params, video):
  with pytest.raises(ValueError, match="1 channels.*made for 3"):
    TINY().apply({"params": params}, video[..., :1])
  with pytest.raises(ValueError, match=r"\(2, 2, 2\).*\(2, 2, 4\)"):
    TINY(grid=(2, 2, 4)).apply({"params": params}, video)
  with pytest.raises(ValueError, match="does not divide into 5 heads"):
    TINY(heads=5).apply({"params": params}, video)


def test_attention_by_hand():
  """One head; a reference in NumPy, with a key masked and q, v biases."""
  rng = np.random.default_rng(2)
  x = rng.normal(size=(1, 3, 4)).astype(np.float32)
  valid = np.array([[True, True, False]])
  model = Attention(heads=1, keep_attention=True)
  params = model.init(jax.random.key(0), jnp.asarray(x))["params"]
  params = jax.tree.map(
    lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params
  )
  assert "bias" not in params["key"]
  out, weight = model.apply(
    {"params": params}, jnp.asarray(x), jnp.asarray(valid)
  )
  p = jax.tree.map(np.asarray, params)
  q = x[0] @ p["query"]["kernel"] + p["query"]["bias"]
  k = x[0] @ p["key"]["kernel"]
  v = x[0] @ p["value"]["kernel"] + p["value"]["bias"]
  score = np.exp((q @ k.T / 2)[:, :2])
  share = score / score.sum(1, keepdims=True)
  want = share @ v[:2] @ p["output"]["kernel"] + p["output"]["bias"]
  np.testing.assert_allclose(weight[0, 0, :, :2], share, rtol=1e-4)
  np.testing.assert_array_equal(weight[0, 0, :, 2], 0)
  np.testing.assert_allclose(out[0], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 5)])
def test_what_is_read_twice_has_the_gradient_of_both(shape):
  x, a, b = np.random.default_rng(0).normal(size=(3, *shape))

  def both(x):
    x = read_twice(x)
    return jnp.sum(a * x) + jnp.sum(b * x)

  slope = jax.jit(jax.grad(both))(x)
  np.testing.assert_allclose(slope, a + b, rtol=1e-6, atol=1e-7)
  for platform, barriers in (("cpu", 1), ("tpu", 0), ("cuda", 0)):
    traced = jax.jit(jax.grad(both)).trace(x)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("optimization_barrier") == barriers, platform


def test_gelu_is_that_of_the_normal_distribution_and_so_is_its_slope():
  x = np.linspace(-6, 6, 97)
  share, density = norm.cdf(x), norm.pdf(x)
  value, slope = jax.vmap(jax.value_and_grad(gelu))(jnp.float32(x))
  np.testing.assert_allclose(value, x * share, atol=2e-6)
  np.testing.assert_allclose(slope, share + x * density, atol=1e-6)
  short = jnp.asarray(x, jnp.bfloat16)
  value, pull = jax.vjp(gelu, short)
  (slope,) = pull(jnp.ones_like(short))
  assert value.dtype == slope.dtype == jnp.bfloat16
  x = np.asarray(short, float)
  # Rounded once, at the end: half a step of 8 bits.
  np.testing.assert_allclose(
    value.astype(float), x * norm.cdf(x), rtol=2**-8, atol=2e-6
  )
  np.testing.assert_allclose(
    slope.astype(float), norm.cdf(x) + x * norm.pdf(x), rtol=2**-8, atol=2e-6
  )


def test_every_block_asks_where_its_input_and_weights_lie(params, video):
  inputs, weights = [], []

  def see(into, look):
    return lambda given: into.append(look(given)) or given

  execution = Execution(
    activations=see(inputs, lambda x: x.shape),
    weights=see(weights, lambda tree: sorted(tree)),
  )
  TINY(execution=execution).apply({"params": params}, video)
  assert inputs == [(2, 8, 24)] * 2
  block = ["attention", "attention_norm", "mlp", "mlp_norm"]
  assert weights == [["kernel"], block, block]


def test_keep_attention_adds_it_to_the_features(params, video):
  _, features = TINY(keep_attention=True).apply({"params": params}, video)
  weight = features["attention_1"]
  assert weight.shape == (2, 2, 8, 8)
  np.testing.assert_allclose(weight.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize(
  "size, millions", [("Ti", 5.63), ("S", 21.88), ("B", 86.23), ("L", 303.9)]
)
def test_parameter_counts(size, millions):
  """The encoder of the paper, ViT-B, has 86.23 M parameters at 224 px."""
  model = VideoViT(**SIZES[size]._asdict())
  video = jax.ShapeDtypeStruct((1, 16, 224, 224, 3), jnp.float32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), video)
  assert count_parameters(shapes) / 1e6 == pytest.approx(millions, rel=1e-3)
