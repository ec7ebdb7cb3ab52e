"""Pre-norm transformer blocks, the building blocks of encoders and decoder.

Axes: b clip, n token, u token that is read by others, d width, a head.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from echo_jax.models.attention import (
  KEPT,
  attend,
  attention_weights,
  take_values,
)
from echo_jax.models.platform import by_platform

_ATTENTION = jax.checkpoint_policies.save_only_these_names(KEPT)
REMAT = {
  "none": None,
  "blocks": _ATTENTION,
  "dots": jax.checkpoint_policies.save_from_both_policies(
    _ATTENTION, jax.checkpoint_policies.dots_with_no_batch_dims_saveable
  ),
}


def unplaced(tree: Any) -> Any:
  """Leaves the placement of arrays to the compiler."""
  return tree


@dataclasses.dataclass(frozen=True)
class Execution:
  """How a stack of blocks is computed; no result depends on it, but rounding.

  Attributes:
    remat: what of a block is computed again in the backward pass instead of
      being kept: "none", all of it ("blocks"), or all but the products with
      its weights ("dots").  What the attention kernel of a TPU gave is kept
      in any case: it is as small as the block's input, and dear.
    scan: one compiled block, run over the stacked weights of all, instead of
      one a block: compiles faster.
    activations: places a block's input [b n d] on the devices of a mesh.
    weights: gathers a block's tree of weights, already cast to the dtype that
      it computes in, so that a model need not know of a mesh.
    spread: see `attention.attend`; None leaves attention to the compiler.
  """

  remat: str = "none"
  scan: bool = False
  activations: Callable[[Array], Array] = unplaced
  weights: Callable[[Any], Any] = unplaced
  spread: Callable[[Callable], Callable] | None = None

  def __post_init__(self) -> None:
    if self.remat not in REMAT:
      raise ValueError(f"remat is {self.remat!r}; there are {tuple(REMAT)}")


PLAIN = Execution()


class Linear(nn.Module):
  """Linear map of the last axis, started Xavier uniform as in MAE (He 2022).

  Leading axes are merged for the product: XLA on a CPU takes the gradient of
  a batched product with a shared matrix more than twice as long.
  """

  width: int
  use_bias: bool = True
  dtype: DTypeLike = jnp.float32
  kernel_init: Callable = nn.initializers.xavier_uniform()
  weights: Callable = unplaced  # see `Execution`

  @nn.compact
  def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b e"]:
    kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.width))
    y = x.reshape(-1, x.shape[-1]).astype(self.dtype)
    y = y @ self.weights({"kernel": kernel.astype(self.dtype)})["kernel"]
    if self.use_bias:
      bias = self.param("bias", nn.initializers.zeros, (self.width,))
      y = y + bias.astype(self.dtype)
    return y.reshape(*x.shape[:-1], self.width)


def layer_norm(epsilon: float, dtype: DTypeLike, name: str) -> nn.LayerNorm:
  # E[x^2] - E[x]^2 cancels badly beside an epsilon as small as 1e-12.
  return nn.LayerNorm(
    epsilon=epsilon, dtype=dtype, use_fast_variance=False, name=name
  )


@jax.custom_vjp
def gelu(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
  """x times the share of a normal distribution below x (Hendrycks 2016).

  Exact, by erf in float32 whatever the dtype is.  Its gradient is written by
  hand, and starts from x again: automatic differentiation keeps several
  float32 arrays of the size of x.
  """
  y = x.astype(jnp.float32)
  return (y * _share_below(y)).astype(x.dtype)


def _gelu_backward(x, slope):
  # Without the barrier XLA would find `_share_below` the same as in the forward
  # pass, and keep it.
  y = jax.lax.optimization_barrier(x).astype(jnp.float32)
  density = jnp.exp(-0.5 * y * y) * (2 * math.pi) ** -0.5
  slope = slope * (_share_below(y) + y * density)
  return (slope.astype(x.dtype),)


def _share_below(y: Float[Array, "*b"]) -> Float[Array, "*b"]:
  return 0.5 * (1 + jax.lax.erf(y * 0.5**0.5))


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


@jax.custom_vjp
def read_twice(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
  """x, that a branch reads, and the sum with what the branch gives.

  On a CPU the sum of both gradients is made once, in the shape in which the
  product before it takes it; XLA else makes it, and the norm's gradient in it,
  once in that shape and once in its own.
  """
  return x


def _read_twice_backward(_, slope):
  def as_matrix(y):
    matrix = y.reshape(-1, y.shape[-1])
    return jax.lax.optimization_barrier(matrix).reshape(y.shape)

  return (by_platform(slope, cpu=as_matrix, default=unplaced),)


read_twice.defvjp(lambda x: (x, None), _read_twice_backward)


class Codes(nn.Module):
  """A learned code for each of `count` things, looked up by number.

  A number that none of them has gives NaN, never another one's code.
  """

  count: int
  width: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, number: Int[Array, "*b"]) -> Float[Array, "*b d"]:
    init = nn.initializers.normal(self.width**-0.5)
    code = self.param("code", init, (self.count, self.width))
    exists = (number >= 0) & (number < self.count)
    y = code[jnp.where(exists, number, 0)]
    return jnp.where(exists[..., None], y, jnp.nan).astype(self.dtype)


class Attention(nn.Module):
  """Multi-head attention to `memory`, by default to x itself.

  Queries and values have a bias, keys none: it would add the same number to
  every score of a query, which softmax removes.  Tokens of the memory that
  are not valid are never attended to; where none is valid, all are alike.
  Softmax is taken in float32 whatever `dtype` is.  The weights are returned
  with `keep_attention` only: the fastest ways to attend never hold them.
  """

  heads: int
  qkv_bias: bool = True
  dtype: DTypeLike = jnp.float32
  keep_attention: bool = False
  spread: Callable | None = None  # see `Execution`

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b n d"],
    valid: Bool[Array, "b u"] | None = None,
    memory: Float[Array, "b u d"] | None = None,
  ) -> tuple[Float[Array, "b n d"], Float[Array, "b a n u"] | None]:
    width = x.shape[-1]
    memory = x if memory is None else memory
    if width % self.heads:
      raise ValueError(f"width {width} does not divide into {self.heads} heads")

    def project(
      name: str, of: Float[Array, "b u d"], use_bias: bool
    ) -> Float[Array, "b u a e"]:
      y = Linear(width, dtype=self.dtype, use_bias=use_bias, name=name)(of)
      return y.reshape(*y.shape[:2], self.heads, -1)

    query = project("query", x, self.qkv_bias) * (width // self.heads) ** -0.5
    key = project("key", memory, False)
    value = project("value", memory, self.qkv_bias)
    if self.keep_attention:
      weight = attention_weights(query, key, valid)
      y = take_values(weight, value)
    else:
      weight, y = None, attend(query, key, value, valid, self.spread)
    out = Linear(width, dtype=self.dtype, name="output")(y.reshape(x.shape))
    return out, weight


class MLP(nn.Module):
  """Two linear maps with a GELU between them.

  It is the exact one, of the error function, or with `tanh_gelu` its
  approximation by a tanh (Hendrycks & Gimpel 2016).
  """

  hidden: int
  dtype: DTypeLike = jnp.float32
  tanh_gelu: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    y = Linear(self.hidden, dtype=self.dtype, name="expand")(x)
    y = jax.nn.gelu(y) if self.tanh_gelu else gelu(y)
    return Linear(x.shape[-1], dtype=self.dtype, name="reduce")(y)


class Block(nn.Module):
  """x + attention(norm(x)), then x + mlp(norm(x))."""

  heads: int
  mlp_width: int
  qkv_bias: bool = True
  norm_eps: float = 1e-12
  dtype: DTypeLike = jnp.float32
  keep_attention: bool = False
  spread: Callable | None = None
  tanh_gelu: bool = False

  @nn.compact
  def __call__(
    self, x: Float[Array, "b n d"], valid: Bool[Array, "b n"] | None = None
  ) -> tuple[Float[Array, "b n d"], Float[Array, "b a n n"] | None]:
    norm = functools.partial(layer_norm, self.norm_eps, self.dtype)
    x = read_twice(x)
    y, weight = Attention(
      self.heads, self.qkv_bias, self.dtype, self.keep_attention, self.spread,
      name="attention",
    )(norm("attention_norm")(x), valid)  # fmt: skip
    x = read_twice(x + y)
    y = MLP(self.mlp_width, self.dtype, self.tanh_gelu, name="mlp")(
      norm("mlp_norm")(x)
    )
    return x + y, weight


class ReadBlock(nn.Module):
  """x + attention(norm(x) to norm(memory)), then x + mlp(norm(x)).

  The tokens of x read the memory and do not see each other.
  """

  heads: int
  mlp_width: int
  norm_eps: float = 1e-6
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b n d"],
    memory: Float[Array, "b u d"],
    valid: Bool[Array, "b u"] | None = None,
  ) -> tuple[Float[Array, "b n d"], Float[Array, "b a n u"]]:
    norm = functools.partial(layer_norm, self.norm_eps, self.dtype)
    y, weight = Attention(
      self.heads, dtype=self.dtype, keep_attention=True, name="attention"
    )(
      norm("attention_norm")(x), valid, norm("memory_norm")(memory)
    )
    x = x + y
    y = MLP(self.mlp_width, self.dtype, name="mlp")(norm("mlp_norm")(x))
    return x + y, weight


def apply_blocks(
  parent: nn.Module,
  x: Float[Array, "b n d"],
  valid: Bool[Array, "b n"] | None,
  *,
  depth: int,
  execution: Execution = PLAIN,
  keep_attention: bool = False,
  **block_options,
) -> tuple[Float[Array, "b n d"], dict[str, Array]]:
  """Blocks `block_0` ... in a row, as children of the calling module.

  Features are each block's output by its name and, with `keep_attention`,
  its attention [b a n n].
  """
  names = [f"block_{i}" for i in range(depth)]
  block_options["keep_attention"] = keep_attention
  if parent.is_initializing():
    rows = []
    for name in names:
      x, weight = Block(**block_options, name=name)(x, valid)
      rows.append((x, weight))
  else:
    each = [parent.get_variable("params", name) for name in names]
    block = Block(**block_options, spread=execution.spread, parent=None)
    step = _block_step(block, valid, execution)
    if execution.scan:
      stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
      x, kept = jax.lax.scan(step, x, stacked)
      rows = [jax.tree.map(operator.itemgetter(i), kept) for i in range(depth)]
    else:
      rows = []
      for params in each:
        x, kept = step(x, params)
        rows.append(kept)
  features = {}
  for i, (out, weight) in enumerate(rows):
    features[f"block_{i}"] = out
    if keep_attention:
      features[f"attention_{i}"] = weight
  return x, features


def _block_step(
  block: Block, valid: Bool[Array, "b n"] | None, execution: Execution
) -> Callable:
  """(x, weights) -> (x, (x, attention)), as `jax.lax.scan` takes it."""

  def step(x, params):
    # Cast here, so that what is gathered is as small as can be.
    params = jax.tree.map(
      lambda leaf: leaf.astype(block.dtype) if leaf.ndim > 1 else leaf, params
    )
    x, weight = block.apply(
      {"params": execution.weights(params)}, execution.activations(x), valid
    )
    return x, (x, weight)

  if execution.remat == "none":
    return step
  return jax.checkpoint(
    step, policy=REMAT[execution.remat], prevent_cse=not execution.scan
  )
