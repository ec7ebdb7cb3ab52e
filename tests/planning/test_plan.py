"""Plans: FLOPs by formula, layers by extrapolation, pods that are not here."""

import argparse
import importlib.util
import json
import os
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

import echo_jax.commands.plan as command
from echo_jax.cli import main
from echo_jax.commands.plan import GIB, make_data
from echo_jax.experiment import state_shapes, train_step_of
from echo_jax.planning import chips
from echo_jax.planning.collectives import Traffic
from echo_jax.planning.layers import costs_by_layers, layer_compiles
from echo_jax.planning.lowering import batch_shapes, check_batch
from echo_jax.planning.memory import Memory
from echo_jax.planning.plan import Plan, Planner, Subject
from echo_jax.planning.program import Costs, Program, compile_program
from echo_jax.planning.roofline import make_roofline
from echo_jax.planning.search import largest_fitting, meshes
from echo_jax.training.flops import step_flops
from echo_jax.training.sharding import AXES, MeshShape

NAME = "experiments.mae_pretrain"
with_libtpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="libtpu, the compiler for TPUs, is not installed (extra [plan])",
)


@pytest.fixture(scope="module")
def pod():
  return chips.open_pod("v5e:2x4")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  """Settings that read what `--made-data` makes."""
  return make_data(tmp_path_factory.mktemp("data"))


def forward_flops(clips, places, width, depth, decoder_width):
  """Of the tiny masked autoencoder: 8 slices, of which a quarter is kept."""
  tokens, kept, hidden = 8 * places, 2 * places, 6 * places
  values = 2 * 16 * 16

  def block(n, d):
    return 8 * n * d * d + 4 * n * n * d + 4 * n * d * 4 * d

  encoder = 2 * kept * values * width + depth * block(kept, width)
  decoder = 2 * kept * width * decoder_width + block(tokens, decoder_width)
  return clips * (encoder + decoder + 2 * hidden * decoder_width * values)


@pytest.fixture(scope="module")
def wide(data):
  """Wide enough for products to outweigh everything else."""
  words = (
    *data, "input.size=64", "encoder.width=256",
    "decoder.width=192", "encoder.depth=2", "run.batch_size=2",
    "data.threads=0",
  )  # fmt: skip
  return Subject(NAME, words, tiny=True).build()


def test_model_flops_are_the_formula_and_near_what_xla_counts(wide):
  rows = batch_shapes(wide, 4)
  counted = step_flops(wide.objective, state_shapes(wide), rows)
  assert counted == 3 * forward_flops(4, 16, 256, 2, 192)
  lowered = train_step_of(wide).lower(state_shapes(wide), rows)
  # More: softmax, norms, AdamW.  Less: the pixels need no gradient.
  assert lowered.cost_analysis()["flops"] == pytest.approx(counted, rel=0.1)


def test_shallow_steps_tell_what_a_deeper_one_costs(data):
  def measure(depths, parts):
    words = (*data, *(f"{name}={depth}" for name, depth in depths.items()))
    built = Subject(NAME, words, tiny=True).build("data.threads=0")
    lowered = train_step_of(built).lower(
      state_shapes(built), batch_shapes(built, 8)
    )
    return Costs(lowered.cost_analysis()["flops"], 0, 0, 0)

  depths = {"encoder.depth": 3, "decoder.depth": 2}
  told, true = costs_by_layers(measure, depths), measure(depths, 1)
  assert told.flops == pytest.approx(true.flops, rel=1e-3)


def test_costs_by_layers_add_up():
  base, encoder, decoder, part = 100, 10, 3, 7

  def measure(depths, parts):
    of_layers = encoder * depths["e"] + decoder * depths["d"]
    return Costs(base + parts * (part + of_layers), 0, 0, 0)

  for parts in (1, 2, 5):
    found = costs_by_layers(measure, {"e": 12, "d": 4}, parts)
    assert found.flops == base + parts * (part + 12 * encoder + 4 * decoder)
  assert layer_compiles({"e": 12, "d": 4}) == 3
  assert layer_compiles({"e": 12, "d": 1}, 5) == 4


def test_the_largest_batch_is_found_to_an_eighth():
  tried = []

  def attempt(size):
    tried.append(size)
    return size if size <= 37 else Memory(size, -1, -1, 37)

  assert largest_fitting(attempt, 256) == (36, 36)
  assert tried == [1, 2, 4, 8, 16, 32, 64, 48, 40, 36]
  assert largest_fitting(attempt, 30) == (29, 29)
  assert largest_fitting(lambda size: Memory(9, -1, -1, 8), 30) == (
    0, Memory(9, -1, -1, 8)
  )  # fmt: skip
  assert meshes(16, MeshShape(16)) == [
    MeshShape(16), MeshShape(2, 8), MeshShape(1, 16)
  ]  # fmt: skip


