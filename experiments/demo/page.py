"""The demo's result as one self-contained HTML page.

Axes: b clip, T H W frames and pixels, n token, q hidden token.
"""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from string import Template

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from echo_jax.data.contract import normalise
from echo_jax.evaluation import figures
from echo_jax.evaluation.figures import encode_png
from echo_jax.experiment import Experiment, load_best
from echo_jax.models.tokens import TokenGrid, patchify, unpatchify
from echo_jax.objectives.masks import MaskRule, make_mask
from echo_jax.training.step import evaluated_params
from echo_jax.training.writers import LOG_NAME, read_log

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>echo_jax demo</title>
<meta name="viewport" content="width=device-width">
<style>
 body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem;
        margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
 table { border-collapse: collapse; margin: 1rem 0 }
 td, th { padding: .3rem .8rem; text-align: left;
          border-bottom: 1px solid #ddd; vertical-align: top }
 td.n { font-variant-numeric: tabular-nums; white-space: nowrap }
 figure { display: inline-block; margin: .5rem 1rem .5rem 0;
          vertical-align: top }
 figcaption { font-size: .85rem; color: #555; max-width: 26rem }
 img { max-width: 100%; width: 26rem } img.pixels { image-rendering: pixelated;
       width: 14rem; background: #000 }
 .warn { background: #fff4e0; border-left: 4px solid #e69f00;
         padding: .5rem 1rem }
</style></head><body>
<h1>echo_jax demo</h1>
<p class="warn">Research only, not for clinical use. Every heart on this page
but the one marked <em>real</em> is simulated (SynthEcho).</p>
$body
</body></html>
""")


def write_page(path: Path, sections: Sequence[str]) -> None:
  """Writes the page; nothing on it is loaded from elsewhere."""
  path.write_text(PAGE.substitute(body="\n".join(sections)), encoding="utf-8")


def section(title: str, *parts: str) -> str:
  """A heading and what stands under it."""
  return f"<h2>{html.escape(title)}</h2>\n" + "\n".join(parts)


def paragraph(text: str) -> str:
  """Plain text."""
  return f"<p>{html.escape(text)}</p>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A table of plain text."""
  head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
  body = "".join(
    "<tr>"
    + "".join(f'<td class="n">{html.escape(cell)}</td>' for cell in row)
    + "</tr>"
    for row in rows
  )
  return f"<table><tr>{head}</tr>{body}</table>"


def figure(png: bytes, caption: str, *, kind: str = "") -> str:
  """A picture inside the page."""
  data = base64.b64encode(png).decode()
  return (
    f'<figure><img class="{kind}" alt="{html.escape(caption)}" '
    f'src="data:image/png;base64,{data}">'
    f"<figcaption>{html.escape(caption)}</figcaption></figure>"
  )


def moving_picture(
  frames: UInt8[np.ndarray, "T H W"], interval_ms: float
) -> bytes:
  """Frames as an animated PNG that repeats."""
  first, *rest = [Image.fromarray(frame) for frame in frames]
  held = io.BytesIO()
  first.save(
    held, "PNG", save_all=True, append_images=rest, duration=interval_ms,
    loop=0,
  )  # fmt: skip
  return held.getvalue()


def reconstruct(
  experiment: Experiment, workdir: Path, video: UInt8[np.ndarray, "b T H W c"]
) -> tuple[UInt8[np.ndarray, "T H W"], ...]:
  """First clip as it is, with its hidden tubelets black, and filled in.

  The model predicts values normalised a tubelet; they are given back the
  true mean and deviation of their tubelet, as is usual for such pictures.
  """
  state = load_best(experiment, workdir)
  raw = jnp.asarray(video[:1])
  model, settings = experiment.model, experiment.config["mask"]
  grid = TokenGrid.of(raw.shape, model.encoder.tubelet, model.encoder.patch)
  ones = jnp.ones((1, grid.n), bool)
  mask = make_mask(
    jax.random.key(0), MaskRule(**settings), grid, 1, inside=ones
  )
  shown = normalise(raw, experiment.contract)
  filled, _ = model.apply(
    {"params": evaluated_params(state)}, shown, mask, train=False
  )
  values = patchify(raw.astype(jnp.float32), grid.tubelet, grid.patch)
  # b n (values of a channel) c: targets are normalised so.
  by_channel = values.reshape(*values.shape[:2], -1, raw.shape[-1])
  rows = jnp.arange(1)[:, None]
  hidden = by_channel[rows, mask.hidden]
  mean = hidden.mean(2, keepdims=True)
  std = hidden.std(2, keepdims=True, ddof=1)
  restored = filled.reshape(hidden.shape) * std + mean
  restored = restored.reshape(filled.shape)
  parts = (
    values,
    values.at[rows, mask.hidden].set(0.0),
    values.at[rows, mask.hidden].set(restored),
  )
  return tuple(_grey(unpatchify(part, grid)) for part in parts)


def _grey(video: Float[jax.Array, "1 T H W c"]) -> UInt8[np.ndarray, "T H W"]:
  return np.clip(np.asarray(video)[0].mean(-1), 0, 255).astype(np.uint8)


def learning_curves(
  workdirs: dict[str, Path], value: str, y_label: str
) -> bytes:
  """Validation values of several runs over their steps."""
  curves = {}
  for name, workdir in workdirs.items():
    lines = [
      line
      for line in read_log(workdir / LOG_NAME)
      if line["part"] == "validation"
    ]
    curves[name] = (
      [line["step"] for line in lines], [line[value] for line in lines]
    )  # fmt: skip
  return encode_png(
    figures.learning_figure(curves, y_label=y_label, title="Learning curves")
  )
