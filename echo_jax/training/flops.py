"""Floating point operations of a model, and what devices can do of them.

Matrix products and convolutions only, two FLOPs a multiplication with its
addition; the backward pass is taken as twice the forward one, and nothing is
counted twice that is computed twice (Chowdhery et al. 2022, PaLM, appendix B).
For a transformer block of width d on n tokens, with an MLP of width m, the
forward pass is

  8 n d^2 + 4 n^2 d + 4 n d m

(four maps d x d; scores and their sums of values; two maps d x m), and what is
counted here is that, as read from the objective that is trained.
"""

import math
from typing import Any

import jax

from echo_jax.objectives.objective import Objective
from echo_jax.training.state import TrainState

# Dense bfloat16 products a second, by the name that JAX gives a device.  TPU:
# docs.cloud.google.com/tpu/docs; NVIDIA: the data sheets of A100 and H100.
PEAK_FLOPS_S = {
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5": 459e12,
  "TPU v6 lite": 918e12,
  "NVIDIA A100-SXM4-40GB": 312e12,
  "NVIDIA A100-SXM4-80GB": 312e12,
  "NVIDIA H100 80GB HBM3": 989e12,
}


def peak_flops_s(devices: list) -> float | None:
  """What all these devices can do a second; None if one is not known."""
  each = [PEAK_FLOPS_S.get(device.device_kind) for device in devices]
  return None if None in each else sum(each)


def step_flops(objective: Objective, state: TrainState, rows: Any) -> int:
  """FLOPs of one training step on a batch, or on shapes of one.

  Three times the forward pass, also of weights that are held fixed; once what
  does not depend on the parameters, as the target of latent prediction, which
  has no backward pass.

  Raises:
    ValueError: matrix products in a loop of unknown length.
  """
  key = jax.eval_shape(lambda: jax.random.key(0))
  forward = jax.make_jaxpr(
    lambda params, aux, batch, key: objective(params, aux, batch, key, True)[0]
  )(state.params, state.aux, rows, key).jaxpr
  leaves = len(jax.tree.leaves(state.params))
  trained = {id(var) for var in forward.invars[:leaves]}
  total = 0
  for equation in forward.eqns:
    depends = any(id(var) in trained for var in equation.invars)
    trained.update(id(var) for var in equation.outvars if depends)
    total += (3 if depends else 1) * _of_equation(equation)
  return total


def matmul_flops(jaxpr: Any) -> int:
  """FLOPs of the products in a traced function, loops as often as they run."""
  return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> int:
  name, params = equation.primitive.name, equation.params
  if name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * _size(equation) * math.prod(left[axis] for axis in contracted)
  if name == "conv_general_dilated":
    kernel = equation.invars[1].aval.shape
    out = params["dimension_numbers"].rhs_spec[0]
    return 2 * _size(equation) * math.prod(kernel) // kernel[out]
  inner = [
    matmul_flops(getattr(value, "jaxpr", value))
    for entry in params.values()
    for value in (entry if isinstance(entry, tuple | list) else (entry,))
    if hasattr(getattr(value, "jaxpr", value), "eqns")
  ]
  if name == "scan":
    return params["length"] * sum(inner)
  if name == "cond":
    return max(inner)
  if name == "while" and any(inner):
    raise ValueError("a product in a loop of unknown length cannot be counted")
  return sum(inner)


def _size(equation: Any) -> int:
  return math.prod(equation.outvars[0].aval.shape)
