"""Fine-tuning encoders of other libraries, from their weights and anew."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from echo_jax import experiment, trees
from echo_jax.interop.torchvision_video import tensor_table
from echo_jax.interop.weight_files import digest_of
from experiments import ef_finetune, parts

HERE = Path(__file__).parent
SMALL = {
  "encoder.widths": (2, 4), "encoder.blocks": (1, 1), "head.name": "mean",
  "input.size": 16, "input.channels": 3, "run.steps": 1, "run.batch_size": 4,
}  # fmt: skip
FILE = """
from experiments import ef_finetune, parts

build = ef_finetune.build

def get_config():
  config = ef_finetune.get_config()
  with config.unlocked():
    config.encoder = parts.resnet_config("r3d_18")
  return config

def tiny(config):
  config.update_from_flattened_dict({settings})
"""


def config_of(encoder, data_dir, **settings):
  config = ef_finetune.get_config()
  with config.unlocked():
    config.encoder = encoder
  config.update_from_flattened_dict({"data.dir": str(data_dir), **settings})
  return config


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """An experiment file with a small R3D."""
  path = tmp_path_factory.mktemp("experiment") / "resnet.py"
  path.write_text(FILE.replace("{settings}", repr(SMALL)))
  return str(path)


def test_full_size_rows_have_the_shapes_of_their_kinds(data_dir):
  """Every kind at its full size, as far as shapes go."""
  for kind, outputs in (("r3d_18", 512), ("r2plus1d_18", 512), ("vivit", 768)):
    if kind == "vivit":
      encoder = parts.vivit_config()
    else:
      encoder = parts.resnet_config(kind)
    settings = {"head.name": "mean", "input.size": 224}
    built = ef_finetune.build(config_of(encoder, data_dir, **settings))
    state = experiment.state_shapes(built)
    assert state.params["output"]["kernel"].shape == (outputs, 3)
    assert ("batch_stats" in state.aux.collections) == (kind != "vivit")
  bare = {"kind": "r3d_18"}  # what is not said is as published
  config = config_of(bare, data_dir, **{"head.name": "mean"})
  assert parts.make_encoder(config) == parts.make_encoder(
    config_of(parts.resnet_config("r3d_18"), data_dir)
  )
  assert parts.make_adamw_rule(config).encoder_depth == 8
  config = config_of({"kind": "vivit"}, data_dir)
  assert parts.make_adamw_rule(config).encoder_depth == 12
  config = config_of(bare, data_dir, **{"compute.scan": True})
  with pytest.raises(ValueError, match="a r3d_18 has no transformer blocks"):
    parts.make_encoder(config)
  anew = config_of(bare, data_dir, init_anew=("positions",))
  with pytest.raises(ValueError, match="init_anew .* but init_from is empty"):
    ef_finetune.build(anew)
  with pytest.raises(ValueError, match="no encoder 'r4d': vit, vivit, cnn"):
    parts.make_encoder(config_of({"kind": "r4d"}, data_dir))


def test_from_a_file_through_a_run_to_another_run(
  source, data_dir, tmp_path, capsys
):
  """Weights and running statistics go along, and the record has the hash."""
  words = (f"data.dir={data_dir}",)
  built = experiment.prepare(source, words, tiny=True)
  shapes = experiment.state_shapes(built)
  variables = {"params": shapes.params, **shapes.aux.collections}
  maker = runpy.run_path(str(HERE / "interop" / "make_golden_nets.py"))
  leaves = trees.named_leaves(parts.take_subtree(variables, "encoder"))
  tensors = {
    row.name: maker["make_tensor"](
      row.name, row.export(np.empty(leaves[row.path].shape)).shape
    )
    for row in tensor_table(built.model.encoder)
  }
  extra = {"fc.bias": np.zeros(400, np.float32)}
  save_file(tensors | extra, tmp_path / "r3d_18.safetensors")
  words += (f"init_from={tmp_path / 'r3d_18.safetensors'}",)
  begun = experiment.prepare(source, words, tiny=True)
  nothing = jax.tree.map(lambda leaf: np.zeros(leaf.shape), variables)
  first = begun.warm_start(nothing)
  assert "started anew: nothing" in (said := capsys.readouterr().out)
  assert "left out: fc.bias" in said
  found = trees.named_leaves(parts.take_subtree(first, "encoder"))
  for row in tensor_table(begun.model.encoder):
    np.testing.assert_array_equal(
      row.export(np.asarray(found[row.path])), tensors[row.name]
    )
  run = tmp_path / "run"
  last = experiment.run(begun, run, progress=False)
  assert "no list was kept: cannot be checked" in capsys.readouterr().out
  origin = experiment.read_record(run)["init_from"]
  assert origin["sha256"] == digest_of(tmp_path / "r3d_18.safetensors")
  assert origin["file"] == "r3d_18.safetensors"
  taken = experiment.load_variables(
    str(run), "encoder", begun.contract, begun.config["encoder"]
  )
  assert set(taken) == {"params", "batch_stats"}
  assert experiment.origin_of_weights(str(run))["step"] == int(last.step) == 1
  ends = {"params": last.params, **last.aux.collections}
  for kind, before in first.items():
    jax.tree.map(
      np.testing.assert_array_equal, taken[kind], dict(ends[kind]["encoder"])
    )
    moved = jax.tree.map(
      lambda a, b: np.abs(a - b).max(), taken[kind], dict(before["encoder"])
    )
    assert max(jax.tree.leaves(moved)) > 0
  parted = experiment.prepare(
    source, (*words, "compute.accumulate=2"), tiny=True
  )
  batch = next(iter(built.batches(0)))
  with pytest.raises(ValueError, match="statistics of the whole batch"):
    jax.eval_shape(
      experiment.train_step_of(parted).lower, shapes,
      {k: v for k, v in batch.items() if isinstance(v, np.ndarray)},
    )  # fmt: skip
