"""Whether one run beats another, from what both left behind when they were scored: no label is opened."""

import re
from dataclasses import dataclass
from pathlib import Path

from cache.errors import MissingData, UsageError
from fuse.numbers.bootstrap import LEVEL, Difference, check_pairs, compare, least_p, point, seeds_needed
from fuse.numbers.moments import Moments, read_moments

PARTITIONS = ("validation", "test")
SCORED = ("raw", "smoothed")


@dataclass(frozen=True)
class Comparison:
    """A against B on one partition. differences: of valence, arousal and mean; None for a single recording.

    a, b: run folders, a seed each. a_seeds, b_seeds: mean CCC of each seed. seeds_needed: of each, so that a
    difference like this one would be found among seeds; None where there is one seed, or no difference.
    """

    a: list[str]
    b: list[str]
    partition: str
    scored: str
    recordings: int
    differences: dict[str, Difference] | None
    a_seeds: list[float]
    b_seeds: list[float]
    seeds_needed: int | None


def compare_runs(a: Path, b: Path, partition: str = "test", scored: str = "raw") -> Comparison:
    """Compare two runs, or two sets of seeds: a folder, or its path without ``-seedN`` for all seeds there are.

    Raises MissingData where a run is not there, UsageError where the two were not scored on the same labels.
    """
    if scored not in SCORED or partition not in PARTITIONS:
        raise UsageError(
            f"{scored!r} on {partition!r} is not compared", hint=f"one of {SCORED}, on one of {PARTITIONS}"
        )
    return compare_folders(seeds_of(a), seeds_of(b), partition, scored)


def compare_folders(a: list[Path], b: list[Path], partition: str, scored: str = "raw") -> Comparison:
    """As ``compare_runs``, of run folders, a seed each."""
    folders = [a, b]
    found = [[read_moments(f / "statistics" / f"{partition}.csv", scored) for f in runs] for runs in folders]
    check_pairs(*found)
    each = [[_mean(run) for run in runs] for runs in found]
    return Comparison(
        a=[str(f) for f in folders[0]],
        b=[str(f) for f in folders[1]],
        partition=partition,
        scored=scored,
        recordings=len(found[0][0].recordings),
        differences=compare(*found),
        a_seeds=each[0],
        b_seeds=each[1],
        seeds_needed=seeds_needed(*each),
    )


def seeds_of(path: Path) -> list[Path]:
    """A run's folder; for a path without ``-seedN``, those of all its seeds, in their order."""
    if path.is_dir():
        return [path]
    numbered = {f: re.fullmatch(rf"{re.escape(path.name)}-seed(\d+)", f.name) for f in path.parent.glob("*-seed*")}
    found = sorted((int(m[1]), f) for f, m in numbered.items() if m)
    if not found:
        raise MissingData(f"no run at {path}", hint="give a run's folder, or its path without -seedN for all its seeds")
    return [f for _, f in found]


def _mean(run: Moments) -> float:
    return float(point(run).mean())


def comparison_lines(c: Comparison) -> list[str]:
    """For a terminal: what was compared, a line a dimension, what the seeds say."""
    count = f"{len(c.a)} seed{'s' if len(c.a) > 1 else ''} each"
    lines = [f"A: {c.a[0]}", f"B: {c.b[0]}", f"{c.partition}, {c.scored}, {c.recordings} recordings, {count}"]
    if c.differences is None:
        return [*lines, "one recording tells nothing about others: no interval, no p"]
    for name, d in c.differences.items():
        interval = f"{LEVEL:.0%} [{d.interval.low:+.3f}, {d.interval.high:+.3f}]"
        lines.append(
            f"{name:8s} A {d.a:.3f}  B {d.b:.3f}  A-B {d.difference:+.3f} {interval}  "
            f"p {d.p:.4f}  effect {d.effect:+.2f} SE"
        )
    lines.append("interval and p: over recordings, for these trained weights")
    if (least := least_p(c.recordings)) > 1 - LEVEL:
        lines.append(f"{c.recordings} recordings are too few: p cannot be below {least:g}")
    if c.seeds_needed is not None:
        lines.append(f"seeds needed for a difference like this one among seeds: {c.seeds_needed} of each")
    else:
        lines.append("seeds needed: not known from one seed of each, or without a difference")
    return lines
