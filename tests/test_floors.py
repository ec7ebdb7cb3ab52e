"""The floors of the house: a module imports only from floors above its own."""

import ast
from pathlib import Path

import pytest

import echo_jax

ROOT = Path(echo_jax.__file__).parent
FLOORS = (
  ("axes", "units", "simpson", "trees", "targets", "modalities"), ("models",),
  ("objectives",), ("simulate",), ("data",), ("privacy",), ("training",),
  ("evaluation",), ("interop",), ("experiment",), ("planning",), ("cli",),
  ("commands", "__main__"),
)  # fmt: skip
LEVEL = {name: i for i, names in enumerate(FLOORS) for name in names}


def room(path: Path) -> str:
  """First part of a module's name inside the package."""
  return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
  """Rooms that a file imports from, also inside functions."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
      continue
    parts = [name.split(".") for name in names]
    found |= {p[1] for p in parts if p[0] == "echo_jax" and len(p) > 1}
  return {name for name in found if name in LEVEL}


@pytest.mark.parametrize(
  "path",
  [p for p in sorted(ROOT.rglob("*.py")) if room(p) != "__init__"],
  ids=lambda path: str(path.relative_to(ROOT)),
)
def test_imports_come_from_floors_above(path):
  below = {
    name for name in imported_rooms(path) if LEVEL[name] > LEVEL[room(path)]
  }
  assert not below


def test_the_check_sees_a_violation(tmp_path):
  file = tmp_path / "wrong.py"
  file.write_text("def f():\n  from echo_jax.training import loop\n")
  assert imported_rooms(file) == {"training"}
