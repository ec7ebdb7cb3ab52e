"""An encoder's weights from other libraries, told apart by their names.

Every tensor of a file has its place, is known to belong to another part of the
model than its encoder, or makes the import fail.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flax import linen as nn
from flax.traverse_util import unflatten_dict

from echo_jax.interop import tables, torchvision_video, videomae, vivit
from echo_jax.interop.tables import Row, Tensor
from echo_jax.interop.videomae_names import transformers_names, unwrapped
from echo_jax.interop.weight_files import read_weights
from echo_jax.models.video_resnet import VideoResNet
from echo_jax.models.video_vit import VideoViT
from echo_jax.models.vivit import ViViT
from echo_jax.trees import named_leaves

POSITIONS = "positions"


class Layout(NamedTuple):
  """How a library lays out the weights of a kind of encoder.

  Attributes:
    name: of library and model.
    marker: pattern of a name that no other layout has.
    encoder: class of the encoder.
    rename: tensors -> tensors under the names of the table.
    table: (encoder, tensors) -> rows of all of its variables.
    elsewhere: pattern of names of other parts of the model.
    norm: pattern of names of a norm after the blocks, which is another part
      for an encoder that has none.
    anew: parts that may start anew, and their paths.
    from_config: settings of a `config.json` -> encoder; None without one.
  """

  name: str
  marker: str
  encoder: type[nn.Module]
  rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
  table: Callable[[Any, Mapping[str, Tensor]], Iterable[Row]]
  elsewhere: str
  anew: Mapping[str, str]
  from_config: Callable[[Mapping[str, Any]], nn.Module] | None = None
  norm: str = r"(?!)"


def _as_params(rows: Iterable[Row]) -> list[Row]:
  return [row._replace(path=f"params/{row.path}") for row in rows]


_VIDEOMAE = Layout(
  "VideoMAE of transformers", r"embeddings\.patch_embeddings\.projection",
  VideoViT, transformers_names,
  lambda encoder, tensors: _as_params(
    videomae.encoder_table(encoder, videomae.query_bias_of(tensors))
  ),
  r"^(encoder_to_decoder\.|mask_token$|decoder\.|fc_norm\.|classifier\.)",
  {POSITIONS: ""},
  lambda config: videomae.model_from_config(config).encoder,
  r"^videomae\.layernorm\.",
)  # fmt: skip
LAYOUTS = (
  Layout(
    "video ResNet of torchvision", r"^stem\.0\.weight$", VideoResNet,
    torchvision_video.without_counters,
    lambda encoder, _: torchvision_video.tensor_table(encoder), r"^fc\.", {},
  ),
  Layout(
    "ViViT of transformers", r"embeddings\.cls_token$", ViViT,
    vivit.older_names,
    lambda encoder, _: _as_params(vivit.tensor_table(encoder)),
    r"^(classifier|pooler)\.",
    {POSITIONS: "params/embed/position", "pooler": "params/pooler/"},
    lambda config: vivit.model_from_config(config, False),
  ),
  _VIDEOMAE,
  _VIDEOMAE._replace(
    name="VideoMAE of MCG-NJU", marker=r"(^|\.)patch_embed\.proj\.weight$",
    from_config=None,
  ),
)  # fmt: skip


class Imported(NamedTuple):
  """Variables of an encoder, and where they came from.

  Attributes:
    variables: collection -> tree of the encoder.
    layout: name of the layout.
    left_out: names of tensors that belong to other parts of the model.
    anew: parts that kept their first values; not positions that are no
      weights.
  """

  variables: dict[str, Any]
  layout: str
  left_out: tuple[str, ...]
  anew: tuple[str, ...]


def import_encoder(
  path: Path, encoder: nn.Module, initial: Mapping[str, Any],
  anew: Sequence[str] = (),
) -> Imported:  # fmt: skip
  """Variables of an encoder from a file of another library.

  Where a `config.json` of `transformers` lies beside the file, the encoder
  must be the one that it describes: shapes alone do not tell the number of
  heads, nor of which clips the positions are.

  Args:
    path: see `weight_files`.
    encoder: what they are for.
    initial: its variables (collection -> tree), for shapes and `anew`.
    anew: parts that keep these ("positions", "pooler"), whether or not the
      file has them.

  Raises:
    ValueError: what does not fit, with the names of settings or tensors.
  """
  tensors = unwrapped(read_weights(path))
  try:
    layout = layout_of(tensors)
    if not isinstance(encoder, layout.encoder):
      raise ValueError(
        f"they are of a {layout.name}, the encoder is a "
        f"{type(encoder).__name__}; choose the encoder that they are for"
      )
    _check_config(path.with_name("config.json"), layout, encoder, anew)
    return _import(tensors, layout, encoder, initial, anew)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def layout_of(tensors: Mapping[str, Tensor]) -> Layout:
  """The layout that names of tensors are of.

  Raises:
    ValueError: of none; shows some of them.
  """
  for layout in LAYOUTS:
    if any(re.search(layout.marker, name) for name in tensors):
      return layout
  known = ", ".join(layout.name for layout in LAYOUTS)
  shown = ", ".join(sorted(tensors)[:5])
  raise ValueError(f"weights of no known layout ({known}); it has {shown}, ...")


def _import(
  tensors: Mapping[str, Tensor], layout: Layout, encoder: nn.Module,
  initial: Mapping[str, Any], anew: Sequence[str],
) -> Imported:  # fmt: skip
  tensors = layout.rename(tensors)
  if unknown := set(anew) - set(layout.anew):
    raise ValueError(
      f"{sorted(unknown)} cannot start anew, only {sorted(layout.anew)} can"
    )
  first = named_leaves(initial)
  kept = {
    path: leaf for path, leaf in first.items()
    if any(layout.anew[n] and path.startswith(layout.anew[n]) for n in anew)
  }  # fmt: skip
  rows = list(layout.table(encoder, tensors))
  unread = {row.name for row in rows if row.path in kept}
  rows = [row for row in rows if row.path not in kept]
  wanted = {row.name for row in rows}
  bare = not getattr(encoder, "final_norm", True)
  other = f"{layout.elsewhere}|{layout.norm}" if bare else layout.elsewhere
  left_out = unread & set(tensors) | {
    n for n in tensors if n not in wanted and re.search(other, n)
  }
  try:
    loaded = tables.load(
      rows, {n: x for n, x in tensors.items() if n not in left_out},
      {path: leaf.shape for path, leaf in first.items()},
    )  # fmt: skip
  except ValueError as error:
    hint = (
      "; an encoder without a norm after its blocks wants "
      "encoder.final_norm=False"
      if any(re.search(layout.norm, n) for n in wanted - set(tensors)) else ""
    )  # fmt: skip
    raise ValueError(f"{error}{hint}") from error
  variables = unflatten_dict(named_leaves(loaded) | kept, sep="/")
  started = tuple(name for name in anew if layout.anew[name])
  return Imported(variables, layout.name, tuple(sorted(left_out)), started)


def _check_config(
  path: Path, layout: Layout, encoder: nn.Module, anew: Sequence[str]
) -> None:
  """Raises ValueError where the encoder is not that of a `config.json`."""
  if layout.from_config is None or not path.exists():
    print(
      f"no {path.name} of {layout.name} beside the weights: whether heads, "
      "norm_eps and grid are theirs is not checked"
    )
    return
  theirs = layout.from_config(json.loads(path.read_text(encoding="utf-8")))
  names = ["heads", "patch", "tubelet", "channels", "norm_eps"]
  if POSITIONS not in anew:
    names.append("grid")
  unequal = [
    f"{name} {getattr(theirs, name)} (here {getattr(encoder, name)})"
    for name in names
    if getattr(theirs, name) != getattr(encoder, name)
  ]
  if unequal:
    raise ValueError(
      f"its config.json describes another encoder: {', '.join(unequal)}; "
      f"take those settings, or let {POSITIONS!r} start anew on another grid"
    )
