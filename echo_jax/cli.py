"""The `echo-jax` command: one file in `commands/` for each subcommand."""

import argparse
import ast
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from echo_jax import __version__

COMMANDS = (
  "demo", "build", "simulate", "inspect", "deid", "leakage", "train",
  "sweep", "evaluate", "predict", "score", "table", "card", "export", "plan",
  "bench",
)  # fmt: skip


class UserError(Exception):
  """Something the user can mend; printed without a traceback."""


def make_parser(only: str = "") -> argparse.ArgumentParser:
  """The parser of every subcommand, or of one alone (which starts faster)."""
  parser = argparse.ArgumentParser(
    prog="echo-jax",
    description="Foundation models for echocardiogram video. Research only; "
    "not for clinical use.",
  )
  parser.add_argument("--version", action="version", version=__version__)
  commands = parser.add_subparsers(
    dest="command", required=True, metavar="COMMAND"
  )
  for name in COMMANDS:
    about = _docstring(name)
    sub = commands.add_parser(
      name, help=about.splitlines()[0].replace("%", "%%"), description=about,
      formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    if only in ("", name):
      module = importlib.import_module(f"echo_jax.commands.{name}")
      module.add_arguments(sub)
      sub.set_defaults(run=module.run)
  return parser


def keep_compiled() -> None:
  """What is compiled stays for the next process, if JAX is not told another.

  In the user's cache, as the XDG base directory specification has it.
  """
  caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
  folder = str(caches / "echo_jax" / "compiled")
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", folder)


def _docstring(name: str) -> str:
  """What a command's file says of it, without importing half the world."""
  path = Path(__file__).with_name("commands") / f"{name}.py"
  return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs one subcommand; returns its exit code."""
  words = sys.argv[1:] if arguments is None else list(arguments)
  # `--config.run.steps=5` is the field's way to write a setting.
  words = [
    word.replace("--config.", "--config=", 1)
    if word.startswith("--config.")
    else word
    for word in words
  ]
  keep_compiled()
  # Orbax and TFDS speak of their insides at this level.
  logging.getLogger("absl").setLevel(logging.ERROR)
  first = words[0] if words else ""
  args = make_parser(first if first else "none").parse_args(words)
  try:
    return args.run(args) or 0
  except ModuleNotFoundError as error:
    print(
      f"echo-jax {args.command}: {error.name} is not installed; see the extras "
      "in the README, as in `pip install 'echo-jax[dicom,tensorboard]'`",
      file=sys.stderr,
    )
    return 1
  except (UserError, OSError, ValueError) as error:
    print(f"echo-jax {args.command}: {error}", file=sys.stderr)
    return 1
