"""Compiles an experiment's own train step for a TPU pod, without any TPU.

Prints whether it fits a chip and by how much, the FLOPs of the model and of the
program, bytes to and from memory, what the chips send each other, and the bound
that this sets: a time that no run beats, not a forecast.  Needs libtpu:
pip install 'echo-jax[plan]'.

Example:
  echo-jax plan experiments/mae_pretrain.py --topology v5e:16x16 \\
    --batch-per-chip 8 --config.data.dir=data --config.run.dtype=bfloat16
  echo-jax plan experiments.mae_pretrain --topology v5e:2x4 --made-data \\
    --batch-per-chip 4 --tiny
  echo-jax plan experiments.mae_pretrain --topology v5p:4x4x4 --search --json
"""

import argparse
import json
import math
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import jax
from tqdm import tqdm

from data_builders import synthetic_echo
from echo_jax.cli import UserError
from echo_jax.data.build import build
from echo_jax.experiment import code_commit
from echo_jax.planning import chips
from echo_jax.planning.chips import Pod
from echo_jax.planning.plan import Plan, Planner, Subject
from echo_jax.planning.search import best, search
from echo_jax.training.sharding import MeshShape

GIB = 2**30
ARTICLE_CLIPS, ARTICLE_EPOCHS = 525_328, 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Experiment, pod, batch, and how long the run is to be."""
  parser.add_argument("experiment", help="file, or dotted module")
  parser.add_argument(
    "--topology", required=True,
    help=f"chip ({', '.join(chips.CHIPS)}) and layout: v5e:16x16, v5p:4x4x4",
  )  # fmt: skip
  parser.add_argument(
    "--batch-per-chip", type=int,
    help="instead of run.batch_size, which is of all chips",
  )
  parser.add_argument(
    "--mesh", metavar="DxFxM",
    help="chips along data, fsdp and model, instead of the experiment's",
  )
  parser.add_argument(
    "--search", action="store_true",
    help="the largest batch that fits, on each of a few meshes",
  )  # fmt: skip
  parser.add_argument(
    "--most", type=int, default=256, help="clips a chip that a search tries"
  )
  parser.add_argument(
    "--clips", type=int, default=ARTICLE_CLIPS,
    help=f"of an epoch ({ARTICLE_CLIPS:,}, the article's)",
  )  # fmt: skip
  parser.add_argument(
    "--epochs", type=int, default=ARTICLE_EPOCHS,
    help=f"of the run ({ARTICLE_EPOCHS}, the article's)",
  )  # fmt: skip
  parser.add_argument(
    "--made-data", action="store_true",
    help="a few simulated videos instead of data.name: only shapes matter",
  )  # fmt: skip
  parser.add_argument("--tiny", action="store_true", help="the tiny model")
  parser.add_argument("--json", action="store_true", help="instead of text")
  parser.add_argument(
    "--config", metavar="KEY=VALUE", action="append", default=[],
    help="a setting; also written --config.KEY=VALUE",
  )  # fmt: skip


def run(args: argparse.Namespace) -> int:
  """Compiles and prints; 1 where nothing fits.

  Raises:
    UserError: the compiler crashed.
  """
  for name in ("batch_per_chip", "most", "clips", "epochs"):
    if getattr(args, name) is not None and getattr(args, name) < 1:
      raise ValueError(f"--{name.replace('_', '-')} is not 1 or more")
  chips.read_topology(args.topology)
  with (
    tempfile.TemporaryDirectory(prefix="echo-jax-plan-") as folder,
    ProcessPoolExecutor(1, mp_context=get_context("spawn")) as compiler,
  ):
    try:
      said, fits = compiler.submit(make_plan, args, Path(folder)).result()
    except BrokenProcessPool as error:
      raise UserError(
        "the compiler crashed on this step (libtpu "
        f"{chips.compiler_version()}), which says nothing of whether it fits; "
        "another mesh, batch or compute.remat may compile"
      ) from error
  print(said)
  return 0 if fits else 1


def make_plan(args: argparse.Namespace, folder: Path) -> tuple[str, bool]:
  """What to print, and whether anything fits; in a process of its own.

  A fault of the compiler ends the process that it runs in.  `folder` is for
  made data.
  """
  jax.config.update("jax_platforms", "cpu")  # leaves a real TPU alone
  # What is compiled for a TPU can be read again only where there is one.
  jax.config.update("jax_enable_compilation_cache", False)
  pod = chips.open_pod(args.topology)
  with tqdm(unit=" compiled", file=sys.stderr) as bar:
    made = make_data(folder) if args.made_data else []
    subject = Subject(args.experiment, (*args.config, *made), args.tiny)
    planner = Planner(subject, pod, bar)
    if not args.search:
      bar.reset(planner.compiles())
    plans = _plans(args, planner)
  chosen = best(plans) or plans[0]
  if args.json:
    said = json.dumps(_as_json(args, pod, plans, chosen), indent=2)
  else:
    said = as_text(pod, plans, chosen, args.clips, args.epochs)
  return said, chosen.memory.fits


def make_data(folder: Path) -> list[str]:
  """Settings that read a few simulated videos, made in the folder."""
  dataset = synthetic_echo.dataset(
    patients=4, studies=1, size=32, duration_s=1.6, codec="raw",
    shares={"train": 0.5, "validation": 0.5},
  )  # fmt: skip
  build(dataset, folder, progress=False)
  return [
    f"data.dir={folder}", f"data.name={dataset.name}", "data.mix=()",
    "data.views=()",
  ]  # fmt: skip


def _plans(args: argparse.Namespace, planner: Planner) -> list[Plan]:
  if args.search:
    return list(search(planner, args.most))
  mesh, size = planner.mesh, planner.pod.size
  if args.mesh:
    sides = args.mesh.split("x")
    if len(sides) != 3 or not all(side.isdigit() for side in sides):
      raise ValueError(f"--mesh {args.mesh!r} is not like 32x8x1")
    mesh = MeshShape(*(int(side) for side in sides)).over(size)
  clips = planner.built.batch_size
  if args.batch_per_chip:
    clips = args.batch_per_chip * size
  return [planner.plan(mesh, clips)]


def _as_json(
  args: argparse.Namespace, pod: Pod, plans: list[Plan], chosen: Plan
) -> dict:
  return {
    "experiment": args.experiment, "settings": args.config, "tiny": args.tiny,
    "made_data": args.made_data, "commit": code_commit(),
    "jax": version("jax"), "libtpu": chips.compiler_version(),
    "plan": chosen.as_dict(pod, args.clips, args.epochs),
    "others": [
      plan.as_dict(pod, args.clips, args.epochs)
      for plan in plans if plan is not chosen
    ],
  }  # fmt: skip


def as_text(
  pod: Pod, plans: list[Plan], chosen: Plan, clips: int, epochs: int
) -> str:
  """The plans as lines to read."""
  lines = [
    f"{pod.name}: {pod.size} chips; libtpu {chips.compiler_version()}, "
    f"jax {version('jax')}"
  ]
  if len(plans) > 1:
    lines += ["", *(_one_line(plan, pod) for plan in plans), ""]
  lines += _memory_lines(chosen, pod)
  if chosen.roofline:
    lines += _cost_lines(chosen, pod)
    hours = chosen.roofline.hours(clips, epochs)
    lines.append(
      f"{clips:,} clips x {epochs} epochs: {hours:.3g} hours or more"
    )
  return "\n".join(lines)


def _mesh(plan: Plan) -> str:
  mesh = plan.mesh
  return f"data {mesh.data} x fsdp {mesh.fsdp} x model {mesh.model}"


def _one_line(plan: Plan, pod: Pod) -> str:
  each = plan.clips / pod.size
  if not plan.roofline:
    return (
      f"{_mesh(plan)}: not even {each:g} clips a chip fit, "
      f"{-plan.memory.spare_bytes / GIB:.2f} GiB too much"
    )
  return (
    f"{_mesh(plan)}: {each:g} clips a chip fit, at most "
    f"{plan.roofline.clips_s:,.0f} clips/s, {plan.roofline.binds} binds"
  )


def _memory_lines(plan: Plan, pod: Pod) -> list[str]:
  memory = plan.memory
  lines = [
    f"batch {plan.clips} ({plan.clips / pod.size:g} a chip), mesh {_mesh(plan)}"
  ]
  if not memory.fits:
    return lines + [
      f"does not fit: a chip needs {memory.peak_bytes / GIB:.2f} GiB and has "
      f"{memory.usable_bytes / GIB:.2f}"
    ]
  return lines + [
    f"fits: a chip holds {memory.peak_bytes / GIB:.2f} GiB at most, of "
    f"{memory.usable_bytes / GIB:.2f}; {memory.spare_bytes / GIB:.2f} are left",
    f"  arguments {memory.argument_bytes / GIB:.2f} GiB, temporaries "
    f"{memory.temporary_bytes / GIB:.2f} GiB",
  ]


def _cost_lines(plan: Plan, pod: Pod) -> list[str]:
  costs, roof = plan.costs, plan.roofline
  how = "from steps of one and two layers" if plan.by_layers else "as counted"
  ours = plan.model_flops / pod.size
  lines = [
    f"a chip and step: model {ours / 1e12:.4g} TFLOP, program "
    f"{costs.flops / 1e12:.4g} TFLOP ({how}), HBM {costs.hbm_bytes / 1e9:.4g} "
    f"GB, XLA's bytes accessed {costs.accessed_bytes / 1e9:.4g} GB",
    f"sent by a chip: {costs.sent_bytes / 1e9:.4g} GB",
  ]
  lines += [
    f"  {kind:<20}{one.count:>6} times {one.sent_bytes / 1e6:>12.3f} MB"
    for kind, one in plan.collectives.items()
  ]
  if plan.unknown_loops:
    lines.append(
      f"  counted as if run once, for their length is unknown: "
      f"{', '.join(plan.unknown_loops)}"
    )
  return lines + [
    f"no faster than: compute {_time(roof.compute_s)}, memory "
    f"{_time(roof.memory_s)}, network {_time(roof.network_s)}; {roof.binds} "
    "binds",
    f"  MFU {roof.mfu_pct:.1f} % or less, {roof.clips_s:,.0f} clips/s of the "
    "pod or less",
  ]


def _time(seconds: float) -> str:
  """Three digits of ms."""
  digits = 2 - math.floor(math.log10(seconds * 1e3)) if seconds > 0 else 0
  return f"{seconds * 1e3:.{max(digits, 0)}f} ms"
