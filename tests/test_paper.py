"""The paper's rows: every file, every config, every model's train step."""

import importlib
import math

import jax
import numpy as np
import pytest

from echo_jax import experiment
from echo_jax.commands.table import published_values
from echo_jax.evaluation.estimate import LABELS
from echo_jax.objectives.masks import MaskRule
from echo_jax.targets import target_named
from echo_jax.training.optimizers import rate_schedule
from echo_jax.trees import count_parameters
from experiments import joint_pretrain, parts
from experiments.ablations import objective
from experiments.paper import pretrain, write
from experiments.paper.models import MODELS
from experiments.paper.rows import make_row, row_names
from experiments.paper.tasks import TASKS

ROWS = row_names()
# Of models that differ in their first weights alone, one.
BUILT_ALIKE = ("videomae_kinetics", "echo_videomae")
OF_KIND = {
  "regression": "echonet_lvef", "binary": "echonet_ef_below_50",
  "multiclass": "tmed2_as",
}  # fmt: skip
STEPS = [
  (kind, model) for kind in OF_KIND for model in MODELS
  if model not in BUILT_ALIKE
]  # fmt: skip
SHAPES = {"echocardmae": (16, 112, 112, 3), "echofm": (32, 224, 224, 3)}
NEIGHBOURS = ("echocardmae", "echojepa", "echofm")


def module_of(name):
  return importlib.import_module(f"experiments.paper.{name}")


def trained(built, state, batch):
  """Shapes of the state after a train step, and of its metrics."""
  step = experiment.train_step_of(built).compiled
  return jax.eval_shape(step, np.uint32(0), state, batch)


def test_every_row_is_a_file_that_is_as_written():
  assert len(ROWS) == len(TASKS) * len(MODELS) == 72
  for name, row in ROWS.items():
    file = write.FOLDER / f"{name}.py"
    assert file.read_text() == write.row_file(*row), name
    told = module_of(name).__doc__.replace("\\", " ").split()
    assert " ".join(told[told.index("echo-jax") :]) == write.row_command(name)
  strays = [
    path.stem for path in write.FOLDER.glob("*.py")
    if path.stem.startswith(tuple(TASKS)) and path.stem not in ROWS
  ]  # fmt: skip
  assert not strays


def test_the_readme_lists_the_rows_with_their_costs():
  """Anew with `python -m experiments.paper.write`."""
  assert write.readme() == write.README.read_text()


@pytest.mark.parametrize("task", TASKS)
def test_every_row_of_a_table_is_unpacked(task):
  for model in MODELS:
    row = module_of(f"{task}_{model}")
    config = row.get_config()
    assert config.is_locked
    built = write.unpack(config)
    assert [one.name for one in built.targets] == [TASKS[task].target]
    assert built.contract.shape == SHAPES.get(model, (16, 224, 224, 3))
    assert config.init_from or model == "videomae_scratch"
    for item in row.sweep():
      experiment.override(config, [f"{k}={v!r}" for k, v in item.items()])
    assert [item["run.seed"] for item in row.sweep()] == [0, 1, 2]
    small = row.get_config()
    row.tiny(small)
    assert write.unpack(small).pace.steps == 8


def test_models_of_other_first_weights_are_built_alike():
  scratch = module_of("echonet_lvef_videomae_scratch").get_config()
  for model in BUILT_ALIKE:
    config = module_of(f"echonet_lvef_{model}").get_config()
    config.init_from = ""
    assert config == scratch


def settings_of_step(task, model):
  """What the shapes of a row's train step may depend on."""
  config = make_row(task, model).get_config().to_dict()
  without = (
    "targets", "threshold", "init_from", "data.", "run.steps",
    "run.validate_every", "optimizer.warmup_steps",
  )  # fmt: skip
  return {
    name: value for name, value in experiment.flat_settings(config).items()
    if not name.startswith(without)
  }  # fmt: skip


def test_every_row_has_a_train_step_that_is_tried():
  """That of its model, or of one built alike, and of its kind of target."""
  for task, model in ROWS.values():
    alike = "videomae_scratch" if model.name in BUILT_ALIKE else model.name
    kind = target_named(task.target).kind
    assert (kind, alike) in STEPS
    ours = settings_of_step(task, model)
    assert ours == settings_of_step(TASKS[OF_KIND[kind]], MODELS[alike])


