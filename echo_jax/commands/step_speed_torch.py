"""The other side of `echo-jax bench step|infer`: VideoMAE of `transformers`.

Needs the extra [oracle].  Attention is PyTorch's fused one, AdamW its fused
one.  Its threads sleep where they wait, as `step_speed.serve` asks of both
sides: they take turns on the same cores, and threads of one that spin would
take those of the other.  With OMP_WAIT_POLICY=ACTIVE in the environment they
spin.
Axes: b clip, T H W frames and pixels, c channel, n token.
"""

import os
from collections.abc import Callable

import numpy as np

from echo_jax.commands.step_speed import (
  MEAN,
  PATCH,
  STD,
  TARGET_MEAN,
  TARGET_STD,
  TUBELET,
  Case,
  Program,
  cores_here,
  versions_of,
)


def make_program(case: Case, part: str) -> Program:
  """A program of PyTorch's in eager mode, with as many threads as cores."""
  import torch

  torch.set_num_threads(cores_here())
  torch.manual_seed(0)
  video = torch.from_numpy(case.video())
  model = make_model(case, part)
  if part == "infer":
    model.eval()
    run = predict_program(model, video)
  else:
    model.train()
    call = pretraining(case) if part == "pretrain" else finetuning(case)
    run = train_program(model, video, call)
  parameters = sum(p.numel() for p in model.parameters())
  return Program(
    run, parameters, 0.0, versions_of("torch", "transformers"),
    f"{torch.get_num_threads()}, by torch.set_num_threads; "
    f"OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY', '')}",
  )  # fmt: skip


def make_model(case: Case, part: str):
  """The autoencoder, or its encoder with a linear map of the tokens' mean."""
  import torch
  from transformers import (
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEModel,
  )

  config = VideoMAEConfig(**case.config(), attn_implementation="sdpa")
  if part == "pretrain":
    return VideoMAEForPreTraining(config)

  class Regressor(torch.nn.Module):
    def __init__(self) -> None:
      super().__init__()
      self.encoder = VideoMAEModel(config)
      self.head = torch.nn.Linear(config.hidden_size, 1)

    def forward(self, pixels):
      return self.head(self.encoder(pixels).last_hidden_state.mean(dim=1))

  return Regressor()


def normalise(video):
  """uint8 b T H W c to float32 b T c H W."""
  return (video.permute(0, 1, 4, 2, 3).float() - MEAN) / STD


def pretraining(case: Case) -> Callable:
  """(model, pixels) -> the model's own loss, with one mask of tubes."""
  import torch

  slices, places = case.frames // TUBELET, (case.pixels // PATCH) ** 2
  rng = np.random.default_rng(0)
  hidden = np.zeros((case.batch, places), bool)
  for row in hidden:
    row[rng.permutation(places)[: int(case.mask * places + 1e-9)]] = True
  mask = torch.from_numpy(np.tile(hidden, (1, slices)))
  return lambda model, pixels: model(pixels, bool_masked_pos=mask).loss


def finetuning(case: Case) -> Callable:
  """(model, pixels) -> Huber's loss of a standardised target."""
  import torch

  truth = torch.linspace(20, 70, case.batch)[:, None]
  truth = (truth - TARGET_MEAN) / TARGET_STD
  return lambda model, pixels: torch.nn.functional.huber_loss(
    model(pixels), truth
  )


def train_program(model, video, loss_of: Callable) -> Callable[[], None]:
  """One step of AdamW."""
  import torch

  optimizer = torch.optim.AdamW(
    model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05,
    fused=True,
  )  # fmt: skip

  def run() -> None:
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(model, normalise(video))
    loss.backward()
    optimizer.step()
    loss.item()

  return run


def predict_program(model, video) -> Callable[[], None]:
  """One prediction."""
  import torch

  def run() -> None:
    with torch.inference_mode():
      model(normalise(video)).numpy()

  return run
