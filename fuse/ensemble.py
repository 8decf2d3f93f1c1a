"""Several runs as one: the mean of what they predicted for each frame, from the files they left; no feature is read.

Seeds, heads or sets of streams that were scored on the same recordings are averaged. Folds are put together: a
recording is predicted by the runs that held it out, by their mean where there are several seeds, and all of them are
one score. A run that trained on a recording never predicts it here.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.errors import DataError, MissingData, UsageError
from cache.fingerprint import fingerprint
from cache.ids import folder_of
from cache.recipe import to_plain
from cache.records import Labels
from cache.store import FeatureCache
from fuse.elsewhere import members
from fuse.feeding.folds import cut
from fuse.feeding.locked import LOCKED, open_test_labels, tuning_labels
from fuse.feeding.snapshot import Snapshot, take_snapshot
from fuse.numbers.bootstrap import point
from fuse.numbers.compare import seeds_of
from fuse.numbers.evaluate import Evaluation, Scored, evaluate, score_line
from fuse.numbers.moments import read_moments
from fuse.numbers.postprocess import postprocess
from fuse.prediction_files import F64, read_predictions
from fuse.recipe import TrainRecipe
from fuse.runs import RunFolder, metrics_of, recipe_of

Files = dict[str, tuple[F64, F64]]  # by recording: frame times f64[T] in seconds, (valence, arousal) f64[T,2]


@dataclass(frozen=True)
class Member:
    """A finished run. width: of its smoothing. scored: the folder with its predictions and statistics."""

    folder: Path
    recipe: TrainRecipe
    width: int
    scored: Path


@dataclass(frozen=True)
class Ensemble:
    """What the mean of some runs is worth. alone: raw mean CCC of each run by itself, on what it predicted.

    folds: how many were put together, 0 for none. of: labelled recordings of the partition. shifts: what was added to
    each run's valence and arousal; None where nothing was centred.
    """

    runs: list[str]
    dataset: str
    partition: str
    folds: int
    of: int
    alone: list[float]
    shifts: list[list[float]] | None
    evaluation: Evaluation
    folder: str


def run_ensemble(
    runs: Sequence[Path], cache: FeatureCache | None = None, partition: str = "validation", *, centre: bool = False
) -> Ensemble:
    """Score the mean of runs on a partition, and leave it in a folder beside the first one, which ``compare`` takes.

    runs: folders; without -seedN all seeds; a cross-validation's folder for its folds. cache: whose labels count; on
    another corpus than the runs' own, what ``evaluate`` left of each is averaged. Raises UsageError for runs that are
    no ensemble, MissingData and DataError where they did not predict the same frames. Labels of ``test`` are opened
    once per run, and counted in its folder.
    """
    folders = [f for path in runs for f in _folders(path)]
    if len(folders) < 2 or len({f.resolve() for f in folders}) < len(folders):
        raise UsageError(f"{len(folders)} runs, of which {len(set(folders))} differ, are no ensemble")
    widths = [metrics_of(f)["evaluations"]["validation"]["smooth"] for f in folders]
    recipes = [recipe_of(f) for f in folders]
    cache = cache or FeatureCache(recipes[0].cache)
    dataset = cache.corpus
    home = _home(folders) == dataset
    found = [_member(f, w, None if home else dataset) for f, w in zip(folders, widths, strict=True)]
    snapshot = take_snapshot(cache, (), _protocol(recipes))
    groups = _groups(found) if home else [found]
    if centre and home and partition == "validation":
        raise UsageError(
            "centring is fitted on validation, so it cannot be scored there", hint="score --partition test"
        )
    shifts = {m.folder: s for g in groups for m, s in zip(g, centring(g) if centre else _none(g), strict=True)}
    name = f"ensemble-{len(found)}runs-{fingerprint([sorted(f.name for f in folders), dataset, centre])[:6]}"
    out = RunFolder(folders[0].parent / (name + ("-centred" if centre else "") + ("" if home else f"-on-{dataset}")))
    scored, pts, of = _score(groups, snapshot, partition, shifts, clip=centre)
    out.save_scored(partition, pts, scored)
    result = Ensemble(
        runs=[str(f) for f in folders],
        dataset=dataset,
        partition=partition,
        folds=len(groups) if found[0].recipe.fold is not None and home else 0,
        of=of,
        alone=[float(point(read_moments(m.scored / "statistics" / f"{partition}.csv", "raw")).mean()) for m in found],
        shifts=[shifts[m.folder].tolist() for m in found] if centre else None,
        evaluation=scored.evaluation,
        folder=str(out.path),
    )
    out.save_metrics(to_plain(result), f"{partition}.json")
    return result


def centring(group: Sequence[Member]) -> list[F64]:
    """What CCC-centring adds to the (valence, arousal) of each run, f64[2] each, so that all share one level.

    With b_i the mean error (prediction minus label) of run i on its own validation partition and c_i its CCC there, or
    0 where that is negative, it is ``sum_j c_j b_j / sum_j c_j - b_i``; the mean is clipped to [-1, 1] afterwards.
    Zhang et al. (LFAN, CVPRW 2022) shift by the means of the predictions that are scored, weighted by the runs' CCCs
    with one another on these; here nothing of the partition scored is looked at, and runs of folds need no recording
    in common. On one validation partition, b_i are the means of the predictions but for one constant.
    """
    kinds = [read_moments(m.folder / "statistics" / "validation.csv", "raw") for m in group]
    errors = np.stack([k.offset() for k in kinds])  # [R,2]
    weights = np.maximum(np.stack([point(k) for k in kinds]), 0.0)
    weights = np.where(weights.sum(0) > 0, weights, 1.0)
    return list((weights * errors).sum(0) / weights.sum(0) - errors)


def _none(group: Sequence[Member]) -> list[F64]:
    return [np.zeros(2)] * len(group)


def _folders(path: Path) -> list[Path]:
    """Runs that a path stands for: itself, its seeds, the folds of a cross-validation, or those of all its seeds."""
    found = []
    for folder in seeds_of(path):
        table = folder / "crossvalidation.json"
        runs = json.loads(table.read_text(encoding="utf-8"))["runs"] if table.is_file() else []
        found += [folder.parent / Path(r["folder"]).name for r in runs] or [folder]
    return found


def _member(folder: Path, width: int, other: str | None) -> Member:
    scored = folder / "evaluated" / folder_of(other) if other else folder
    return Member(folder, recipe_of(folder), width, scored)


def _home(folders: Sequence[Path]) -> str:
    """The corpus all runs were trained on."""
    names = sorted({f.resolve().parent.name for f in folders})
    if len(names) > 1:
        raise UsageError(f"runs of different corpora are no ensemble: {', '.join(names)}")
    return names[0]


def _protocol(recipes: Sequence[TrainRecipe]) -> str:
    names = sorted({r.labels for r in recipes})
    if len(names) > 1:
        raise UsageError(f"runs of different label protocols are no ensemble: {', '.join(names)}")
    return names[0]


def _groups(found: Sequence[Member]) -> list[list[Member]]:
    """Runs whose predictions are averaged: all of them, or those of each fold. Raises UsageError for a mixture."""
    kinds = {(m.recipe.folds, m.recipe.fold_by) if m.recipe.fold is not None else (0, "") for m in found}
    if len(kinds) > 1:
        told = ", ".join(f"{n} folds by {by}" if n else "the official split" for n, by in sorted(kinds))
        raise UsageError(
            f"runs of different partitions are no ensemble: {told}", hint="one trained on what another holds out"
        )
    by_fold = defaultdict(list)
    for member in found:
        by_fold[member.recipe.fold].append(member)
    folds = next(iter(kinds))[0]
    counts = [len(by_fold[f]) for f in range(folds)]
    if len(set(counts)) > 1:
        raise UsageError(
            f"of {folds} folds there are {', '.join(map(str, counts))} runs", hint="give as many runs of every fold"
        )
    return [by_fold[f] for f in range(folds)] if folds else [list(found)]


def _score(
    groups: Sequence[Sequence[Member]], snapshot: Snapshot, partition: str, shifts: dict[Path, F64], *, clip: bool
) -> tuple[Scored, dict[str, F64], int]:
    """Averages and scores; with frame times by recording, and the labelled recordings of the partition."""
    cuts = [_cut(snapshot, group[0]) for group in groups]
    files = [[_read(m, seen, partition) for m in g] for g, seen in zip(groups, cuts, strict=True)]
    predictions: dict[str, F64] = {}
    pts: dict[str, F64] = {}
    labels: dict[str, Labels] = {}
    for group, read in zip(groups, files, strict=True):
        _check_same(group, read)
        for recording, (times, _) in read[0].items():
            shifted = [one[recording][1] + shifts[m.folder] for m, one in zip(group, read, strict=True)]
            mean = np.mean(shifted, axis=0)
            predictions[recording], pts[recording] = np.clip(mean, -1, 1) if clip else mean, times
    for group, seen in zip(groups, cuts, strict=True):  # only now, when nothing can fail any more but the labels
        labels |= _labels(group, seen, partition)
    labels = {r: la for r, la in labels.items() if la.labelled.any()}
    for recording in labels.keys() & predictions.keys():
        if len(labels[recording].labelled) != len(predictions[recording]):
            raise DataError(f"predictions of {recording!r} are not of the frames that its labels are of")
    widths = sorted(m.width for g in groups for m in g)
    width = widths[(len(widths) - 1) // 2]
    evaluation, kinds = evaluate(predictions, postprocess(predictions, width), labels, width)
    return Scored(evaluation, kinds, predictions, width), pts, len(labels)


def _cut(snapshot: Snapshot, member: Member) -> Snapshot:
    """The cache's partitions as a run saw them; on another corpus than its own, as they are."""
    recipe, home = member.recipe, member.scored == member.folder
    return cut(snapshot, recipe.folds, recipe.fold, recipe.fold_by) if home else snapshot


