"""Rows of a table summarised: their seeds' numbers as one, with intervals over recordings, and ranked."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cache.errors import UsageError
from fuse.feeding.snapshot import Share
from fuse.numbers.bootstrap import Intervals, intervals
from fuse.numbers.moments import Moments, read_moments
from fuse.tables.grid import Published, Row
from fuse.train import RunResult


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation over seeds (n - 1 in the denominator; 0 for one seed), and each seed's value."""

    mean: float
    std: float
    values: list[float]


@dataclass(frozen=True)
class RowResult:
    """A row's numbers on the partition. raw, smoothed, per_recording: summaries of valence, arousal and mean.

    validation: summary of the raw mean CCC there, for choosing without looking at the partition reported.
    data: what each seed's numbers rest on, by partition. intervals: over recordings, of the means over seeds, by way
    of scoring. rank: by the raw mean, 1 is the best; a control has none. paper, note: what the recipe says of the row.
    """

    label: str
    head: str
    streams: list[str]
    control: bool
    parameters: int
    seconds: float
    raw: dict[str, Summary]
    smoothed: dict[str, Summary]
    per_recording: dict[str, Summary]
    validation: Summary
    data: list[dict[str, Share]]
    folders: list[str]
    intervals: dict[str, Intervals | None]
    rank: int | None = None
    paper: Published | None = None
    note: str = ""


def ranked(rows: list[RowResult]) -> list[RowResult]:
    """The rows with their ranks by raw mean; equal means share one, controls have none."""
    means = [row.raw["mean"].mean for row in rows if not row.control]
    ranks = [None if row.control else 1 + sum(m > row.raw["mean"].mean for m in means) for row in rows]
    return [replace(row, rank=rank) for row, rank in zip(rows, ranks, strict=True)]


def summary(values: Iterable[float]) -> Summary:
    """Mean and spread of one number over seeds."""
    listed = [float(v) for v in values]
    std = float(np.std(listed, ddof=1)) if len(listed) > 1 else 0.0
    return Summary(float(np.mean(listed)), std, listed)


def summarise(row: Row, runs: list[RunResult], partition: str) -> RowResult:
    """One row from its runs, a seed each. Raises UsageError where the partition has no labels."""
    missing = [r.folder for r in runs if partition not in r.evaluations]
    if missing:
        raise UsageError(f"{missing[0]} has no numbers for partition {partition!r}: it has no labels")
    evaluations = [r.evaluations[partition] for r in runs]

    def over_seeds(kind: str) -> dict[str, Summary]:
        scores = [getattr(e, kind) for e in evaluations]
        return {d: summary(getattr(s, d) for s in scores) for d in ("valence", "arousal", "mean")}

    return RowResult(
        label=row.label,
        head=row.head,
        streams=runs[0].streams,
        control=row.control,
        parameters=runs[0].parameters,
        seconds=round(sum(r.seconds for r in runs) / len(runs), 1),
        raw=over_seeds("raw"),
        smoothed=over_seeds("smoothed"),
        per_recording=over_seeds("per_recording"),
        validation=summary(r.evaluations["validation"].raw.mean for r in runs),
        data=[r.data for r in runs],
        folders=[r.folder for r in runs],
        intervals={kind: intervals(_moments(runs, partition, kind)) for kind in ("raw", "smoothed")},
        paper=row.paper,
        note=row.note,
    )


def _moments(runs: list[RunResult], partition: str, kind: str) -> list[Moments]:
    return [read_moments(Path(r.folder) / "statistics" / f"{partition}.csv", kind) for r in runs]
