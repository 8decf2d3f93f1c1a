"""What a machine can hold of the house rules: who imports whom, what loads lazily, how big things get."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
ROOMS = ("cache", "extract", "fuse")
SOURCES = [*sorted(p for room in ROOMS for p in (TOP / room).rglob("*.py")), TOP / "cli.py"]
FORBIDDEN = {
    "cache": {"torch", "timm", "transformers", "extract", "fuse", "cli"},
    "extract": {"fuse", "cli"},
    "fuse": {"extract", "timm", "transformers", "torchaudio", "av", "cli"},
}
HEAVY = {"cv2", "torch", "timm", "transformers", "torchaudio", "torchvision"}


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(node):
    """(module, line) of every import below a node."""
    for item in ast.walk(node):
        if isinstance(item, ast.Import):
            yield from ((alias.name, item.lineno) for alias in item.names)
        elif isinstance(item, ast.ImportFrom):
            yield item.module, item.lineno


def functions(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def name(path):
    return str(path.relative_to(TOP))


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name != "cli.py"], ids=name)
def test_rooms_import_only_what_they_may(path):
    room = path.relative_to(TOP).parts[0]
    broken = [f"{m} (line {n})" for m, n in imports(tree_of(path)) if m.split(".")[0] in FORBIDDEN[room]]
    assert not broken


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name not in ("cli.py", "commands.py")], ids=name)
def test_our_own_modules_are_imported_at_the_top(path):
    """But for commands, which import what they run: ``--help`` has to be quick."""
    inside = [m for f in functions(tree_of(path)) for m, _ in imports(f) if m.split(".")[0] in ROOMS]
    assert not inside


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parts[-2] == "heads"], ids=name)
def test_a_head_never_imports_another_head(path):
    others = {p.stem for p in path.parent.glob("*.py") if not p.stem.startswith("_")} - {path.stem}
    assert not [m for m, _ in imports(tree_of(path)) if m.startswith("fuse.heads.") and m.split(".")[-1] in others]


@pytest.mark.parametrize("path", [p for p in SOURCES if "extract" in p.parts], ids=name)
def test_stage_one_imports_heavy_libraries_only_where_they_are_used(path):
    guarded = {n for f in ast.walk(tree_of(path)) if isinstance(f, ast.If) for n in imports(f)}
    inside = {n for f in functions(tree_of(path)) for n in imports(f)}
    at_top = set(imports(tree_of(path))) - inside - guarded
    assert not [m for m, _ in at_top if m.split(".")[0] in HEAVY]


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_functions_and_classes_stay_small(path):
    tree = tree_of(path)
    assert len(path.read_text().splitlines()) <= 400
    long = [f.name for f in functions(tree) if _body_lines(f) > 40]
    assert not long
    for cls in (n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)):
        assert sum(isinstance(n, ast.FunctionDef) for n in cls.body) <= 15, cls.name


def _body_lines(function):
    """Lines of code: the signature and the docstring tell, they do not compute."""
    body = function.body[1:] if ast.get_docstring(function) and len(function.body) > 1 else function.body
    return body[-1].end_lineno - body[0].lineno + 1


def test_the_median_file_is_about_150_lines_at_most():
    lengths = sorted(len(p.read_text().splitlines()) for p in SOURCES)
    assert lengths[len(lengths) // 2] <= 150


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_style_that_a_machine_can_hold(path):
    tree = tree_of(path)
    assert ast.get_docstring(tree), "the docstring on top tells the idea"
    assert path.stem not in {"utils", "helpers", "common", "misc"}
    assert not [n.lineno for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler) and n.type is None]
    assert not [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Assert)]


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_text_files_are_utf8_whatever_the_locale(path):
    calls = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    text = [n for n in calls if n.func.attr in ("read_text", "write_text")]
    assert not [n.lineno for n in text if "encoding" not in {k.arg for k in n.keywords}]


def test_every_package_is_shipped():
    listed = set(tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {".".join(p.parent.relative_to(TOP).parts) for p in SOURCES if p.name == "__init__.py"}
    assert listed == there


def test_pitfall_33_the_command_line_starts_without_heavy_imports():
    heavy = "{'torch', 'zarr', 'av', 'cv2', 'matplotlib', 'numpy'}"
    code = f"import sys, cli; loaded = {heavy} & set(sys.modules); assert not loaded, loaded"
    subprocess.run([sys.executable, "-c", code], cwd=TOP, check=True)


def test_the_top_level_is_the_agreed_one():
    allowed = {"pyproject.toml", "extract", "fuse", "cache", "cli.py", "tests", "Makefile", "README.md", "benchmarks"}
    allowed |= {"constraints.txt", ".ci", ".gitignore", "LICENSE", "CHANGELOG.md"}
    listed = subprocess.run(["git", "ls-files"], cwd=TOP, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert {line.split("/")[0] for line in listed.stdout.splitlines()} <= allowed


def test_make_targets_are_phony():
    lines = (TOP / "Makefile").read_text().splitlines()
    targets = {m[1] for line in lines if (m := re.match(r"([a-z]+):(?!=)", line))}
    phony = {t for line in lines if line.startswith(".PHONY:") for t in line.split(":")[1].split()}
    assert {"setup", "demo", "test", "check", "bench", "extract", "train", "ablate"} <= targets
    assert targets <= phony
