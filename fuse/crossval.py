"""k-fold cross-validation: a run a fold, and one CCC over all frames, each predicted by the run that never saw it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from cache.errors import UsageError
from cache.fingerprint import fingerprint
from cache.progress import progress
from cache.recipe import to_json
from fuse.many import run_many
from fuse.numbers.bootstrap import Intervals, intervals, point
from fuse.numbers.evaluate import score_line
from fuse.numbers.metrics import Scores
from fuse.numbers.moments import Moments, pooled, read_moments, save_moments
from fuse.recipe import TrainRecipe
from fuse.train import RunResult


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
    folder: str


def run_folds(
    recipe: TrainRecipe,
    workers: int = 1,
    *,
    scheduler: str = "",
    cluster: str = "",
    resume: bool = False,
    quiet: bool = False,
) -> CrossValidation:
    """Train all folds of a recipe, where ``run_many`` is told. The official test partition is in none of them, and
    stays locked.

    What it measured goes to a folder beside the folds' own, which ``compare`` takes as it takes a run's.
    """
    if recipe.fold is not None:
        raise UsageError(f"fold {recipe.fold} alone is no cross-validation", hint="leave fold out")
    recipes = [dataclasses.replace(recipe, fold=fold) for fold in range(recipe.folds)]
    with progress("folds", recipe.folds, quiet=quiet) as step:
        runs = run_many(recipes, workers, scheduler=scheduler, cluster=cluster, resume=resume, told=step)
    folders = [Path(r.folder) for r in runs]
    kinds = {k: pooled([read_moments(f / "statistics" / "test.csv", k) for f in folders]) for k in ("raw", "smoothed")}
    digest = fingerprint([f.name.removesuffix(f"-seed{recipe.seed}") for f in folders])[:6]  # one of all seeds
    out = folders[0].parent / f"{recipe.head}-{recipe.folds}folds-by-{recipe.fold_by}-{digest}-seed{recipe.seed}"
    result = CrossValidation(
        folds=recipe.folds,
        fold_by=recipe.fold_by,
        recordings=len(kinds["raw"].recordings),
        raw=_scores(kinds["raw"]),
        smoothed=_scores(kinds["smoothed"]),
        raw_interval=intervals([kinds["raw"]]),
        smoothed_interval=intervals([kinds["smoothed"]]),
        runs=runs,
        folder=str(out),
    )
    save_moments(out / "statistics" / "test.csv", kinds)
    (out / "crossvalidation.json").write_text(to_json(result), encoding="utf-8")
    return result


def _scores(found: Moments) -> Scores:
    valence, arousal = point(found).tolist()
    return Scores(valence, arousal, (valence + arousal) / 2)


def fold_lines(found: CrossValidation) -> list[str]:
    """For a terminal: each fold, and all of them together."""
    lines = [f"{found.folds} folds by {found.fold_by}, {found.recordings} recordings, each scored once; CCC raw"]
    for number, run in enumerate(found.runs):
        counts = f"{run.data['test'].recordings} recordings"
        lines.append(f"fold {number}: {score_line(run.evaluations['test'].raw)}  {counts}")
    for kind, s, i in (
        ("raw", found.raw, found.raw_interval),
        ("smoothed", found.smoothed, found.smoothed_interval),
    ):
        lines.append(f"all, {kind}: {score_line(s, i)}")
    return [*lines, f"saved in {found.folder}; the folds beside it"]
