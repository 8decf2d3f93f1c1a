"""What a report is of: finished runs, or the folder of a table, whose runs are read again for the partition asked."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cache.errors import DataError, UsageError
from cache.recipe import build
from fuse.numbers.compare import PARTITIONS, seeds_of
from fuse.runs import metrics_of, recipe_of
from fuse.tables.grid import Row
from fuse.tables.ranked import Ablation, conclude
from fuse.tables.summary import ranked, summarise
from fuse.train import RunResult

TABLES = ("table.json", "results.json")  # of ablate, and of the demo


@dataclass(frozen=True)
class Source:
    """A table, and the runs of each of its rows, a seed each."""

    table: Ablation
    runs: list[list[RunResult]]

    @property
    def best(self) -> int:
        """The row with the best validation CCC, controls aside: test chooses nothing."""
        means = [float("-inf") if row.control else row.validation.mean for row in self.table.rows]
        return means.index(max(means))


def read_source(paths: Sequence[Path], partition: str) -> Source:
    """paths: runs, without -seedN for all seeds, or the one folder of a table.

    No label is opened: the numbers are those the runs left. Raises MissingData where a run is not there or not
    complete, UsageError for a table beside others and for partitions that runs are not scored on.
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
    runs = [[read_result(f) for f in seeds_of(path)] for path in paths]
    told = [f"{group[0].head}, {'+'.join(group[0].streams)}" for group in runs]
    names = [re.sub(r"-seed\d+$", "" if len(g) > 1 else r"\g<0>", Path(g[0].folder).name) for g in runs]
    labels = [t if Counter(told)[t] == 1 else n for t, n in zip(told, names, strict=True)]
    rows = [Row(label, g[0].head, control=_permuted(g[0])) for label, g in zip(labels, runs, strict=True)]
    return _concluded(rows, runs, partition)


def _concluded(
    rows: list[Row],
    runs: list[list[RunResult]],
    partition: str,
    *,
    title: str = "",
    paper: str = "",
    notes: Sequence[str] = (),
) -> Source:
    found = ranked([summarise(row, group, partition) for row, group in zip(rows, runs, strict=True)])
    return Source(conclude(found, partition, title=title, paper=paper, notes=notes), runs)


def read_result(folder: Path) -> RunResult:
    """What a finished run measured, with the folder it lies in now."""
    return replace(build(RunResult, metrics_of(folder), where=str(folder)), folder=str(folder))


def _permuted(run: RunResult) -> bool:
    return recipe_of(Path(run.folder)).permute_labels
