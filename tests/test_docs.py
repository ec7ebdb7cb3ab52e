"""What the documents say exists, parses, and gives the numbers it quotes."""

import ast
import doctest
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from echo_jax.cli import make_parser

ROOT = Path(__file__).parents[1]
PAGES = (
  "README.md", "CONTRIBUTING.md", "GOVERNANCE.md", "PITFALLS.md", "SCALING.md",
)  # fmt: skip
SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))
NAMED = re.compile(r"\b((?:\w+/)*\w+\.py)::(\w+)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TAG = re.compile(r"\[[^\[\]]+\]\[([\w-]+)\]")
DEFINED = re.compile(r"^\[([\w-]+)\]: \S+$", re.MULTILINE)


def read(page: str) -> str:
  return (ROOT / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
  """A page without its code."""
  return re.sub(r"`[^`\n]+`", "", FENCE.sub("", read(page)))


def names_in(path: Path) -> set[str]:
  """Functions, classes and top-level constants that a file defines."""
  tree = ast.parse(path.read_text(encoding="utf-8"))
  kinds = (ast.FunctionDef, ast.ClassDef)
  defined = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
  for node in tree.body:
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets += [node.target] if isinstance(node, ast.AnnAssign) else []
    defined |= {t.id for t in targets if isinstance(t, ast.Name)}
  return defined


def commands_in(page: str) -> list[list[str]]:
  """Words of every `echo-jax` command in the page's shell blocks."""
  lines = [
    line
    for language, block in FENCE.findall(read(page))
    if language == "sh"
    for line in block.replace("\\\n", " ").splitlines()
  ]
  found = []
  for line in lines:
    for command in line.split("&&"):
      words = shlex.split(command, comments=True)
      if words[:1] == ["echo-jax"]:
        found.append(words[1:])
  return found


def anchors_in(page: str) -> set[str]:
  """Anchors of a page's headings, as GitHub makes them."""
  headings = re.findall(r"^#+ (.+)$", FENCE.sub("", read(page)), re.MULTILINE)
  return {
    re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    for heading in headings
  }


def named_in_pitfalls() -> list[tuple[str, str]]:
  return sorted(set(NAMED.findall(read("PITFALLS.md"))))


@pytest.mark.parametrize(("path", "name"), named_in_pitfalls())
def test_what_pitfalls_names_exists(path, name):
  assert (ROOT / path).is_file()
  assert name in names_in(ROOT / path)


def test_every_pitfall_is_whole():
  """Each entry says how bad and what is here; the table has every entry."""
  entries = re.split(r"^### ", read("PITFALLS.md"), flags=re.MULTILINE)[1:]
  rows = re.findall(
    r"^\| \[(.+?)\]\(#.+?\) \| (wrong|flattering) \| (yes|shown|no) \|$",
    read("PITFALLS.md"), re.MULTILINE,
  )  # fmt: skip
  assert [row[0] for row in rows] == [e.splitlines()[0] for e in entries]
  for entry, (_, _, prevented) in zip(entries, rows, strict=True):
    assert "**How bad.**" in entry and "**Here.**" in entry
    assert ("**not yet prevented**" in entry) == (prevented == "no")
    assert NAMED.search(entry) or prevented == "no"


def test_numbers_measured_here():
  failed, tried = doctest.testfile(
    str(ROOT / "PITFALLS.md"), module_relative=False, encoding="utf-8"
  )
  assert tried > 20 and not failed


@pytest.mark.parametrize(
  "page",
  [
    "README.md", "CONTRIBUTING.md", "SCALING.md", "experiments/paper/README.md",
  ],
)  # fmt: skip
def test_commands_parse(page):
  commands = commands_in(page)
  assert commands
  parser = make_parser()
  for words in commands:
    # As `echo_jax.cli.main` reads them.
    words = [w.replace("--config.", "--config=", 1) for w in words]
    try:
      parser.parse_args(words)
    except SystemExit:
      pytest.fail(f"{page}: echo-jax {shlex.join(words)}")


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page):
  assert set(TAG.findall(prose(page))) == set(DEFINED.findall(read(page)))
  for link in LINK.findall(prose(page)):
    if link.startswith(("https://", "http://")):
      continue
    path, _, anchor = link.partition("#")
    assert not path or (ROOT / path).exists(), link
    if anchor:
      assert anchor in anchors_in(path or page), link


@pytest.mark.parametrize("page", PAGES[1:])
def test_the_readme_links_every_page(page):
  assert page in LINK.findall(prose("README.md"))


def test_scaling_names_the_scripts_that_are_there():
  named = set(re.findall(r"scripts/\w+\.sh", read("SCALING.md")))
  assert named == {f"scripts/{script.name}" for script in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_parse_and_say_what_they_want(script):
  subprocess.run(["bash", "-n", script], check=True)
  told = subprocess.run(["bash", script], capture_output=True, text=True)
  assert told.returncode == 2 and "EXPERIMENT WORKDIR" in told.stderr


def test_the_demo_table_holds_what_the_result_file_says():
  file = ROOT / "results" / "demo" / "full.json"
  cohort = json.loads(file.read_text())["cohorts"]["independent"]
  constant = cohort["estimates"]["training mean"][0]["mae"]["value"]
  rows = re.findall(r"^\| (.+?) \| (\d.+?) \| (.+?) \| (.*?) ?\|$",
                    read("README.md"), re.MULTILINE)  # fmt: skip
  assert len(rows) == 11
  for name, each, share, difference in rows:
    name = name.removesuffix(" (main)")
    mae = [seed["mae"] for seed in cohort["estimates"][name]]
    assert each == ", ".join(
      f"{m['value']:.1f} ({m['low']:.1f}–{m['high']:.1f})" for m in mae
    )
    mean = sum(m["value"] for m in mae) / len(mae)
    assert share == f"{mean / constant:.2f}"
    if difference:
      found = cohort["comparisons"][name]
      assert difference == (
        f"{found['value']:.1f} ({found['low']:.1f} to {found['high']:.1f})"
      )
