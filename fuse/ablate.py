"""Tables: every row of a grid trained over several seeds from the same cache, and summarised."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cache.errors import ConfigError, UsageError
from cache.find import find_cache
from cache.progress import progress
from cache.recipe import build, merge
from fuse.bootstrap import Intervals, intervals
from fuse.many import run_many
from fuse.moments import Moments, read_moments
from fuse.recipe import TrainRecipe, read_table
from fuse.snapshot import Share
from fuse.train import RunResult, prepare


@dataclass(frozen=True)
class Row:
    """One line of the table. ``set`` goes over the table's shared training settings; control: not a contestant.

    seeds: of this row alone, where a noisy control needs more than the table; 0 is the table's number.
    """

    label: str
    head: str
    streams: tuple[str, ...] = ()
    set: dict[str, Any] = field(default_factory=dict)
    control: bool = False
    seeds: int = 0


@dataclass(frozen=True)
class AblateRecipe:
    """Rows x seeds 0..seeds-1; workers are processes with one thread each.

    train: settings shared by all rows; heads: settings by head over them; a row's own ``set`` over both.
    """

    cache: Path | str  # a folder, or a URL
    rows: tuple[Row, ...]
    runs: Path = Path("var/runs")
    train: dict[str, Any] = field(default_factory=dict)
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeds: int = 3
    workers: int = 1
    partition: str = "test"


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
    of scoring.
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


def ablate_recipe(recipe: Path, given: dict[str, Any]) -> AblateRecipe:
    """A table's recipe file (or shipped name) with what was given over it."""
    data = merge(read_table(recipe), given)
    return build(AblateRecipe, data if "cache" in data else {**data, "cache": find_cache(None, None)})


def run_ablate(recipe: AblateRecipe, *, resume: bool = False, quiet: bool = False) -> list[RowResult]:
    """Train all rows and seeds, with ``resume`` only what is not complete; results in the order of the rows.

    Raises UsageError before the first step of training where a row is not a valid recipe.
    """
    if recipe.seeds < 1 or recipe.workers < 1 or not recipe.rows:
        raise UsageError(
            f"an ablation of {len(recipe.rows)} rows, {recipe.seeds} seeds, {recipe.workers} workers is empty"
        )
    seeds = [row.seeds or recipe.seeds for row in recipe.rows]
    recipes = [_train_recipe(recipe, r, s) for r, n in zip(recipe.rows, seeds, strict=True) for s in range(n)]
    _check_all(recipes, recipe.partition)
    with progress("train", len(recipes), quiet=quiet) as step:
        results = run_many(recipes, recipe.workers, resume=resume, told=step)
    ends = itertools.accumulate(seeds)
    groups = [results[end - n : end] for n, end in zip(seeds, ends, strict=True)]
    return [_summarise(row, group, recipe.partition) for row, group in zip(recipe.rows, groups, strict=True)]


def _train_recipe(recipe: AblateRecipe, row: Row, seed: int) -> TrainRecipe:
    layers = {"[train]": recipe.train, f"[heads.{row.head}]": recipe.heads.get(row.head, {}), "set": row.set}
    for where, settings in layers.items():
        taken = sorted({"head", "cache", "runs", "seed"} & set(settings))
        if taken:
            raise ConfigError(f"{taken[0]!r} of an ablation is not set under {where}: the table and its rows say it")
    own = {"head": row.head, "cache": recipe.cache, "runs": recipe.runs, "seed": seed, "streams": row.streams or None}
    return build(
        TrainRecipe, merge(recipe.train, recipe.heads.get(row.head, {}), row.set, own), where=f"row {row.label!r}"
    )


def _check_all(recipes: list[TrainRecipe], partition: str) -> None:
    """Raises what any of the runs would raise for its recipe, before the first one trains."""
    if partition not in ("validation", "test"):
        raise UsageError(f"an ablation is scored on validation or test, not on {partition!r}")
    for recipe in (r for r in recipes if r.seed == 0):
        prepare(recipe)


def summary(values: Iterable[float]) -> Summary:
    """Mean and spread of one number over seeds."""
    listed = [float(v) for v in values]
    std = float(np.std(listed, ddof=1)) if len(listed) > 1 else 0.0
    return Summary(float(np.mean(listed)), std, listed)


def _summarise(row: Row, runs: list[RunResult], partition: str) -> RowResult:
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
    )


def _moments(runs: list[RunResult], partition: str, kind: str) -> list[Moments]:
    return [read_moments(Path(r.folder) / "statistics" / f"{partition}.csv", kind) for r in runs]
