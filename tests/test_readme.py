"""What the README tells people to type: every command exists, and takes those options; its code is code that runs."""

import re
import shlex
from pathlib import Path

import pytest
import typer

import cli

TOP = Path(__file__).parents[1]
README = "".join((TOP / name).read_text(encoding="utf-8") for name in ("README.md", "cache/SCALE.md"))
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.S)
TYPED = [line.strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
INLINE = re.findall(r"`(python cli\.py [^`…]+|cache [a-z]+ [^`]*)`", README)
TARGETS = re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.M)


def _words(line):
    return shlex.split(line.partition("  #")[0].replace("\n", " "))


@pytest.mark.parametrize("line", [t for t in [*TYPED, *INLINE] if re.match(r"python cli\.py|cache ", t)])
def test_a_command_of_the_readme_is_one(line):
    words = _words(line.removeprefix("python cli.py ").replace("…", "..."))
    group = typer.main.get_command(cli.app)
    name, command, rest = group.resolve_command(None, words)
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(None, rest)
    if rest != ["..."]:
        command.make_context(name, rest)  # raises for an option that it has not, or an argument that is missing


@pytest.mark.parametrize("line", [t for t in TYPED if t.startswith("make ")])
def test_a_target_of_the_readme_is_one(line):
    assert _words(line)[1] in TARGETS


def test_code_of_the_readme_is_code():
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) > 1
    for block in blocks:
        compile(block, "README.md", "exec")


def test_files_that_the_readme_points_to_are_there():
    named = set(re.findall(r"`((?:extract|fuse|cache|benchmarks)/[\w./-]+)`", README))
    named |= set(re.findall(r"\]\(([\w./-]+)\)", README))
    assert len(named) > 8
    assert [n for n in named if not (TOP / n).exists()] == []
