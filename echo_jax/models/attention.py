"""Attention of every model: one function, carried out as the platform can.

The choice is `by_platform`'s; only cuDNN's kernel needs its GPU here, too, as
JAX does not trace it without.  Axes: b clip, n token, u token that is read,
a head, e width of a head.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_kernel as splash,
)
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_mask as splash_mask,
)
from jaxtyping import Array, Bool, Float

from echo_jax.models.platform import by_platform

# Below this many tokens on either side the padding and the start of the TPU's
# kernel cost more than the scores' memory; nor is it worth a loop on a CPU.
FLASH_TOKENS = 1024
ROW_TOKENS = 256
BLOCK = 128  # of tokens, the least that the kernel takes
WHOLE = 2048  # keys that it takes at once, if there are not more
SCORES = 2**18  # of queries times keys that fit the chip's fast memory
# Name of what the kernel leaves for its backward pass, see `layers.REMAT`.
KEPT = "attention"


def attend(
  query: Float[Array, "b n a e"],
  key: Float[Array, "b u a e"],
  value: Float[Array, "b u a e"],
  valid: Bool[Array, "b u"] | None = None,
  spread: Callable[[Callable], Callable] | None = None,
) -> Float[Array, "b n a e"]:
  """softmax(query key) value; the query is scaled already.

  Tokens that are not valid are never attended to; where none is valid, all
  are alike.  Softmax is taken in float32 whatever the dtype is.

  On a TPU long sequences go through Pallas' flash attention, on an NVIDIA GPU
  16-bit ones through cuDNN's.  XLA cannot part such a kernel over the devices
  of a mesh, and would gather its inputs: there `spread` makes of a function of
  whole arrays one that each device calls with its own clips and heads; without
  it, neither kernel and no loop is used.
  """
  if spread is not None:
    return spread(_attend_here)(query, key, value, valid)
  if _on_one_device():
    return _attend_here(query, key, value, valid)
  return attend_plainly(query, key, value, valid)


def _attend_here(
  query: Float[Array, "b n a e"],
  key: Float[Array, "b u a e"],
  value: Float[Array, "b u a e"],
  valid: Bool[Array, "b u"] | None,
) -> Float[Array, "b n a e"]:
  """`attend` with arrays that lie on one device."""
  ways = {}
  if min(query.shape[1], key.shape[1]) >= FLASH_TOKENS:
    ways["tpu"] = attend_by_pallas
  if key.shape[1] >= ROW_TOKENS and len(query) > 1:
    ways["cpu"] = attend_by_row
  if _cudnn_takes(query, key):
    ways["cuda"] = attend_by_cudnn
  return by_platform(query, key, value, valid, default=attend_plainly, **ways)


def attention_weights(
  query: Float[Array, "b n a e"],
  key: Float[Array, "b u a e"],
  valid: Bool[Array, "b u"] | None = None,
) -> Float[Array, "b a n u"]:
  """What each token of a query takes of each token that it reads."""
  return jax.nn.softmax(scores(query, key, valid))


def scores(
  query: Float[Array, "b n a e"],
  key: Float[Array, "b u a e"],
  valid: Bool[Array, "b u"] | None = None,
) -> Float[Array, "b a n u"]:
  """Products in float32; the least of all numbers for what is not valid."""
  score = jnp.einsum(
    "bqae,bkae->baqk", query, key, preferred_element_type=jnp.float32
  )
  if valid is None:
    return score
  least = jnp.finfo(score.dtype).min
  return jnp.where(valid[:, None, None, :], score, least)


def take_values(
  weight: Float[Array, "b a n u"], value: Float[Array, "b u a e"]
) -> Float[Array, "b n a e"]:
  """The values by their weights."""
  return jnp.einsum("baqk,bkae->bqae", weight.astype(value.dtype), value)


def attend_plainly(
  query: Float[Array, "b n a e"],
  key: Float[Array, "b u a e"],
  value: Float[Array, "b u a e"],
  valid: Bool[Array, "b u"] | None = None,
) -> Float[Array, "b n a e"]:
  """`attend` on any platform, with all weights in memory."""
  return take_values(attention_weights(query, key, valid), value)


def _on_one_device() -> bool:
  """Nothing being traced here will be parted over devices."""
  mesh = jax.sharding.get_abstract_mesh()
  return mesh.empty or mesh.size == 1


# ---- CPU


@jax.custom_vjp
def attend_by_row(
  query: Float[Array, "b n a e"],
  key: Float[Array, "b u a e"],
  value: Float[Array, "b u a e"],
  valid: Bool[Array, "b u"] | None = None,
) -> Float[Array, "b n a e"]:
  """`attend`, one clip after another where no gradient is asked for.

  The weights of one clip stay in the cache of a CPU, those of a batch do not.
  With a gradient they are kept in any case, and a loop gains nothing; then
  the backward pass is written by hand, which takes fewer passes over them.
  """

  def of_row(row):
    return attend_plainly(*jax.tree.map(lambda x: x[None], row))[0]

  return jax.lax.map(of_row, (query, key, value, valid))


def _row_forward(query, key, value, valid):
  """Keeps exp(score - max), not the weights, and one over its sum."""
  score = scores(query, key, valid)
  power = jnp.exp(score - score.max(axis=-1, keepdims=True))  # b a n u
  share = by_query(1 / power.sum(axis=-1))  # b n a 1
  power = power.astype(value.dtype)
  y = take_values(power, value) * share.astype(value.dtype)
  return y, (query, key, value, valid, power, share, y)


def _row_backward(kept, slope):
  query, key, value, valid, power, share, y = kept
  slope = slope * share.astype(slope.dtype)
  mean = (slope * y).sum(axis=-1, dtype=jnp.float32).swapaxes(1, 2)  # b a n
  of_power = jnp.einsum(
    "bqae,bkae->baqk", slope, value, preferred_element_type=jnp.float32
  )
  of_score = (power * (of_power - mean[..., None])).astype(query.dtype)
  if valid is not None:
    # Only where no key is valid is there anything to take out.
    any_valid = valid.any(axis=1)[:, None, None, None]
    key, query = (jnp.where(any_valid, x, 0) for x in (key, query))
  return (
    jnp.einsum("baqk,bkae->bqae", of_score, key),
    jnp.einsum("baqk,bqae->bkae", of_score, query),
    jnp.einsum("baqk,bqae->bkae", power, slope),
    None,
  )


def by_query(x: Float[Array, "b a n"]) -> Float[Array, "b n a 1"]:
  """A number of each query, to go with what it reads."""
  return x.swapaxes(1, 2)[..., None]


attend_by_row.defvjp(_row_forward, _row_backward)


# ---- TPU


def attend_by_pallas(
  query: Float[Array, "b n a e"],
  key: Float[Array, "b u a e"],
  value: Float[Array, "b u a e"],
  valid: Bool[Array, "b u"] | None = None,
) -> Float[Array, "b n a e"]:
  """`attend` by the "splash" flash attention that JAX has for TPUs.

  It wants multiples of 128 tokens: what is added belongs to another segment,
  as do tokens that are not valid.
  """
  b, n, u = len(query), query.shape[1], key.shape[1]
  more_n, more_u = -n % BLOCK, -u % BLOCK
  if valid is None:
    valid = jnp.ones((b, u), bool)
  # A query without a valid key would read the tokens that were added, too.
  none = ~valid.any(axis=1, keepdims=True)  # b 1
  segments = splash.SegmentIds(
    q=jnp.ones((b, n + more_n), jnp.int32),
    kv=jnp.pad((valid | none).astype(jnp.int32), ((0, 0), (0, more_u))),
  )
  # Padded before it is turned: the other way round XLA copies once more.
  query, key, value = (
    jnp.pad(x, ((0, 0), (0, more), (0, 0), (0, 0))).swapaxes(1, 2)
    for x, more in ((query, more_n), (key, more_u), (value, more_u))
  )
  query = jnp.where(none[..., None, None], 0, query)
  kernel = _pallas_kernel(query.shape[1], n + more_n, u + more_u)
  y = jax.vmap(kernel)(query, key, value, segments)
  return y[:, :, :n].swapaxes(1, 2)


def _pallas_kernel(heads: int, n: int, u: int) -> Callable:
  """(query, key, value [a n e], segments) -> [a n e] of one clip."""
  every = splash_mask.FullMask((n, u))
  return splash.make_splash_mha(
    splash_mask.MultiHeadMask([every] * heads),
    block_sizes=block_sizes(n, u), head_shards=1, q_seq_shards=1,
    residual_checkpoint_name=KEPT,
  )  # fmt: skip


def block_sizes(n: int, u: int) -> splash.BlockSizes:
  """Tokens that the kernel takes at a time, of n queries and u keys.

  All keys where they fit: then each is read once, and one kernel gives all
  gradients.
  """
  k = next(size for size in (u, 1024, 512, 384, 256, BLOCK)
           if size <= WHOLE and u % size == 0)  # fmt: skip
  q = next(size for size in (512, 384, 256, BLOCK)
           if size * k <= max(SCORES, BLOCK * k) and n % size == 0)  # fmt: skip
  apart = k < u
  return splash.BlockSizes(
    block_q=q, block_kv=k, block_kv_compute=k,
    block_q_dkv=q, block_kv_dkv=k, block_kv_dkv_compute=k,
    block_q_dq=q if apart else None, block_kv_dq=k if apart else None,
    use_fused_bwd_kernel=not apart,
  )  # fmt: skip


# ---- NVIDIA


def _cudnn_takes(
  query: Float[Array, "b n a e"], key: Float[Array, "b u a e"]
) -> bool:
  """cuDNN is here, and has a kernel for such arrays."""
  sixteen = query.dtype in (jnp.bfloat16, jnp.float16)
  width = query.shape[-1]
  fits = width % 8 == 0 and width <= 128
  even = query.shape[1] % 2 == 0 and key.shape[1] % 2 == 0
  if not (sixteen and fits and even) or jax.default_backend() != "gpu":
    return False
  return "cuda" in jax.devices()[0].client.platform_version


def attend_by_cudnn(
  query: Float[Array, "b n a e"],
  key: Float[Array, "b u a e"],
  value: Float[Array, "b u a e"],
  valid: Bool[Array, "b u"] | None = None,
) -> Float[Array, "b n a e"]:
  """`attend` by cuDNN's flash attention; not tried on a GPU by the tests."""
  mask = None
  if valid is not None:
    b, n, a, _ = query.shape
    mask = jnp.broadcast_to(
      valid[:, None, None, :], (b, 1, n, valid.shape[1])
    )
  return jax.nn.dot_product_attention(
    query, key, value, mask=mask, scale=1.0, implementation="cudnn"
  )