@pytest.mark.parametrize(("kind", "model"), STEPS)
def test_the_train_step_of_every_row_fits(kind, model):
  task = TASKS[OF_KIND[kind]]
  built, state, batch = write.step_of(model, task.name)
  after, metrics = trained(built, state, batch)
  assert jax.tree.structure(after) == jax.tree.structure(state)
  assert metrics["loss"].shape == () and f"loss_{task.target}" in metrics
  outputs = after.params["output"]["kernel"].shape[-1]
  assert outputs == {"regression": 1, "binary": 1, "multiclass": 5}[kind]
  parts_of = {k: count_parameters(v) for k, v in after.params.items()}
  if model == "stf":
    assert parts_of["head"] / 1e6 == pytest.approx(126.4, abs=0.05)
  if MODELS[model].frozen:
    parts_of.pop("encoder")
  moments = count_parameters(after.opt_state)
  assert moments == pytest.approx(2 * sum(parts_of.values()), abs=9)


def test_the_train_step_fits_every_kind_of_target():
  config = module_of("tmed2_as_linear_probe").get_config()
  config.compute.scan = True
  config.targets = ("ef_pct", "ef_below_50", "as_tmed5")
  built = write.unpack(config, 3)
  after, metrics = trained(built, *write.step_shapes(built, 16))
  assert after.params["output"]["kernel"].shape == (768, 1 + 1 + 5)
  assert "loss_as_tmed5" in metrics


def test_pixels_are_scaled_as_first_weights_expect():
  """Means of (0.485, 0.456, 0.406) and of torchvision's (0.432, 0.395, 0.376).
  """
  wanted = {
    "vivit": (0.5, 0.5), "r3d_18": (0.401, 0.222),
    "r2plus1d_18": (0.401, 0.222), "echocardmae": (0.127, 0.196),
    "echofm": (0.0, 1.0),
  }  # fmt: skip
  for model in MODELS:
    clip = module_of(f"echonet_lvef_{model}").get_config().input
    assert (clip.mean, clip.std) == wanted.get(model, (0.449, 0.226))


def test_the_recipe_is_that_of_the_public_script():
  config = module_of("echonet_lvef_stf").get_config()
  rule = parts.make_adamw_rule(config)
  assert rule.steps == 50 * 466 and config.run.batch_size == 16  # 7465 // 16
  rates = rate_schedule(rule)
  assert float(rates(0)) == pytest.approx(1e-5)
  assert float(rates(10 * 466)) == pytest.approx(1e-4)
  assert float(rates(50 * 466)) == pytest.approx(1e-8, rel=1e-3)
  assert (rule.betas, rule.weight_decay, rule.layer_decay) == (
    (0.9, 0.99), 1e-5, 1.0
  )  # fmt: skip
  assert rule.clip_norm == 0 and config.loss == "l2"


def test_tables_differ_in_data_and_target_alone():
  camus = module_of("camus_lvef_stf").get_config()
  stenosis = module_of("tmed2_as_stf").get_config()
  assert (camus.data.name, camus.data.views) == ("camus", ("A2C",))
  assert (stenosis.data.name, stenosis.data.kinds) == ("tmed2", ("still",))
  assert stenosis.input == camus.input  # one pre-training serves both
  assert stenosis.data.views == () and stenosis.targets == ("as_tmed5",)


