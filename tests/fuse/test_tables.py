"""Tables as files and on a terminal: the numbers are the runs', the best is bold, nothing in a label is obeyed."""

import csv
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cache.records import Labels
from fuse.numbers.bootstrap import compare
from fuse.numbers.moments import moments, read_moments, save_moments
from fuse.tables.ablate import run_ablate
from fuse.tables.grid import AblateRecipe, Published, Row
from fuse.tables.ranked import conclude
from fuse.tables.report import ablation_table
from fuse.tables.table_files import latex, markdown, save_tables

SMALL = {"tokens": 32, "stride": 1, "hop": 16, "batch_size": 8, "lr": 1e-2, "epochs": 2, "device": "cpu"}
NASTY = r"50% a_b & {c} | #1 $x$ \input{/etc/passwd} <i> ~^ --é ✓"


@pytest.fixture(scope="module")
def rows(toy_cache, tmp_path_factory):
    made = (
        Row("voice", "unimodal", ("voice",), paper=Published(0.1283, -0.0683, 0.0299), note="a sign is lost"),
        Row("face", "unimodal", ("face",), paper=Published(0.6, 0.5, of="Others, 2021")),
        Row("all", "concat", set={"epochs": 4}),
        Row("permuted", "concat", set={"permute_labels": True}, control=True),
    )
    return run_ablate(AblateRecipe(toy_cache.root, made, tmp_path_factory.mktemp("runs"), SMALL, seeds=2), quiet=True)


@pytest.fixture(scope="module")
def table(rows):
    return conclude(rows, "test", title="A table", paper="Someone, on their split", notes=["read it so"])


def printed(table, width=80):
    console = Console(width=width, markup=False, record=True)
    console.print(ablation_table(table))
    return console.export_text()


def test_rows_are_ranked_by_their_raw_mean_and_controls_are_not(rows):
    assert rows[3].rank is None
    ranked = sorted((r for r in rows if r.rank), key=lambda r: r.rank)
    assert [r.rank for r in ranked] == [1, 2, 3]
    means = [r.raw["mean"].mean for r in ranked]
    assert means == sorted(means, reverse=True)


def test_whether_the_first_beats_the_second_is_the_swap_tests_word(rows, table):
    best, second = sorted((r for r in rows if r.rank), key=lambda r: r.rank)[:2]
    found = [[read_moments(Path(f) / "statistics" / "test.csv", "raw") for f in r.folders] for r in (best, second)]
    want = compare(*found)["mean"]
    assert table.first_against_second.differences["mean"] == want
    assert table.notes[0].startswith(f"{best.label} against {second.label}: raw mean {want.difference:+.3f}")
    assert f"p {want.p:.3f} over 2 recordings: too few recordings to tell" in table.notes[0]


@pytest.mark.parametrize(("noises", "told"), [((0.1, 2.0), "beats it"), ((1.0, 1.0), "not told apart")])
def test_with_recordings_enough_the_verdict_is_the_swap_tests(rows, tmp_path, noises, told):
    rng = np.random.default_rng(0)
    labels = {f"r{i}": Labels(rng.normal(size=(200, 2)), np.ones(200, bool)) for i in range(8)}
    made = []
    for number, noise in enumerate(noises):
        found = moments({r: v.va + rng.normal(size=(200, 2)) * noise for r, v in labels.items()}, labels)
        save_moments(tmp_path / str(number) / "statistics" / "test.csv", {"raw": found})
        made.append(replace(rows[number], label=str(number), rank=number + 1, folders=[str(tmp_path / str(number))]))
    note = conclude(made, "test").notes[0]
    assert note.startswith("0 against 1: raw mean ")
    assert note.endswith(f"over 8 recordings: {told}")


def test_rows_on_other_recordings_are_not_compared(rows, tmp_path):
    best = next(r for r in rows if r.rank == 1)
    folder = tmp_path / "moved"
    shutil.copytree(best.folders[0], folder)
    path = folder / "statistics" / "test.csv"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "rec8" not in line))
    moved = replace(best, folders=[str(folder), best.folders[1]])
    table = conclude([moved, *(r for r in rows if r.rank != 1)], "test")
    assert table.first_against_second is None
    assert "not compared, the runs were not scored on the same recordings" in table.notes[0]