class RoomPlanner(Planner):
  """Of steps of four parts; a chip has 1 GiB for each clip there is room for.

  `room` is in clips of all chips.  Along fsdp they send five times as long as
  they compute.
  """

  room = {"data": 100, "fsdp": 300}

  def __init__(self, subject, pod, bar):
    self.pod, self.mesh = pod, MeshShape(8)
    self.built = SimpleNamespace(accumulate=4)

  def program(self, mesh, clips):
    assert clips % 32 == 0, "4 parts over 8 chips: would not be lowered"
    axis = "data" if mesh == MeshShape(8) else "fsdp"
    memory = Memory(clips * GIB, 0, 0, self.room[axis] * GIB)
    sent = 0 if axis == "data" else 5 * 200e6
    costs = Costs(197e9, 0, 0, sent)
    return Program(memory, costs, {}, ()) if memory.fits else memory

  def complete(self, program, mesh, clips):
    roof = make_roofline(self.pod, program.costs, 1, clips)
    return Plan(mesh, clips, program.memory, 1, program.costs, roofline=roof)


@pytest.fixture
def search(monkeypatch, tmp_path):
  """What `plan --search` prints with so much room, and whether any fits."""
  pod = chips.Pod("v5e:2x4", chips.CHIPS["v5e"], tuple(range(8)))
  monkeypatch.setattr(command, "Planner", RoomPlanner)
  monkeypatch.setattr(chips, "open_pod", lambda name: pod)
  monkeypatch.setattr(chips, "compiler_version", lambda: "none")
  monkeypatch.setattr(command, "code_commit", lambda: "c0ffee")
  monkeypatch.setattr(jax.config, "update", lambda *setting: None)
  parser = argparse.ArgumentParser()
  command.add_arguments(parser)

  def run(room, *words):
    monkeypatch.setattr(RoomPlanner, "room", room)
    given = [NAME, "--topology=v5e:2x4", "--search", "--most=32", *words]
    return command.make_plan(parser.parse_args(given), tmp_path)

  return run


OF_DATA = (
  "data 8 x fsdp 1 x model 1: 12 clips a chip fit, at most 96,000 clips/s, "
  "compute binds"
)


def test_a_search_takes_the_fastest_of_the_meshes_not_the_largest(search):
  said, fits = search({"data": 100, "fsdp": 300})
  assert fits and said.splitlines()[2:4] == [
    OF_DATA,
    "data 1 x fsdp 8 x model 1: 32 clips a chip fit, at most 51,200 clips/s, "
    "network binds",
  ]
  told = json.loads(search({"data": 100, "fsdp": 300}, "--json")[0])
  assert [one["batch"] for one in (told["plan"], *told["others"])] == [96, 256]
  assert told["commit"] == "c0ffee"


def test_a_search_says_what_a_mesh_lacks(search):
  said, fits = search({"data": 100, "fsdp": 20})
  lacks = "not even 4 clips a chip fit, 12.00 GiB too much"
  assert fits and said.splitlines()[2:4] == [
    OF_DATA, f"data 1 x fsdp 8 x model 1: {lacks}"
  ]  # fmt: skip
  said, fits = search({"data": 20, "fsdp": 20})
  assert not fits and said.count(lacks) == 2
  assert said.endswith("does not fit: a chip needs 32.00 GiB and has 20.00")


def test_the_roofline_is_the_longest_of_three_times():
  pod = chips.Pod("v5e:2x4", chips.CHIPS["v5e"], tuple(range(8)))
  costs = Costs(197e9, 0, 4 * 819e6, 200e6)
  roof = make_roofline(pod, costs, 8 * 98_500_000_000, 32)
  assert (roof.compute_s, roof.memory_s, roof.network_s) == pytest.approx(
    (1e-3, 4e-3, 1e-3)
  )
  assert roof.binds == "memory" and roof.clips_s == pytest.approx(8000)
  assert roof.mfu_pct == pytest.approx(12.5)
  assert roof.hours(525_328, 50) == pytest.approx(525_328 * 50 / 8000 / 3600)


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("v3:2x2", "no topology 'v3:2x2'"),
    ("v5e", "no topology 'v5e'"),
    ("v5e:2x2x2", "has 3 dimensions; v5e has 2"),
    ("v5p:4x4", "has 2 dimensions; v5p has 3"),
  ],
)
def test_a_wrong_topology_is_refused(name, message):
  with pytest.raises(ValueError, match=message):
    chips.open_pod(name)


@pytest.mark.parametrize(
  ("accumulate", "clips", "multiple"), [(1, 12, 8), (4, 8, 32)]
)
def test_a_batch_that_does_not_divide_is_refused(accumulate, clips, multiple):
  words = f"accumulate {accumulate} .*fsdp = 8 .*multiple of {multiple},"
  with pytest.raises(ValueError, match=words):
    check_batch(MeshShape(4, 2), clips, accumulate)
  check_batch(MeshShape(4, 2), multiple, accumulate)


def test_without_libtpu_one_line_names_the_extra(monkeypatch, capsys):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  assert main(["plan", NAME, "--topology", "v5e:2x4", "--tiny"]) == 1
  assert capsys.readouterr().err == (
    "echo-jax plan: libtpu, the compiler for TPUs, is not installed: "
    "pip install 'echo-jax[plan]'\n"
  )