def test_weights_of_the_pre_training_fit_the_rows():
  """Contract and encoder, which `load_subtree` compares."""
  theirs = pretrain.get_config()
  ours = module_of("echonet_lvef_stf").get_config()
  assert theirs.encoder == ours.encoder and theirs.input == ours.input
  assert theirs.run.steps == 50 * (525_328 // 128) == 205_200
  assert theirs.mask.ratio == 0.85 and theirs.mask.polarity == "described"
  pretrain.tiny(theirs)
  rate_schedule(parts.make_adamw_rule(theirs))  # a warm-up of its few steps


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_neighbours_row_begins_from_its_pre_training(name):
  theirs = module_of(f"{name}_pretrain")
  ours = module_of(f"echonet_lvef_{name}").get_config()
  assert theirs.get_config().encoder == ours.encoder
  assert theirs.get_config().input == ours.input
  assert f"--workdir {ours.init_from} " in theirs.__doc__


def test_echocardmae_is_fine_tuned_as_its_code_does():
  config = module_of("echonet_lvef_echocardmae").get_config()
  assert (config.encoder.width, config.encoder.patch) == (384, 8)
  assert (config.loss, config.data.shift_px) == ("l1", 12)
  rates = rate_schedule(parts.make_adamw_rule(config))
  for step in (0, 1, 23_300):
    assert float(rates(step)) == pytest.approx(1e-5)


def test_published_values_are_those_of_the_tables():
  values = published_values()
  for one in values:
    task = TASKS[one.table]
    assert one.metric in task.metrics and one.metric in LABELS
  of_article = {
    (one.table, one.metric): one.value for one in values
    if "s41467-025-66340-4" in one.source or "epi2026" in one.source
  }  # fmt: skip
  assert of_article == {
    ("echonet_lvef", "mae"): 3.87, ("echonet_lvef", "r2"): 0.825,
    ("echonet_esv", "r2"): 0.782, ("echonet_edv", "r2"): 0.742,
    ("echonet_ef_below_50", "accuracy"): 0.905,
    ("echonet_ef_below_50", "f1"): 0.941,
    ("echonet_ef_below_50", "auroc"): 0.931,
    ("camus_lvef", "mae"): 4.42, ("camus_lvef", "r2"): 0.658,
    ("camus_lvef", "pearson_r"): 0.8649, ("tmed2_as", "macro_auroc"): 0.849,
  }  # fmt: skip
  for one in values:
    if one.mark == "log":
      assert "validation" in one.protocol and one.n == 1288
    if one.table == "echonet_ef_below_50":
      assert one.positive.startswith("EF at ")


def test_every_task_is_one_of_the_task_table():
  for task in TASKS.values():
    assert set(task.metrics) <= set(target_named(task.target).metrics)


def test_hours_follow_from_flops_chip_and_share():
  """17.3 TFLOP by hand: 12 blocks and the tubelets, forward three times."""
  n, d, m = 1568, 768, 3072
  forward = 12 * (8 * n * d**2 + 4 * n**2 * d + 4 * n * d * m)
  forward += 2 * n * d * (2 * 16 * 16 * 3)
  tflop = 3 * 16 * forward / 1e12
  found = write.step_tflop("echo_videomae")
  assert found == pytest.approx(tflop, rel=1e-3)
  hours = 23_300 * tflop * 1e12 / (156e12 * 0.3) / 3600
  assert f"| 23,300 | {tflop:.1f} | one A100 | {hours:.1f} |" in write.readme()
  assert math.isclose(hours, 2.4, abs_tol=0.05)


ABLATIONS = (
  "mask_ratio", "decoder_depth", "pretrain_fraction", "finetune",
  "label_fraction", "frames_and_span", "stf_parts", "heads", "initialisation",
  "objective",
)  # fmt: skip


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_item_of_an_ablation_fits_its_config(name):
  module = importlib.import_module(f"experiments.ablations.{name}")
  items = list(module.sweep())
  assert len({str(item) for item in items}) == len(items) > 2
  for item in items:
    config = module.get_config()
    words = [f"{k}={v!r}" for k, v in item.items()]
    experiment.override(config, words)
    flat = experiment.flat_settings(config.to_dict())
    assert all(flat[key] == value for key, value in item.items())
    if "targets" in config:
      assert write.unpack(config).contract.frames == config.input.frames
  assert f"echo-jax sweep experiments/ablations/{name}.py" in module.__doc__


def test_weights_of_every_objective_fit_the_fine_tuning():
  told = objective.__doc__.replace("\\", " ").split("echo-jax ")
  trainings = [words for one in told if (words := one.split())[0] == "train"]
  assert len(trainings) == 5
  ours = objective.get_config()
  for _, file, *words in trainings:
    name = file.removesuffix(".py").replace("/", ".")
    theirs = importlib.import_module(name).get_config()
    settings = [w[len("--config."):] for w in words if "--config." in w]
    experiment.override(theirs, settings)
    assert theirs.input == ours.input and theirs.encoder == ours.encoder
  weights = {k: v for k, v in theirs.weights.items() if v}  # of the last
  assert weights == {"reconstruction": 0.8, "phase": 0.2}
  # Refused if it saw a masked clip.
  made = joint_pretrain.make_parts(theirs, weights, MaskRule(**theirs.mask))
  assert set(made) == set(weights)
