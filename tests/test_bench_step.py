"""`echo-jax bench step|infer`: the numbers' structure, never their height."""

import contextlib
import json
import math

import jax
import numpy as np
import pytest

from echo_jax.cli import main
from echo_jax.commands import step_speed, step_speed_jax
from echo_jax.commands.step_speed import Case
from echo_jax.models.video_vit import Size

TINY = (
  "--size", "Ti", "--frames", "2", "--pixels", "32", "--batch", "2",
  "--mask", "0.5", "--rounds", "2", "--steps", "1",
)  # fmt: skip


def check_side(side, case):
  assert side["low_s"] <= side["median_s"] <= side["high_s"]
  assert len(side["rounds_s"]) == case["rounds"]
  assert all(math.isfinite(x) and x > 0 for x in side["rounds_s"])
  assert side["processor_s"] > 0 and side["compile_s"] >= 0
  assert side["threads"] and side["versions"]


def test_our_own_inference_is_measured_without_pytorch(capsys):
  assert main(["bench", "infer", *TINY, "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["case"]["size"] == "Ti" and found["against"] is None
  assert found["machine"] and list(found["parts"]) == ["infer"]
  assert list(found["parts"]["infer"]) == ["echo_jax"]
  ours = found["parts"]["infer"]["echo_jax"]
  check_side(ours, found["case"])
  assert set(ours["versions"]) == {"jax", "jaxlib", "flax"}


@pytest.fixture
def quick_compiles():
  """Compiling these well costs more than it gives."""
  before = jax.config.read("jax_disable_most_optimizations")
  kept = jax.config.jax_enable_compilation_cache
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", before)
  jax.config.update("jax_enable_compilation_cache", kept)
  jax.clear_caches()


@pytest.mark.usefixtures("quick_compiles")
@pytest.mark.parametrize("part", step_speed.PARTS)
def test_every_part_is_a_program_of_ours(part, monkeypatch):
  """One block of each, made here and not in a process of its own."""
  monkeypatch.setitem(step_speed.SIZES, "Ti", Size(64, 1, 1))
  made = step_speed_jax.make_program(Case("Ti", 2, 32, 2, mask=0.5), part)
  assert made.run() is None and made.run() is None
  block = 4 * 64 * 64 + 3 * 64 + 8 * 64 * 64 + 5 * 64 + 4 * 64
  encoder = 1536 * 64 + 64 + block + 2 * 64
  if part != "pretrain":
    assert made.parameters == encoder + 65


def test_ratio_and_range_by_hand():
  ours = np.array([[2.0, 3.0], [6.0, 4.0], [4.0, 8.0]])
  theirs = np.array([[4.0, 2.0], [2.0, 2.0], [1.0, 2.0]])
  found = step_speed.compare(ours, theirs)
  assert found == {
    "of_medians": 2.0, "low": 0.5, "high": 4.0, "of_processor_s": 2.0
  }  # fmt: skip
  assert step_speed.spread(ours)["median_s"] == 4


def test_the_two_sides_take_turns_and_must_be_one_model(monkeypatch, capsys):
  order = []
  monkeypatch.setattr(step_speed, "process_of", fake_process(order))
  assert main(["bench", "step", *TINY, "--against", "transformers"]) == 0
  said = capsys.readouterr().out
  assert "pre-training step" in said and "ratio" in said and "2.00" in said
  assert order == ["echo_jax", "transformers"] * 4
  monkeypatch.setattr(step_speed, "process_of", fake_process(order, extra=1))
  assert main(["bench", "infer", *TINY, "--against", "transformers"]) == 1
  assert "not the same model" in capsys.readouterr().err


def fake_process(order, extra=0):
  """Stands for `process_of`: ours takes 2 s, the other's 1 s."""

  class Connection:
    def __init__(self, side):
      self.side, self.said = side, []
      ours = side == "echo_jax"
      self.seconds = [2.0, 2.0] if ours else [1.0, 1.0]
      self.said.append({
        "parameters": 7 + extra * ours, "compile_s": 0.0,
        "versions": {"x": "1"}, "threads": "2",
      })  # fmt: skip

    def send(self, go):
      order.append(self.side)
      self.said.append(self.seconds)

    def recv(self):
      return self.said.pop(0)

  return lambda side, case, part: contextlib.nullcontext(Connection(side))


def test_a_process_that_fails_says_why():
  with pytest.raises(ChildProcessError, match="does not divide"):
    case = Case("Ti", 3, 32, 2, mask=0.5, rounds=1, steps=1)
    step_speed.measure(case, ("infer",), None)
  with pytest.raises(ValueError, match="size 'XXL'"):
    Case("XXL")
  with pytest.raises(ValueError, match="rounds is 0"):
    Case(rounds=0)


@pytest.mark.oracle
@pytest.mark.usefixtures("quick_compiles")
@pytest.mark.parametrize("part", step_speed.PARTS)
def test_both_sides_are_the_same_model(part):
  """The same number of parameters, from two libraries."""
  pytest.importorskip("transformers")
  from echo_jax.commands import step_speed_torch

  case = Case("Ti", 2, 32, 2, mask=0.5)
  theirs = step_speed_torch.make_program(case, part)
  theirs.run()
  assert theirs.parameters == step_speed_jax.make_program(case, part).parameters
