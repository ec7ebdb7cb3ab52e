"""Export: what goes out runs alone, comes back whole, and is refused."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors import safe_open

from echo_jax import experiment, trees
from echo_jax.cli import main
from echo_jax.data.contract import InputContract
from echo_jax.data.pipeline import arrays_of
from echo_jax.interop.exported import load_exported, read_exported
from echo_jax.training.step import evaluated_params

TRAIN = "experiments.ef_finetune"
ALONE = """
import json, sys
from pathlib import Path
import jax.export
import numpy as np

folder = Path(sys.argv[1])
contract = json.loads((folder / "contract.json").read_text())
given = np.load(folder / "given.npz")
clips = [given[one["name"]] for one in contract["inputs"]]
model = jax.export.deserialize(
  bytearray((folder / "predict.jaxexport").read_bytes())
)
for count in (len(clips[0]), 1):
  found = model.call(*(x[:count] for x in clips))
  np.savez(folder / f"found_{count}.npz", **found)
assert not [name for name in sys.modules if name.startswith(
  ("echo_jax", "experiments", "flax", "data_builders")
)]
"""


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
  """(experiment, state, folder of its export)."""
  built, workdir = trained
  out = tmp_path_factory.mktemp("exported")
  assert main(["export", str(workdir), "--out", str(out)]) == 0
  return built, experiment.load_best(built, workdir), out


def test_the_model_runs_without_our_code(exported):
  built, state, out = exported
  batch = arrays_of(next(built.open_clips("test", 1)[1]))
  batch["frame_valid"][0, -2:] = False
  np.savez(out / "given.npz", **batch)
  subprocess.run([sys.executable, "-c", ALONE, str(out)], check=True)
  wanted, _ = built.predict_step(evaluated_params(state), state.aux, batch)
  for count in (len(wanted), 1):
    with np.load(out / f"found_{count}.npz") as found:
      assert set(found) == {"ef_pct", "edv_ml", "esv_ml"}
      for i, target in enumerate(built.targets):
        assert found[target.name].shape == (count,)
        np.testing.assert_allclose(
          found[target.name], wanted[:count, i], rtol=1e-5
        )


def test_the_files_say_what_they_are(exported, tmp_path):
  built, state, out = exported
  contract = json.loads((out / "contract.json").read_text())
  with safe_open(out / "weights.safetensors", framework="numpy") as file:
    metadata, names = file.metadata(), set(file.keys())
  assert metadata["contract_hash"] == experiment.contract_hash(built)
  assert InputContract(**json.loads(metadata["input_contract"])) == (
    built.contract
  )
  assert json.loads(metadata["targets"]) == ["ef_pct", "edv_ml", "esv_ml"]
  assert contract["contract_hash"] == metadata["contract_hash"]
  assert contract["step"] == int(state.step)
  assert contract["outputs"][0]["unit"] == "%"
  assert contract["inputs"][0]["shape"] == ["b", 16, 32, 32, 1]
  assert set(contract["sha256"]) == {"weights.safetensors", "predict.jaxexport"}
  leaves = trees.named_leaves({"params": state.params})
  assert names == set(leaves)
  (plain := tmp_path / "plain").touch()  # as any file that a user writes
  modes = {file.stat().st_mode for file in (plain, *out.iterdir())}
  assert len(modes) == 1
  everything = (out / "contract.json").read_text() + json.dumps(metadata)
  assert built.config["data"]["dir"] not in everything


def test_weights_come_back_under_their_contract_only(exported):
  built, state, out = exported
  path, targets = out / "weights.safetensors", ("ef_pct", "edv_ml", "esv_ml")
  found = load_exported(path, built.contract, targets)
  jax.tree.map(np.testing.assert_array_equal, found["params"], state.params)
  other = InputContract(**vars(built.contract) | {"span_s": 1.0})
  with pytest.raises(ValueError, match='"span_s": 1.4.*here.*"span_s": 1.0'):
    load_exported(path, other, targets)
  with pytest.raises(ValueError, match="another input contract"):
    load_exported(path, built.contract, targets[::-1])


def test_a_run_starts_from_an_export(exported, settings, tmp_path, capsys):
  built, state, out = exported
  words = (*settings, f"init_from={out}")
  begun = experiment.prepare(TRAIN, words, tiny=True)
  found = experiment.initial_state(begun).params["encoder"]
  jax.tree.map(
    np.testing.assert_array_equal, found, dict(state.params["encoder"])
  )
  experiment.keep_record(begun, tmp_path)
  origin = experiment.read_record(tmp_path)["init_from"]
  contract = json.loads((out / "contract.json").read_text())
  assert origin["sha256"] == contract["sha256"]["weights.safetensors"]
  assert origin["contract_hash"] == contract["contract_hash"]
  for change, message in (
    ("input.span_s=1.0", r"span_s 1.4 \(here 1.0\)"),
    ("encoder.width=64", "its encoder width is 32, now it is 64"),
    ("init_anew=('pooler',)", "of which nothing starts anew"),
  ):
    other = experiment.prepare(TRAIN, (*words, change), tiny=True)
    with pytest.raises(ValueError, match=message):
      experiment.initial_state(other)


def test_what_is_not_exported_is_said(exported, trained, tmp_path, capsys):
  _, workdir = trained
  run = tmp_path / "run"
  shutil.copytree(workdir, run)
  record = json.loads((run / "run.json").read_text())
  for changed, words in (
    ({"targets": []}, "a pre-training run predicts no target"),
    ({"contract": {"clip": record["contract"]}}, "reads whole studies"),
  ):
    (run / "run.json").write_text(json.dumps(record | changed))
    assert main(["export", str(run), "--out", str(tmp_path / "out")]) == 0
    assert words in capsys.readouterr().out
    assert not (tmp_path / "out" / "predict.jaxexport").exists()
    read_exported(tmp_path / "out" / "weights.safetensors")
