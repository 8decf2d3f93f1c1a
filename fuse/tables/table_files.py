"""A table as files: CSV and JSON with every number, LaTeX (booktabs) and Markdown with those that are printed."""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cache.recipe import to_json
from cache.store import FeatureCache
from fuse.numbers.bootstrap import LEVEL, Intervals
from fuse.tables.ranked import Ablation, data_lines, printed, spread, thousands
from fuse.tables.summary import RowResult, Summary

DIMENSIONS = ("valence", "arousal", "mean")
NAMES = ("table.csv", "table.tex", "table.md", "table.json")
_LATEX = {c: f"\\{c}" for c in "{}$&#_%"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
}


def tables_folder(cache: Path | str, recipe: Path | None) -> Path:
    """Where a table goes that is not told: by corpus and recipe; ``grid`` for one made of flags."""
    return Path("var/tables") / FeatureCache(cache).corpus / (recipe.stem if recipe else "grid")


def save_tables(folder: Path, table: Ablation) -> str:
    """Write the four files; returns a line that says where."""
    folder.mkdir(parents=True, exist_ok=True)
    _save_csv(folder / NAMES[0], table)
    (folder / NAMES[1]).write_text(latex(table), encoding="utf-8")
    (folder / NAMES[2]).write_text(markdown(table), encoding="utf-8")
    (folder / NAMES[3]).write_text(to_json(table), encoding="utf-8")
    return f"table: {folder}/{{{','.join(NAMES)}}}"


def _save_csv(path: Path, table: Ablation) -> None:
    """A line a row: raw, smoothed and per_recording as mean and std over seeds, the first two with their intervals."""
    records = [_record(row, table.partition) for row in table.rows]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)


def _record(row: RowResult, partition: str) -> dict[str, object]:
    record: dict[str, object] = {"rank": row.rank, "label": row.label, "head": row.head}
    record |= {"streams": "+".join(row.streams), "control": row.control, "partition": partition}
    record |= {"seeds": len(row.folders), "parameters": row.parameters, "seconds": row.seconds}
    for kind in ("raw", "smoothed", "per_recording"):
        for d in DIMENSIONS:
            found: Summary = getattr(row, kind)[d]
            record |= {f"{kind}_{d}": found.mean, f"{kind}_{d}_std": found.std if len(found.values) > 1 else None}
            if kind in row.intervals:
                over: Intervals | None = row.intervals[kind]
                interval = getattr(over, d) if over else None
                record[f"{kind}_{d}_low"] = interval.low if interval else None
                record[f"{kind}_{d}_high"] = interval.high if interval else None
    record |= {f"paper_{d}": getattr(row.paper, d) if row.paper else None for d in DIMENSIONS}
    return record | {"paper_of": row.paper.of if row.paper else "", "note": row.note}


@dataclass(frozen=True)
class Column:
    """One printed column: its head, what it says of a row in plain text, and the number whose best is bold."""

    head: str
    cell: Callable[[RowResult], str]
    best: Callable[[RowResult], float] | None = None


def columns(rows: list[RowResult]) -> list[Column]:
    """Those of LaTeX and Markdown; the paper's only where it printed something."""
    made = [Column("", lambda r: str(r.rank or "")), Column("row", lambda r: r.label)]
    made += [_raw(d) for d in DIMENSIONS]
    made += [
        Column(f"{LEVEL:.0%} interval", lambda r: _interval(r.intervals["raw"])),
        Column("smoothed", lambda r: spread(r.smoothed["mean"]), lambda r: r.smoothed["mean"].mean),
        Column("parameters", lambda r: thousands(r.parameters)),
        Column("s/run", lambda r: f"{r.seconds:.1f}"),
    ]
    told = [d for d in DIMENSIONS if any(printed(r.paper, d) for r in rows)]
    return [*made, *(Column(f"paper {d}", _paper(d)) for d in told)]


def _raw(dimension: str) -> Column:
    return Column(dimension, lambda r: spread(r.raw[dimension]), lambda r: r.raw[dimension].mean)


def _paper(dimension: str) -> Callable[[RowResult], str]:
    return lambda row: printed(row.paper, dimension)


def cells(table: Ablation, bold: Callable[[str], str], escape: Callable[[str], str]) -> list[list[str]]:
    """Escaped cells, a list a row; what is the best of its column, controls aside, is bold."""
    made, contestants = columns(table.rows), [row for row in table.rows if row.rank]

    def cell(column: Column, row: RowResult) -> str:
        text, number = escape(column.cell(row)), column.best
        best = number and row.rank and number(row) == max(map(number, contestants))
        return bold(text) if best else text

    return [[cell(column, row) for column in made] for row in table.rows]


def _interval(found: Intervals | None) -> str:
    return f"[{found.mean.low:.3f}, {found.mean.high:.3f}]" if found else ""


def _caption(table: Ablation) -> str:
    return f"{table.title}: {table.numbers}" if table.title else table.numbers


def _notes(table: Ablation) -> list[str]:
    data = data_lines([d for row in table.rows for d in row.data]).splitlines()
    return ["Bold: the best of a column. The interval is the raw mean's, over recordings.", *table.notes, *data]


def markdown(table: Ablation) -> str:
    """The table as Markdown, its caption above, its notes below."""
    made = columns(table.rows)
    lines = [f"**{_plain(_caption(table))}**", "", _line([c.head for c in made]), "|---" * len(made) + "|"]
    lines += map(_line, cells(table, lambda text: f"**{text}**", _plain))
    return "\n".join([*lines, "", *(f"- {_plain(note)}" for note in _notes(table))]) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Text that Markdown takes for nothing else."""
    return re.sub(r"([\\|`*_<\[\]])", r"\\\1", " ".join(text.split()))


def latex(table: Ablation) -> str:
    """A floating table; it needs the package booktabs."""
    made = columns(table.rows)
    body = cells(table, lambda text: f"\\textbf{{{text}}}", _tex)
    return "\n".join(
        [
            r"% \usepackage{booktabs,graphicx}",
            r"\begin{table}",
            r"\centering",
            f"\\caption{{{_tex(_caption(table))}}}",
            r"\resizebox{\linewidth}{!}{%",
            f"\\begin{{tabular}}{{@{{}}rl{'r' * (len(made) - 2)}@{{}}}}",
            r"\toprule",
            " & ".join(_tex(c.head) for c in made) + r" \\",
            r"\midrule",
            *(" & ".join(cells) + r" \\" for cells in body),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\par\smallskip\raggedright\footnotesize",
            *(f"{_tex(note)}\\par" for note in _notes(table)),
            r"\end{table}",
            "",
        ]
    )


def _tex(text: str) -> str:
    """Text as LaTeX sets it; a character that not every font has is told by its number."""

    def one(c: str) -> str:
        return _LATEX.get(c, c if " " <= c <= "~" or "¡" <= c <= "ÿ" else f"U+{ord(c):04X}")

    signed = re.sub(r"(?<![\w.-])-(?=\d)", "\N{MINUS SIGN}", " ".join(text.split()))
    told = "".join("$-$" if c == "\N{MINUS SIGN}" else one(c) for c in signed)
    return re.sub(r"-(?=-)", "-{}", told)  # or two would be one long dash
