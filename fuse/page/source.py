"""What a report is of: finished runs, ensembles and cross-validations, or the folder of a table, whose runs are read
again for the partition asked.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.errors import DataError, UsageError
from cache.recipe import build
from fuse.numbers.compare import PARTITIONS, seeds_of
from fuse.page.joined import Joined, is_joined, read_joined, read_result, summarise_joined
from fuse.runs import recipe_of
from fuse.tables.grid import Row
from fuse.tables.ranked import Ablation, conclude
from fuse.tables.summary import RowResult, ranked, summarise
from fuse.train import RunResult

TABLES = ("table.json", "results.json")  # of ablate, and of the demo


@dataclass(frozen=True)
class Source:
    """A table, and the runs of each of its rows, a seed each. joined: by row, the folders of several runs, a seed each;
    none for rows that are runs.
    """

    table: Ablation
    runs: list[list[RunResult]]
    joined: list[list[Joined]]

    @property
    def best(self) -> int:
        """The row with the best validation CCC, controls aside: test chooses nothing. The first, where none has one."""
        rows = self.table.rows
        return min(range(len(rows)), key=lambda i: (rows[i].control, -rows[i].validation.mean))

    @property
    def predicted(self) -> list[Path]:
        """The runs behind the first seed of that row: whose labels they are, and who counts that test is opened."""
        joined = self.joined[self.best]
        return [Path(run.folder) for run in (joined[0].runs if joined else self.runs[self.best][:1])]

    @property
    def lead(self) -> str:
        """What the numbers are."""
        joined = f"raw CCC on {self.table.partition}; notes say which rows are several runs as one"
        return joined if any(self.joined) else self.table.numbers


def read_source(paths: Sequence[Path], partition: str) -> Source:
    """paths: runs, ensembles and cross-validations, without -seedN for all seeds, or the one folder of a table.

    No label is opened: the numbers are those the runs left. Raises MissingData where a run is not there or not
    complete, UsageError for a table beside others, for folds beside runs of the official split, and for partitions
    that runs are not scored on.
    """
    if partition not in PARTITIONS:
        raise UsageError(f"runs have no numbers for {partition!r}", hint=f"one of {', '.join(PARTITIONS)}")
    kept = [file for path in paths for name in TABLES if (file := path / name).is_file()]
    if kept and len(paths) > 1:
        raise UsageError(f"{kept[0].parent} is a table's folder, {len(paths) - 1} more are given", hint="give it alone")
    return _of_table(kept[0], partition) if kept else _of_runs(paths, partition)


def _of_table(path: Path, partition: str) -> Source:
    try:
        table = build(Ablation, json.loads(path.read_text(encoding="utf-8")), where=str(path))
    except ValueError as error:
        raise DataError(f"{path} is not a table: {error}", hint="write it again with: python cli.py ablate") from error
    rows = [Row(r.label, r.head, control=r.control, paper=r.paper, note=r.note) for r in table.rows]
    runs = [[read_result(Path(f)) for f in r.folders] for r in table.rows]
    derived = conclude(table.rows, table.partition, paper=table.paper).notes
    notes = [n for n in table.notes if n not in derived]
    return _concluded(rows, runs, partition, title=table.title, paper=table.paper, notes=notes)


def _of_runs(paths: Sequence[Path], partition: str) -> Source:
    groups = [seeds_of(path) for path in paths]
    joined = [[read_joined(f, partition) for f in group] if is_joined(group[0]) else [] for group in groups]
    if len({bool(seeds and seeds[0].folds) for seeds in joined}) > 1:
        raise UsageError(
            "folds and runs of the official split are not scored on the same recordings", hint="make a report of each"
        )
    runs = [
        [run for j in seeds for run in j.runs] or [read_result(f) for f in group]
        for seeds, group in zip(joined, groups, strict=True)
    ]
    told = [
        seeds[0].called if seeds else f"{own[0].head}, {'+'.join(own[0].streams)}"
        for seeds, own in zip(joined, runs, strict=True)
    ]
    names = [re.sub(r"-seed\d+$", "" if len(g) > 1 else r"\g<0>", g[0].name) for g in groups]
    labels = [t if Counter(told)[t] == 1 else n for t, n in zip(told, names, strict=True)]
    rows = [_row(*each) for each in zip(labels, runs, joined, strict=True)]
    return _concluded(rows, runs, partition, joined=joined)


def _row(label: str, runs: Sequence[RunResult], joined: Sequence[Joined]) -> Row:
    heads = ", ".join(dict.fromkeys(run.head for run in runs))
    return Row(label, heads, control=any(map(_permuted, runs)), note=joined[0].how if joined else "")


def _concluded(
    rows: list[Row],
    runs: list[list[RunResult]],
    partition: str,
    *,
    joined: list[list[Joined]] | None = None,
    title: str = "",
    paper: str = "",
    notes: Sequence[str] = (),
) -> Source:
    joined = joined or [[] for _ in rows]
    found = ranked([_summarised(*each, partition) for each in zip(rows, runs, joined, strict=True)])
    return Source(conclude(found, partition, title=title, paper=paper, notes=notes), runs, joined)


def _summarised(row: Row, runs: list[RunResult], joined: list[Joined], partition: str) -> RowResult:
    return summarise_joined(row, joined, partition) if joined else summarise(row, runs, partition)


def _permuted(run: RunResult) -> bool:
    return recipe_of(Path(run.folder)).permute_labels