def crash(args, folder):
  """As a fault of the compiler does."""
  os._exit(11)


@with_libtpu
def test_a_crash_of_the_compiler_is_one_line(monkeypatch, capsys):
  monkeypatch.setattr(command, "make_plan", crash)
  assert main(["plan", NAME, "--topology", "v5e:2x4"]) == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert "the compiler crashed on this step (libtpu" in line


@with_libtpu
@pytest.mark.parametrize(
  "name", ["v4:2x2x2", "v5p:2x2x2", "v6e:2x4", "v5e:1x1"]
)
def test_a_device_is_a_chip_and_has_its_memory(name):
  pod = chips.open_pod(name)
  sides = [int(side) for side in name.partition(":")[2].split("x")]
  assert pod.size == jnp.prod(jnp.array(sides))
  held = chips.usable_bytes(pod) / 2**30
  assert 0.95 * pod.chip.hbm_gib < held < 1.01 * pod.chip.hbm_gib


@with_libtpu
def test_collectives_of_a_toy_are_those_counted_by_hand(pod):
  """Six layers, weights in four parts, rows in two, as the body of a loop."""
  mesh = jax.make_mesh(
    (2, 4, 1), AXES, devices=pod.devices,
    axis_types=(jax.sharding.AxisType.Auto,) * 3,
  )  # fmt: skip

  def place(*spec):
    return NamedSharding(mesh, P(*spec))

  def loss(x, weights):
    def layer(x, weight):
      x = jnp.tanh(x @ weight)
      return jax.lax.with_sharding_constraint(x, place("data")), None

    return jnp.square(jax.lax.scan(layer, x, weights)[0]).sum()

  bf16 = jnp.bfloat16
  x = jax.ShapeDtypeStruct((256, 512), bf16, sharding=place("data"))
  weights = jax.ShapeDtypeStruct(
    (6, 512, 512), bf16, sharding=place(None, None, "fsdp")
  )
  lowered = jax.jit(jax.value_and_grad(loss, 1)).lower(x, weights)
  found = compile_program(lowered, chips.usable_bytes(pod))
  # Each layer: its output whole for the next, the gradient of its input
  # summed over 4, that of its weights over 2; and the loss (one bf16) over 2.
  part = 128 * 512 * 2
  assert found.unknown_loops == () and found.collectives == {
    "all-gather": Traffic(6, 6 * 3 / 4 * part),
    "all-reduce": Traffic(13, 6 * (2 * 3 / 4 * part + part) + 2),
  }


@with_libtpu
def test_what_does_not_fit_says_by_how_much(pod):
  array = jax.ShapeDtypeStruct(
    (20 * 2**30,), jnp.int8, sharding=SingleDeviceSharding(pod.devices[0])
  )
  found = compile_program(
    jax.jit(lambda x: x + 1).lower(array), chips.usable_bytes(pod)
  )
  assert found.usable_bytes == 15.75 * 2**30
  assert found.peak_bytes >= 20 * 2**30 and not found.fits


def words_of(settings):
  """The command for the tiny step on 8 chips."""
  return [
    "plan", NAME, "--tiny", "--topology", "v5e:2x4", "--json",
    "--batch-per-chip", "2", "--config", "run.dtype=bfloat16",
    *(word for setting in settings for word in ("--config", setting)),
  ]  # fmt: skip


@with_libtpu
def test_the_command_plans_a_step_whose_layers_are_a_loop(data, capsys):
  settings = (*data, "encoder.depth=3", "compute.scan=True")
  assert main(words_of(settings)) == 0
  plan = json.loads(capsys.readouterr().out)["plan"]
  assert plan["fits"] and plan["chips"] == 8 and plan["batch"] == 16
  assert plan["mesh"] == {"data": 8, "fsdp": 1, "model": 1}
  assert plan["model_flops"] == 3 * forward_flops(16, 4, 32, 3, 16)
  chip, unrolled = plan["a_chip"], plan["by_layers"]
  # So small that norms and softmax are a third of it.
  assert 0.8 < chip["flops"] / (plan["model_flops"] / 8) < 1.6
  # The gradient of every weight, and little else, is summed over all chips.
  assert 1 < chip["sent_bytes"] / (4 * 7 / 8 * matrices(32, 3, 16)) < 1.2
  # A loop, counted as often as it runs, and layers, added up.
  assert plan["loops_of_unknown_length"] == []
  assert chip["sent_bytes"] == pytest.approx(unrolled["sent_bytes"], rel=0.01)
  assert chip["hbm_bytes"] == pytest.approx(unrolled["hbm_bytes"], rel=0.2)
  assert plan["run"]["clips"] == 525_328 and plan["run"]["hours"] > 0


def matrices(width, depth, decoder_width):
  """Weights of the tiny model, without biases."""
  blocks = 12 * depth * width**2 + 12 * decoder_width**2
  return blocks + width * decoder_width + 512 * (width + decoder_width)