def _read(member: Member, snapshot: Snapshot, partition: str) -> Files:
    """What a run predicted, in the order of the partition.

    Raises DataError where it predicted a recording that it did not hold out as this.
    """
    folder, corpus = member.scored / "predictions" / partition, snapshot.cache.dataset
    names = {folder_of(r): r for r in members(snapshot.split, partition)}
    paths = sorted(folder.glob("*.csv"))
    if not paths:
        here = f"run: python cli.py evaluate {member.folder} --dataset {corpus} --partition {partition}"
        hint = here if member.scored != member.folder else f"the run was not scored on {partition!r}"
        raise MissingData(f"there are no predictions in {folder}", hint=hint)
    if stray := [p.stem for p in paths if p.stem not in names]:
        raise DataError(
            f"{folder} holds {stray[0]!r}, which is not in {partition!r} of {corpus}",
            hint="its partitions are others now than when the run was trained: train it anew",
        )
    there = {p.stem: p for p in paths}
    return {r: read_predictions(there[stem]) for stem, r in names.items() if stem in there}


def _check_same(group: Sequence[Member], read: Sequence[Files]) -> None:
    first = read[0]
    for member, files in zip(group[1:], read[1:], strict=True):
        if other := sorted(first.keys() ^ files.keys()):
            raise DataError(
                f"{group[0].folder.name} and {member.folder.name} did not predict the same recordings: "
                f"{len(other)} of only one, such as {other[0]!r}"
            )
        for recording, (times, _) in files.items():
            if len(times) != len(first[recording][0]) or not np.allclose(times, first[recording][0], atol=1e-5, rtol=0):
                raise DataError(f"the runs did not predict the same frames of {recording!r}")


