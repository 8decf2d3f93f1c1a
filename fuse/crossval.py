"""k-fold cross-validation: a run a fold, and one CCC over all frames, each predicted by the run that never saw it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.errors import UsageError
from cache.progress import progress
from fuse.bootstrap import LEVEL, Intervals, intervals, point
from fuse.metrics import Scores
from fuse.moments import Moments, read_moments
from fuse.recipe import TrainRecipe
from fuse.train import RunResult, run_train


@dataclass(frozen=True)
class CrossValidation:
    """Every recording of the official train and validation partitions scored once, by the run that held it out.

    raw, smoothed: over all their frames, with intervals over recordings. runs: a fold each.
    """

    folds: int
    fold_by: str
    recordings: int
    raw: Scores
    smoothed: Scores
    raw_interval: Intervals | None
    smoothed_interval: Intervals | None
    runs: list[RunResult]


def run_folds(recipe: TrainRecipe, *, resume: bool = False, quiet: bool = False) -> CrossValidation:
    """Train all folds of a recipe. The official test partition is in none of them, and stays locked."""
    if recipe.fold is not None:
        raise UsageError(f"fold {recipe.fold} alone is no cross-validation", hint="leave fold out")
    runs = []
    with progress("folds", recipe.folds, quiet=quiet) as step:
        for fold in range(recipe.folds):
            runs.append(run_train(dataclasses.replace(recipe, fold=fold), resume=resume, quiet=True))
            step()
    pooled = {kind: _pooled(runs, kind) for kind in ("raw", "smoothed")}
    scores = {kind: point(found) for kind, found in pooled.items()}
    return CrossValidation(
        folds=recipe.folds,
        fold_by=recipe.fold_by,
        recordings=len(pooled["raw"].recordings),
        raw=_scores(*scores["raw"]),
        smoothed=_scores(*scores["smoothed"]),
        raw_interval=intervals([pooled["raw"]]),
        smoothed_interval=intervals([pooled["smoothed"]]),
        runs=runs,
    )


def _scores(valence: float, arousal: float) -> Scores:
    return Scores(float(valence), float(arousal), float(valence + arousal) / 2)


def _pooled(runs: list[RunResult], kind: str) -> Moments:
    found = [read_moments(Path(r.folder) / "statistics" / "test.csv", kind) for r in runs]
    return Moments(tuple(r for m in found for r in m.recordings), np.concatenate([m.table for m in found]))


def fold_lines(found: CrossValidation) -> list[str]:
    """For a terminal: each fold, and all of them together."""
    lines = [f"{found.folds} folds by {found.fold_by}, {found.recordings} recordings, each scored once; CCC raw"]
    for number, run in enumerate(found.runs):
        s = run.evaluations["test"].raw
        counts = f"{run.data['test'].recordings} recordings"
        lines.append(f"fold {number}: valence {s.valence:.3f}  arousal {s.arousal:.3f}  mean {s.mean:.3f}  {counts}")
    for kind, s, i in (
        ("raw", found.raw, found.raw_interval),
        ("smoothed", found.smoothed, found.smoothed_interval),
    ):
        sure = f"  {LEVEL:.0%} [{i.mean.low:.3f}, {i.mean.high:.3f}]" if i else ""
        lines.append(f"all, {kind}: valence {s.valence:.3f}  arousal {s.arousal:.3f}  mean {s.mean:.3f}{sure}")
    return [*lines, f"saved in {found.runs[0].folder} and beside it"]
