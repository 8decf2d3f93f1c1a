"""One row's predictions beside the annotations, through the one door to labels: opening test is counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.errors import CacheError, MissingData
from cache.records import Labels
from cache.store import FeatureCache
from fuse.feeding.folds import cut
from fuse.feeding.locked import LOCKED, open_test_labels, tuning_labels
from fuse.feeding.snapshot import Snapshot, take_snapshot
from fuse.numbers.moments import Moments, moments, read_moments
from fuse.prediction_files import F64, prediction_file, read_predictions
from fuse.runs import recipe_of

_ROUNDING = 1e-5  # predictions are kept with six digits


@dataclass(frozen=True)
class Seen:
    """One recording: times f64[T] in seconds, raw predictions f64[T,2], and its labels."""

    times: F64
    pred: F64
    labels: Labels


def look(folder: Path, runs: Sequence[Path], partition: str) -> dict[str, Seen]:
    """Every recording of a partition that was scored, with the labels of the cache that the runs were trained on.

    folder: with the statistics, and the predictions too unless they are with the runs, as a cross-validation's are.
    runs: the folder itself, or those that it is made of; each counts that test is opened.

    Raises CacheError where that cache is gone or holds other labels than those it was scored on, MissingData where
    there are no predictions.
    """
    scored = read_moments(folder / "statistics" / f"{partition}.csv", "raw")
    homes = [f for f in (folder, *runs) if (f / "predictions" / partition).is_dir()] or [folder]
    found = {r: [prediction_file(f / "predictions" / partition, r) for f in homes] for r in scored.recordings}
    files = {r: next((f for f in each if f.is_file()), each[0]) for r, each in found.items()}
    lacking = [f for f in files.values() if not f.is_file()]
    if lacking:
        raise MissingData(f"there is no {lacking[0]}", hint="train the run again")
    predictions = {r: read_predictions(f) for r, f in files.items()}
    snapshots = {run: _snapshot(run) for run in runs}
    labels: dict[str, Labels] = {}
    for run, snapshot in snapshots.items():
        if partition == LOCKED:
            labels |= open_test_labels(snapshot, run, "report")
        else:
            labels |= tuning_labels(snapshot, partition)
    _check(scored, {r: p for r, (_, p) in predictions.items()}, labels)
    return {r: Seen(times, pred, labels[r]) for r, (times, pred) in predictions.items()}


def _snapshot(folder: Path) -> Snapshot:
    recipe = recipe_of(folder)
    snapshot = take_snapshot(FeatureCache(recipe.cache), (), recipe.labels)
    return cut(snapshot, recipe.folds, recipe.fold, recipe.fold_by)


def _check(scored: Moments, predictions: dict[str, F64], labels: dict[str, Labels]) -> None:
    """Raises CacheError where the run was scored on other labels than these."""
    same = all(r in labels and len(labels[r].va) == len(p) for r, p in predictions.items())
    found = moments(predictions, labels) if same else None
    if (
        found is None
        or found.recordings != scored.recordings
        or not np.allclose(found.table, scored.table, rtol=0, atol=_ROUNDING)
    ):
        raise CacheError(
            "the cache's labels are not those that this run was scored on", hint="train the run again, or evaluate it"
        )
