"""Several runs that are one row: an ensemble's folder, or a cross-validation's; its numbers are those left there."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cache.errors import DataError, MissingData, UsageError
from cache.recipe import build
from fuse.crossval import CrossValidation
from fuse.ensemble import Ensemble
from fuse.numbers.bootstrap import intervals, point
from fuse.numbers.compare import PARTITIONS, SCORED
from fuse.numbers.moments import F64, Moments, read_moments
from fuse.runs import metrics_of
from fuse.tables.grid import Row
from fuse.tables.summary import RowResult, Summary, summary
from fuse.train import RunResult

CROSSED = "crossvalidation.json"


@dataclass(frozen=True)
class Part:
    """One of the runs, alone: what it was scored on, its raw CCCs there, what centring added to valence and arousal."""

    run: RunResult
    recordings: int
    valence: float
    arousal: float
    mean: float
    shift: list[float] | None


@dataclass(frozen=True)
class Joined:
    """One folder. how: what was done with its runs; folds: how many were put together, 0 for none.

    validation: raw mean CCC there, for choosing without test; None where it was not scored there.
    """

    folder: Path
    called: str
    how: str
    folds: int
    parts: list[Part]
    validation: float | None

    @property
    def runs(self) -> list[RunResult]:
        """Those that it is of."""
        return [part.run for part in self.parts]

    @property
    def centred(self) -> bool:
        """Whether levels of its runs were moved."""
        return self.parts[0].shift is not None


def is_joined(folder: Path) -> bool:
    """Whether it is a folder of several runs."""
    ensemble = any((folder / f"{p}.json").is_file() for p in PARTITIONS)
    return (folder / CROSSED).is_file() or (ensemble and not (folder / "metrics.json").is_file())


def read_result(folder: Path) -> RunResult:
    """What a finished run measured, with the folder it lies in now."""
    return replace(build(RunResult, metrics_of(folder), where=str(folder)), folder=str(folder))


def read_joined(folder: Path, partition: str) -> Joined:
    """Raises UsageError or MissingData where it has no numbers for the partition, or is of another corpus than its
    runs; DataError where one of these was trained again since.
    """
    return _crossed(folder, partition) if (folder / CROSSED).is_file() else _ensemble(folder, partition)


def _crossed(folder: Path, partition: str) -> Joined:
    if partition != "test":
        hint = "add --partition test: each recording by the run that held it out; the official test stays locked"
        raise UsageError(f"{folder} is a cross-validation, which has no numbers for {partition!r}", hint=hint)
    told = build(CrossValidation, json.loads((folder / CROSSED).read_text(encoding="utf-8")), where=str(folder))
    runs = [_run(folder, r.folder, r.evaluations["test"].raw.mean, "test") for r in told.runs]
    return Joined(
        folder,
        called=f"{runs[0].head}, {'+'.join(runs[0].streams)}, {told.folds} folds",
        how=f"{told.folds} folds by {told.fold_by}, {told.recordings} recordings, each scored once, by the run that "
        "held it out, and all of them are one score; the official test is in none",
        folds=told.folds,
        parts=[_part(run, partition, None) for run in runs],
        validation=float(np.mean([run.evaluations["validation"].raw.mean for run in runs])),
    )


def _ensemble(folder: Path, partition: str) -> Joined:
    told = _told(folder, partition)
    if told is None:
        hint = f"run: python cli.py ensemble RUNS --partition {partition}"
        raise MissingData(f"the ensemble {folder} was not scored on {partition!r}", hint=hint)
    if told.dataset != (home := folder.resolve().parent.name):
        raise UsageError(f"{folder} was scored on {told.dataset}, and its runs on {home}: no report takes it")
    runs = [_run(folder, f, alone, partition) for f, alone in zip(told.runs, told.alone, strict=True)]
    shifts: list[list[float] | None] = [*told.shifts] if told.shifts else [None] * len(runs)
    validation = _told(folder, "validation")
    held = f", {told.folds} folds put together, each recording by the runs that held it out" if told.folds else ""
    scored = (
        f"{told.evaluation.recordings} of {told.of} labelled recordings, {told.evaluation.frames:,} labelled frames"
    )
    moved = ", centred by what validation told, clipped to [-1, 1]" if told.shifts else ""
    return Joined(
        folder,
        called=f"mean of {len(runs)}: {', '.join(dict.fromkeys(r.head for r in runs))}",
        how=f"the mean of what {len(runs)} runs predicted for each frame{moved}{held}; {scored}",
        folds=told.folds,
        parts=[_part(run, partition, shift) for run, shift in zip(runs, shifts, strict=True)],
        validation=validation.evaluation.raw.mean if validation else None,
    )


def _told(folder: Path, partition: str) -> Ensemble | None:
    path = folder / f"{partition}.json"
    return build(Ensemble, json.loads(path.read_text(encoding="utf-8")), where=str(path)) if path.is_file() else None


def _run(folder: Path, told: str, alone: float, partition: str) -> RunResult:
    """A run, beside the folder or where it was. Raises DataError where it is another than the one that was joined."""
    beside = folder.parent / Path(told).name
    run = read_result(beside if beside.is_dir() else Path(told))
    found = run.evaluations.get(partition)
    if found is None or not math.isclose(found.raw.mean, alone, abs_tol=1e-6):
        raise DataError(f"{run.folder} was trained again since {folder.name} was made of it", hint="make that again")
    return run


def _part(run: RunResult, partition: str, shift: list[float] | None) -> Part:
    found = run.evaluations[partition]
    return Part(run, found.recordings, found.raw.valence, found.raw.arousal, found.raw.mean, shift)


def summarise_joined(row: Row, seeds: Sequence[Joined], partition: str) -> RowResult:
    """A row from folders, a seed each, as ``summarise`` makes one from runs; parameters: of all runs that predict
    a recording.
    """
    kinds = {k: [read_moments(j.folder / "statistics" / f"{partition}.csv", k) for j in seeds] for k in SCORED}
    runs = [run for joined in seeds for run in joined.runs]
    chosen = [j.validation for j in seeds if j.validation is not None]
    return RowResult(
        label=row.label,
        head=row.head,
        streams=list(dict.fromkeys(s for run in runs for s in run.streams)),
        control=row.control,
        parameters=sum(run.parameters for run in seeds[0].runs) // max(seeds[0].folds, 1),
        seconds=round(sum(run.seconds for run in runs) / len(runs), 1),
        raw=_over(kinds["raw"], point),
        smoothed=_over(kinds["smoothed"], point),
        per_recording=_over(kinds["raw"], lambda m: m.ccc().mean(0)),
        validation=summary(chosen) if chosen else Summary(-math.inf, 0.0, []),
        data=[] if seeds[0].folds else [run.data for run in runs],
        folders=[str(j.folder) for j in seeds],
        intervals={kind: intervals(found) for kind, found in kinds.items()},
        note=row.note,
    )


def _over(found: Sequence[Moments], of: Callable[[Moments], F64]) -> dict[str, Summary]:
    values = np.stack([of(m) for m in found])  # [S,2]
    return {"valence": summary(values[:, 0]), "arousal": summary(values[:, 1]), "mean": summary(values.mean(1))}
