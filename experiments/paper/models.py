"""What the paper's tables compare: encoder, head and first weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType, ModuleType

from ml_collections import ConfigDict

from experiments import parts
from experiments.paper import (
  echocardmae_pretrain,
  echofm_pretrain,
  echojepa_pretrain,
)

# Where weights are looked for; another place is --config.init_from=PLACE.  Of
# Kinetics: the folders of Hugging Face's google/vivit-b-16x2-kinetics400 and
# MCG-NJU/videomae-base, with their config.json, and torchvision's files.
RUNS = "runs/paper"
PRETRAINED = f"{RUNS}/pretrain"
KINETICS = {
  "vivit": "weights/vivit-b-16x2-kinetics400",
  "r3d_18": "weights/r3d_18-b3b3357e.pth",
  "r2plus1d_18": "weights/r2plus1d_18-91a641e6.pth",
  "videomae": "weights/videomae-base",
}
# What each of them takes: of VideoMAE ImageNet's mean and standard deviation,
# of torchvision's networks Kinetics', both as the mean over three colours,
# which are alike in an ultrasound picture; of ViViT 0.5 and 0.5.
IMAGENET = {"input.mean": 0.449, "input.std": 0.226}
_KINETICS = {"input.mean": 0.401, "input.std": 0.222}


@dataclass(frozen=True)
class Model:
  """A row of every table.

  Attributes:
    name: the last part of its files' names.
    title: in tables.
    head: how tokens become one vector.
    init_from: a run, or a file of weights; "" is from scratch.
    encoder: makes the encoder's settings.
    frozen: whether the encoder keeps its weights.
    settings: others, by dotted name.
    tiny: what makes the encoder small, by dotted name.
  """

  name: str
  title: str
  head: str
  init_from: str = ""
  encoder: Callable[[], ConfigDict] = partial(parts.encoder_config, "B")
  frozen: bool = False
  settings: Mapping[str, object] = field(default_factory=dict)
  tiny: Mapping[str, object] = field(
    default_factory=lambda: {
      "encoder.width": 32, "encoder.depth": 1, "encoder.heads": 2
    }
  )  # fmt: skip


VIVIT = Model(
  "vivit", "ViViT-B, Kinetics", "mean", KINETICS["vivit"],
  parts.vivit_config,
  settings={
    "init_anew": ("positions", "pooler"),  # it was of 32 frames
    "input.mean": 0.5, "input.std": 0.5,
  },
)  # fmt: skip
SMALL_RESNET = {"encoder.widths": (8,) * 4, "encoder.blocks": (1,) * 4}
R3D_18 = Model(
  "r3d_18", "R3D-18, Kinetics", "mean", KINETICS["r3d_18"],
  partial(parts.resnet_config, "r3d_18"), settings=_KINETICS,
  tiny=SMALL_RESNET,
)  # fmt: skip
R2PLUS1D_18 = Model(
  "r2plus1d_18", "R(2+1)D-18, Kinetics", "mean", KINETICS["r2plus1d_18"],
  partial(parts.resnet_config, "r2plus1d_18"), settings=_KINETICS,
  tiny=SMALL_RESNET,
)  # fmt: skip
VIDEOMAE_SCRATCH = Model("videomae_scratch", "VideoMAE-B, from scratch", "max")
VIDEOMAE_KINETICS = Model(
  "videomae_kinetics", "VideoMAE-B, Kinetics", "max", KINETICS["videomae"]
)
ECHO_VIDEOMAE = Model("echo_videomae", "Echo-VideoMAE", "max", PRETRAINED)
STF = Model("stf", "Echo-VideoMAE + STF-Net", "stf", PRETRAINED)
LINEAR_PROBE = Model(
  "linear_probe", "Echo-VideoMAE, frozen + linear probe", "mean", PRETRAINED,
  frozen=True,
)  # fmt: skip
ATTENTIVE_PROBE = Model(
  "attentive_probe", "Echo-VideoMAE, frozen + attentive probe", "attentive",
  PRETRAINED, frozen=True,
)  # fmt: skip



def of_neighbour(
  name: str, title: str, head: str, pretraining: ModuleType,
  settings: Mapping[str, object] = MappingProxyType({}),
  frozen: bool = False,
) -> Model:  # fmt: skip
  """A neighbour's recipe: encoder and pixels are those of its pre-training."""
  config = pretraining.get_config()
  pixels = {f"input.{key}": value for key, value in config.input.items()}
  return Model(
    name, title, head, f"{RUNS}/{name}_pretrain",
    lambda: pretraining.get_config().encoder, frozen, pixels | settings,
  )  # fmt: skip


# As its public code fine-tunes it, but as long as every row: that stops early.
ECHOCARDMAE = of_neighbour(
  "echocardmae", "EchoCardMAE's recipe", "mean", echocardmae_pretrain,
  {
    "loss": "l1",
    "data.shift_px": 12,
    "optimizer.rate": 1e-5,
    "optimizer.start_rate": 1e-5,
    "optimizer.end_rate": 1e-5,  # it stays
    "optimizer.warmup_steps": 0,
    "optimizer.betas": (0.9, 0.999),
    "optimizer.weight_decay": 1e-4,
    "optimizer.decay": "all",
  },
)  # fmt: skip
# Its probe has four blocks, and rate and decay from a grid; ours has one, and
# is trained as every row.
ECHOJEPA = of_neighbour(
  "echojepa", "EchoJEPA's recipe, frozen + attentive probe", "attentive",
  echojepa_pretrain, {"head.heads": 16}, frozen=True,
)  # fmt: skip
# How it is fine-tuned on EF was not found; as every row.
ECHOFM = of_neighbour("echofm", "EchoFM's recipe", "mean", echofm_pretrain)

MODELS = {
  model.name: model
  for model in (
    VIVIT, R3D_18, R2PLUS1D_18, VIDEOMAE_SCRATCH, VIDEOMAE_KINETICS,
    ECHO_VIDEOMAE, STF, LINEAR_PROBE, ATTENTIVE_PROBE, ECHOCARDMAE, ECHOJEPA,
    ECHOFM,
  )
}  # fmt: skip
