"""Attention: every way gives what the plain one gives, and its gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echo_jax.models import attention, layers
from echo_jax.models.attention import attend, attend_plainly
from echo_jax.models.layers import Execution
from echo_jax.models.video_vit import VideoViT
from echo_jax.trees import named_leaves


def draw(b, n, u, a=2, e=16):
  """Query, key, value and a slope; the query as if it were scaled."""
  rng = np.random.default_rng(0)
  shapes = (b, n, a, e), (b, u, a, e), (b, u, a, e), (b, n, a, e)
  query, *rest = (
    jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes
  )
  return query / e**0.5, *rest


def padding(b, u):
  """Rows with all tokens, with some and with none."""
  count = np.array([u, u - u // 3, 0])[:b]
  return jnp.asarray(np.arange(u) < count[:, None])


def value_and_slopes(way, arrays, valid):
  """What a way gives, and its gradients."""
  *given, slope = arrays
  y, pull = jax.vjp(lambda *three: way(*three, valid), *given)
  return y, *pull(slope)


def assert_like_plain(way, arrays, valid, tolerance=1e-5):
  found = value_and_slopes(way, arrays, valid)
  want = value_and_slopes(attend_plainly, arrays, valid)
  for got, wanted in zip(found, want, strict=True):
    np.testing.assert_allclose(got, wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("masked", [False, True])
def test_a_row_after_another_is_the_same(masked):
  arrays = draw(3, 5, 7)
  valid = padding(3, 7) if masked else None
  assert_like_plain(attention.attend_by_row, arrays, valid)
  y = attention.attend_by_row(*arrays[:3], valid)
  np.testing.assert_allclose(
    y, attend_plainly(*arrays[:3], valid), atol=1e-6
  )


@pytest.fixture
def interpreted(monkeypatch):
  """The TPU's kernels on a CPU."""
  make = functools.partial(attention.splash.make_splash_mha, interpret=True)
  monkeypatch.setattr(attention.splash, "make_splash_mha", make)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
  "n, u, whole", [(128, 128, 2048), (300, 150, 2048), (5, 150, 128)]
)
def test_the_kernel_of_tpus_interpreted(
  n, u, whole, masked, interpreted, monkeypatch
):
  """Padded to its blocks, with tokens that are not valid, and with none."""
  monkeypatch.setattr(attention, "WHOLE", whole)
  monkeypatch.setattr(attention, "SCORES", 2**15)
  arrays = draw(3, n, u)
  valid = padding(3, u) if masked else None
  assert_like_plain(attention.attend_by_pallas, arrays, valid, 2e-5)


@pytest.mark.parametrize(
  "n, u, q, k",
  [(1664, 1664, 128, 1664), (2048, 2048, 128, 2048), (384, 1024, 128, 1024),
   (512, 512, 512, 512), (3200, 3200, 128, 128), (4096, 4096, 256, 1024)],
)  # fmt: skip
def test_blocks_divide_and_fit(n, u, q, k):
  sizes = attention.block_sizes(n, u)
  assert (sizes.block_q, sizes.block_kv) == (q, k)
  assert sizes.use_fused_bwd_kernel == (k == u)


def test_blocks_computed_again_do_not_attend_again(monkeypatch):
  """What the TPU's kernel gave is kept, else it would be called twice."""
  monkeypatch.setattr(attention, "FLASH_TOKENS", 4)
  video = jax.ShapeDtypeStruct((1, 4, 64, 64, 3), jnp.float32)

  def calls(remat):
    model = VideoViT(
      width=128, depth=1, heads=2, patch=8, execution=Execution(remat)
    )
    params = jax.eval_shape(model.init, jax.random.key(0), video)
    step = jax.jit(jax.grad(lambda p, x: model.apply(p, x)[0].sum()))
    lowered = step.trace(params, video).lower(lowering_platforms=("tpu",))
    return lowered.as_text().count('kernel_name = "splash_mha_fwd')

  assert calls("none") == calls("blocks") == 1
  monkeypatch.setitem(
    layers.REMAT, "blocks", jax.checkpoint_policies.nothing_saveable
  )
  assert calls("blocks") == 2


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_the_platform_that_is_compiled_for_chooses(platform, monkeypatch):
  monkeypatch.setattr(attention, "FLASH_TOKENS", 4)
  monkeypatch.setattr(attention, "ROW_TOKENS", 4)
  arrays = draw(2, 128, 128, e=64)[:3]
  traced = jax.jit(attend).trace(*arrays, padding(2, 128))
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  assert ("tpu_custom_call" in text) == (platform == "tpu")
  assert ("stablehlo.while" in text) == (platform == "cpu")


def test_no_kernel_on_a_mesh_of_several_devices(monkeypatch):
  """XLA cannot part a Pallas call."""
  monkeypatch.setattr(attention, "FLASH_TOKENS", 4)
  arrays = draw(2, 128, 128, e=64)[:3]
  mesh = jax.sharding.AbstractMesh((2,), ("data",))
  with jax.sharding.use_abstract_mesh(mesh):
    text = str(jax.make_jaxpr(attend)(*arrays))
  assert "pallas" not in text and "platform" not in text
  assert "pallas" in str(jax.make_jaxpr(attend)(*arrays))


def test_short_sequences_are_plain_everywhere():
  text = str(jax.make_jaxpr(attend)(*draw(2, 8, 8)[:3]))
  assert "platform" not in text


@pytest.mark.parametrize("masked", [False, True])
def test_every_leaf_of_a_model_has_the_gradient_of_autodiff(
  masked, fill, monkeypatch
):
  """At weights that are all drawn; norms that are not noise, to 1e-5."""
  model = VideoViT(width=24, depth=2, heads=2, patch=8)
  video = np.random.default_rng(0).random((2, 4, 32, 32, 3), np.float32)
  valid = padding(2, 32) if masked else None
  params = fill(model, video)["params"]

  def slope(params):
    tokens, _ = model.apply({"params": params}, video, None, valid)
    return jnp.square(tokens[..., ::2]).sum()

  with monkeypatch.context() as plainly:
    plainly.setattr(
      layers, "gelu", functools.partial(jax.nn.gelu, approximate=False)
    )
    plainly.setattr(layers, "read_twice", layers.unplaced)
    assert "custom_vjp" not in str(jax.make_jaxpr(slope)(params))
    want = named_leaves(jax.jit(jax.grad(slope))(params))
  monkeypatch.setattr(attention, "ROW_TOKENS", 4)
  text = str(jax.make_jaxpr(lambda params: slope(params))(params))
  for name in ("attend_by_row", "gelu", "read_twice"):
    assert f"name={name}" in text, name
  found = named_leaves(jax.jit(jax.grad(lambda params: slope(params)))(params))
  norms = {name: np.linalg.norm(leaf) for name, leaf in want.items()}
  checked = {name for name, norm in norms.items() if norm > 1e-3}
  assert len(checked) > len(want) - 3
  for name in checked:
    apart = np.linalg.norm(found[name] - want[name])
    assert apart <= 1e-5 * norms[name], name


def test_bfloat16_is_near():
  arrays = [x.astype(jnp.bfloat16) for x in draw(2, 5, 7)[:3]]
  y = attention.attend_by_row(*arrays)
  assert y.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    y.astype("float32"), attend_plainly(*draw(2, 5, 7)[:3]), atol=0.05
  )