def test_csv_holds_every_number(rows, table, tmp_path):
    assert save_tables(tmp_path, table) == f"table: {tmp_path}/{{table.csv,table.tex,table.md,table.json}}"
    with open(tmp_path / "table.csv", newline="") as file:
        read = list(csv.DictReader(file))
    for got, row in zip(read, rows, strict=True):
        assert float(got["raw_valence"]) == row.raw["valence"].mean
        assert float(got["smoothed_mean_std"]) == row.smoothed["mean"].std
        assert float(got["raw_mean_low"]) == row.intervals["raw"].mean.low
        assert float(got["per_recording_arousal"]) == row.per_recording["arousal"].mean
        assert (got["label"], got["partition"], got["seeds"]) == (row.label, "test", "2")
    assert [(r["paper_valence"], r["paper_arousal"], r["paper_of"]) for r in read] == [
        ("0.1283", "-0.0683", ""),
        ("0.6", "0.5", "Others, 2021"),
        ("", "", ""),
        ("", "", ""),
    ]
    assert read[3]["rank"] == ""


def test_markdown_has_the_papers_columns_and_the_notes(rows, table):
    text = markdown(table)
    grid = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in grid} == {grid[0].count("|")}
    assert "paper valence | paper arousal | paper mean" in grid[0]
    assert "| 0.128 | -0.068 | 0.030 |" in next(line for line in grid if " voice " in line)
    assert "(0.600) | (0.500) |  |" in next(line for line in grid if " face " in line)
    best = next(r for r in rows if r.rank == 1)
    assert f"**{best.raw['mean'].mean:.3f} ±" in text
    for note in ("- paper: Someone, on their split", "- read it so", "are of Others, 2021", "test: 2 of 2 recordings"):
        assert note in text


def test_the_papers_columns_are_only_there_where_a_paper_is(rows):
    plain = conclude([replace(r, paper=None) for r in rows], "test")
    assert "paper" not in markdown(plain)
    assert "params" in printed(plain)
    assert "paper" not in printed(plain)


def test_the_terminals_table_fits_80_columns_and_keeps_raw_interval_and_smoothed(rows, table):
    text = printed(table)
    assert max(map(len, text.splitlines())) <= 80
    assert all(w in text for w in ("raw CCC on test", "95%", "smooth", "paper V A", ".128 -.068", "(.600 .500)"))
    line = next(line for line in text.splitlines() if " voice " in line)
    row = rows[0]
    assert f"{row.raw['mean'].mean:.3f} ±" in line
    assert f"{row.smoothed['mean'].mean:.3f}" in line
    assert re.search(r"\[-?\.\d\d -?\.\d\d\]", line)


def hostile(table):
    rows = [replace(r, label=f"{NASTY} {i}", note=NASTY) for i, r in enumerate(table.rows)]
    return replace(table, title=NASTY, rows=rows, notes=[NASTY])


def test_latex_escapes_all_text(table):
    text = latex(hostile(table))
    told = r"50\% a\_b \& \{c\} \textbar{} \#1 \$x\$ \textbackslash{}input\{/etc/passwd\} \textless{}i\textgreater{}"
    assert told in text
    assert r"\textasciitilde{}\textasciicircum{} -{}-é U+2713" in text
    assert r"\input{" not in text
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if line]
    assert len(lines) == 4
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {11}
    assert all(line.endswith(r" \\") for line in lines)
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", re.sub(r"%.*", "", text.replace(r"\%", ""))):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0


def test_latex_sets_minus_signs_and_bold(rows, table):
    text = latex(table)
    assert "& $-$0.068 &" in text
    assert r"\toprule" in text
    best = next(r for r in rows if r.rank == 1)
    assert f"\\textbf{{{best.raw['mean'].mean:.3f} $\\pm$" in text
    assert not re.findall(r"\\textbf\{[^}]*0\.600", text)


def test_markdown_escapes_all_text(table):
    grid = [line for line in markdown(hostile(table)).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in grid} == {13}
    assert r"a\_b" in grid[2]
    assert r"\<i>" in grid[2]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
def test_the_latex_compiles(table, tmp_path):
    tops = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
    body = latex(table) + latex(hostile(table))
    (tmp_path / "a.tex").write_text(f"{tops}\n{body}\n\\end{{document}}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "a.pdf").is_file()
