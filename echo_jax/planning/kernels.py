"""FLOPs of attention kernels, of which XLA counts none.

Products only, as everywhere here: two FLOPs a multiplication and addition.
The kernels are those of `models.attention.attend_by_pallas`, known by their
names.  Axes: b clip, n token, u token that is read, a head, e width of a head.
"""

import re

from echo_jax.planning import hlo

NAME = re.compile(r"splash_mha_(fwd|dkv|dq)_")
ARRAY = re.compile(r"\w+\[(\d+),(\d+),(\d+),(\d+)\]")
# Products of n u e each.  `dkv` takes the scores again, and gives the gradients
# of weights, scores, keys and values; with a fifth result, of queries as well.
PRODUCTS = {"fwd": 2, "dkv": 4, "dq": 3}


def kernel_flops(module: hlo.Module) -> int:
  """FLOPs of all kernels that one chip runs in a step.

  Raises:
    ValueError: a kernel that is not known here.
  """
  return sum(
    run.times * _flops(one)
    for run in hlo.runs(module)[0]
    for one in run.computation.instructions.values()
    if 'custom_call_target="tpu_custom_call"' in one.rest
  )


def _flops(one: hlo.Instruction) -> int:
  kind, shapes = NAME.match(one.name), ARRAY.findall(one.rest)
  if not kind or len(shapes) < 2:
    raise ValueError(f"the FLOPs of the kernel {one.name} are not known here")
  (b, a, n, e), (_, _, u, _) = (map(int, shape) for shape in shapes[:2])
  products = PRODUCTS[kind[1]]
  if kind[1] == "dkv" and len(one.buffers) == 5:
    products += 1
  return products * 2 * b * a * n * u * e