def _labels(group: Sequence[Member], snapshot: Snapshot, partition: str) -> dict[str, Labels]:
    if partition != LOCKED:
        return tuning_labels(snapshot, partition)
    found: dict[str, Labels] = {}
    for member in group:
        fold = f", fold {member.recipe.fold} of {member.recipe.folds}" if member.recipe.fold is not None else ""
        found = open_test_labels(snapshot, member.folder, f"ensemble on {snapshot.cache.dataset}{fold}")
    return found


def ensemble_lines(found: Ensemble) -> list[str]:
    """For a terminal: what was averaged, the numbers with intervals, and what the runs are worth alone."""
    e = found.evaluation
    held = f", {found.folds} folds put together, each recording by the runs that held it out" if found.folds else ""
    lines = [f"mean of {len(found.runs)} runs on {found.dataset}, {found.partition}{held}"]
    lines += [f"{e.recordings} of {found.of} labelled recordings, {e.frames:,} labelled frames; CCC"]
    wide = f"smoothed, {e.smooth} frames"
    kinds = (("raw", e.raw, e.raw_interval), (wide, e.smoothed, e.smoothed_interval))
    for kind, s, i in kinds:
        lines.append(f"{kind}: {score_line(s, i)}")
    low, high = min(found.alone), max(found.alone)
    lines.append(f"alone the runs are worth {np.mean(found.alone):.3f} on average, raw, {low:.3f} to {high:.3f}")
    if found.shifts is not None:
        lines.append(f"centred: levels moved by up to {np.abs(found.shifts).max():.3f}, fitted on validation")
    return [*lines, f"saved in {found.folder}"]
