"""The file itself: what was gathered, through one template that escapes all text of data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from cache.errors import UsageError
from cache.terminal import visible
from fuse.numbers.bootstrap import LEVEL
from fuse.numbers.plot_robustness import draw_robustness
from fuse.numbers.robustness import Robustness, read_robustness
from fuse.page.bars import bars_of
from fuse.page.closer import Closer, look_closer, told
from fuse.page.findings import FEWEST, RING
from fuse.page.joined import Joined
from fuse.page.pictures import svg
from fuse.page.receipts import digest, receipt_of, streams_of
from fuse.page.source import Source, read_source
from fuse.tables.ranked import data_lines, thousands
from fuse.tables.summary import RowResult
from fuse.tables.table_files import cells, columns

HERE = Path(__file__).parent
HARDEST = 20  # recordings that are listed


@dataclass(frozen=True)
class Report:
    """What was written. lacking: why parts that need labels are not in it; empty where they are."""

    path: str
    partition: str
    rows: int
    runs: int
    bytes: int
    lacking: str


def write_report(
    paths: Sequence[Path],
    out: Path,
    partition: str = "validation",
    robustness: Path | None = None,
    *,
    anonymous: bool = False,
) -> Report:
    """One HTML file of runs, or of a table's folder. Of ``test``, labels are opened once, and counted by the run shown,
    or by all that the row shown is made of.

    Raises what ``read_source`` and ``read_robustness`` raise, UsageError where there is no folder for the file.
    """
    if out.is_dir() or not out.parent.is_dir():
        raise UsageError(f"no report can be written to {out}", hint="give --out a file in a folder that is there")
    source = read_source(paths, partition)
    curves = read_robustness(robustness) if robustness else None
    closer = look_closer(source, partition, anonymous=anonymous)
    page = _render(source, closer, curves, partition).encode()
    out.write_bytes(page)
    runs = sum(map(len, source.runs))
    return Report(str(out), partition, len(source.runs), runs, len(page), closer.lacking)


def report_lines(made: Report) -> list[str]:
    """For a terminal."""
    lines = [f"{made.path}: {made.rows} rows, {made.runs} runs on {made.partition}, {made.bytes / 1e6:.1f} MB"]
    return [*lines, f"without traces, calibration and errors by region: {made.lacking}"] if made.lacking else lines


def _render(source: Source, closer: Closer, curves: Robustness | None, partition: str) -> str:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {"thousands": thousands, "basename": lambda folder: Path(folder).name}
    table = source.table
    receipts = [[receipt_of(run, partition) for run in group] for group in source.runs]
    folders = [run.folder for group in source.runs for run in group]
    everyone = list(dict(zip(folders, (r for group in receipts for r in group), strict=True)).values())
    shares = [d for row in table.rows for d in row.data]
    return environment.get_template("page.html").render(
        title=table.title or f"{_datasets(source)}: valence and arousal",
        table=table,
        level=f"{LEVEL:.0%}",
        heads=[c.head or "rank" for c in columns(table.rows)],
        cells=cells(table, _strong, _escaped),
        notes=[told(note, closer.names) for note in table.notes],
        lead=source.lead,
        shares=data_lines(shares).splitlines() if shares else [],
        bars=bars_of(table.rows),
        pair=[row.label for row in sorted(table.rows, key=lambda r: r.rank or len(table.rows) + 1)[:2]],
        ran=list(zip(table.rows, source.runs, receipts, source.joined, strict=True)),
        together=[(row.label, j, _statistics(j, partition)) for row, j in _joined(source)],
        receipts=everyone,
        streams=streams_of(everyone),
        closer=closer,
        listed=HARDEST,
        fewest=FEWEST,
        ring=RING,
        curves=_curves(curves) if curves else None,
    )


def _joined(source: Source) -> list[tuple[RowResult, Joined]]:
    return [(row, j) for row, seeds in zip(source.table.rows, source.joined, strict=True) for j in seeds]


def _statistics(joined: Joined, partition: str) -> str:
    return digest(joined.folder / "statistics" / f"{partition}.csv")


def _shown(value: Any) -> Any:
    """Characters that a page may not hold, or that would turn its text about, as escapes."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _strong(text: str) -> str:
    return Markup("<strong>{}</strong>").format(text)


def _escaped(text: str) -> str:
    return escape(visible(text))


def _curves(found: Robustness) -> dict[str, Any]:
    told = "raw mean CCC over the level of each corruption; the areas are in the table below"
    return {"found": found, "picture": svg(draw_robustness(found), "robustness", told)}


def _datasets(source: Source) -> str:
    """Names of the corpora, as their folders of runs are called."""
    return ", ".join(dict.fromkeys(Path(run.folder).resolve().parent.name for group in source.runs for run in group))
