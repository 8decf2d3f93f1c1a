"""How much a trained head loses where one modality is missing, noisy or late, on the same frames for every head.

The protocol follows the one figure there is (repository of Dynamic Cross Attention, "Percentage of missing audio
frames"), whose code is not public: hence both readings of "missing", with the mask told (drop) and not told (zero).
The floor is the model of what remains: a fusion below it would do better without its fusion.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from cache.errors import DataError, MissingData, UsageError
from cache.progress import progress
from cache.recipe import build
from cache.records import MODALITIES, Modality
from cache.store import FeatureCache
from fuse.feeding.data import Corpus, absent_faces
from fuse.finished import Finished, load_run, open_for
from fuse.fit import predicted
from fuse.numbers.bootstrap import intervals
from fuse.numbers.corrupt import LEVELS, Corruption, Kind, Pattern, corrupted
from fuse.numbers.evaluate import global_ccc
from fuse.numbers.metrics import Scores
from fuse.numbers.moments import Moments, moments
from fuse.numbers.postprocess import postprocess
from fuse.train import torch_device

RESAMPLES = 1000
_MEASURED = ("dataset", "partition", "recordings")


@dataclass(frozen=True)
class Point:
    """One run under one corruption: raw CCC, mean over ``seeds`` patterns, std of the mean; smoothed_mean beside it.

    low, high: interval of the mean, over recordings; None for a single one.
    floor: raw mean CCC, on whole data, of the run that has only what remains, floor_run; None where none was given.
    """

    run: str
    modality: str
    kind: str
    pattern: str
    level: float
    seeds: int
    valence: float
    arousal: float
    mean: float
    std: float
    low: float | None
    high: float | None
    smoothed_mean: float
    floor: float | None
    floor_run: str


@dataclass(frozen=True)
class Area:
    """Area under the curve of the raw mean CCC over the levels, divided by their range: the mean CCC along it."""

    run: str
    modality: str
    kind: str
    pattern: str
    area: float
    clean: float
    floor: float | None


@dataclass(frozen=True)
class Robustness:
    """All points of all runs on one partition, and the areas under their curves."""

    dataset: str
    partition: str
    recordings: int
    points: list[Point]
    areas: list[Area]


@dataclass(frozen=True)
class Plan:
    """What is done to each modality: kinds, the pattern of frames, and how many seeds of it."""

    kinds: tuple[Kind, ...] = ("drop", "zero", "noise", "shift")
    pattern: Pattern = "block"
    seeds: int = 5
    modalities: tuple[Modality, ...] = ()

    def conditions(self, modality: Modality) -> Iterator[list[Corruption]]:
        """Each level of each kind, as its seeds; what is not random has one."""
        for kind in self.kinds:
            for level in LEVELS[kind]:
                chance = level != 0 and kind != "shift" and not (kind in ("drop", "zero") and level == 100)
                yield [Corruption(kind, modality, level, self.pattern, s) for s in range(self.seeds if chance else 1)]


@dataclass(frozen=True)
class _Scored:
    raw: Scores
    smoothed: Scores
    moments: Moments


def run_robustness(
    folders: list[Path], cache: FeatureCache, partition: str, plan: Plan, device: str = "auto", *, quiet: bool = False
) -> Robustness:
    """Every run under every condition of its modalities.

    Raises UsageError where the runs do not rest on the same recordings, or a kind or modality does not exist.
    """
    _check(plan)
    runs = [load_run(f) for f in folders]
    corpora = [open_for(run, cache, partition, "robustness") for run in runs]
    for run, corpus in zip(runs, corpora, strict=True):
        if corpus.recordings != corpora[0].recordings:
            raise UsageError(f"{run.folder.name} rests on other recordings of {partition} than {runs[0].folder.name}")
        run.head.to(torch_device(device))
    clean = {r.folder.name: _scored(r, c).raw.mean for r, c in zip(runs, corpora, strict=True)}
    wanted = [(r, c, m) for r, c in zip(runs, corpora, strict=True) for m in _corruptible(r, plan)]
    points = []
    with progress("robustness", sum(len(g) for _, _, m in wanted for g in plan.conditions(m)), quiet=quiet) as step:
        for run, corpus, modality in wanted:
            floor = _floor(run, modality, runs, clean)
            points += [_point(run, corpus, group, floor, step) for group in plan.conditions(modality)]
    return Robustness(cache.dataset, partition, len(corpora[0].recordings), points, areas(points))


def _check(plan: Plan) -> None:
    wrong = [k for k in plan.kinds if k not in LEVELS] + [m for m in plan.modalities if m not in MODALITIES]
    if wrong or plan.seeds < 1:
        raise UsageError(
            f"cannot corrupt by {wrong} with {plan.seeds} seeds",
            hint=f"kinds are {', '.join(LEVELS)}, modalities {', '.join(MODALITIES)}, seeds at least 1",
        )


def _modalities(run: Finished) -> set[Modality]:
    return {s.modality for s in run.streams}


def _corruptible(run: Finished, plan: Plan) -> list[Modality]:
    return [m for m in sorted(_modalities(run)) if m in (plan.modalities or MODALITIES)]


def _point(
    run: Finished, corpus: Corpus, group: list[Corruption], floor: tuple[float | None, str], step: Callable[[], None]
) -> Point:
    found = []
    for what in group:
        found.append(_scored(run, corrupted(corpus, run.streams, what)))
        step()
    raw = np.array([[s.raw.valence, s.raw.arousal, s.raw.mean] for s in found])
    sure = intervals([s.moments for s in found], resamples=RESAMPLES)
    valence, arousal, mean = raw.mean(axis=0).tolist()
    what = group[0]
    return Point(
        run=run.folder.name,
        modality=what.modality,
        kind=what.kind,
        pattern=what.pattern if what.kind in ("drop", "zero") else "",
        level=what.level,
        seeds=len(group),
        valence=valence,
        arousal=arousal,
        mean=mean,
        std=float(raw[:, 2].std(ddof=1)) if len(group) > 1 else 0.0,
        low=sure.mean.low if sure else None,
        high=sure.mean.high if sure else None,
        smoothed_mean=float(np.mean([s.smoothed.mean for s in found])),
        floor=floor[0],
        floor_run=floor[1],
    )


def _scored(run: Finished, corpus: Corpus) -> _Scored:
    predictions = predicted(run.head, corpus, run.recipe, run.protocol)
    absent = absent_faces(corpus, run.streams) if run.recipe.interpolate else None
    smoothed = postprocess(predictions, run.width, absent)
    raw, after = (global_ccc(p, corpus.labels) for p in (predictions, smoothed))
    return _Scored(raw, after, moments(predictions, corpus.labels))


def _floor(
    run: Finished, modality: Modality, runs: list[Finished], clean: dict[str, float]
) -> tuple[float | None, str]:
    """Of the runs given, the one that has most of what remains without that modality; of equals, the better one."""
    remaining = _modalities(run) - {modality}
    fits = [r for r in runs if _modalities(r) <= remaining]
    if not fits:
        return None, ""
    best = max(fits, key=lambda r: (len(_modalities(r)), clean[r.folder.name]))
    return clean[best.folder.name], best.folder.name


def areas(points: list[Point]) -> list[Area]:
    """A row for each curve."""
    curves: dict[tuple[str, str, str, str], list[Point]] = {}
    for p in points:
        curves.setdefault((p.run, p.modality, p.kind, p.pattern), []).append(p)
    found = []
    for key, curve in curves.items():
        level, mean = np.array([p.level for p in curve]), np.array([p.mean for p in curve])
        area = float(np.trapezoid(mean, level) / (level[-1] - level[0]))
        clean = next(p.mean for p in curve if p.level == 0)
        found.append(Area(*key, area=area, clean=clean, floor=curve[0].floor))
    return found


def save_robustness(out: Path, found: Robustness) -> None:
    """``curves.csv`` and ``areas.csv``, each row with what it was measured on."""
    out.mkdir(parents=True, exist_ok=True)
    on = {name: getattr(found, name) for name in _MEASURED}
    for name, cls, rows in (("curves", Point, found.points), ("areas", Area, found.areas)):
        with open(out / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*(f.name for f in fields(cls)), *on])
            writer.writeheader()
            writer.writerows(asdict(row) | on for row in rows)


def read_robustness(folder: Path) -> Robustness:
    """What ``save_robustness`` left in a folder. Raises MissingData where there is none, DataError for another file."""
    path = folder / "curves.csv"
    if not path.is_file():
        raise MissingData(f"there is no {path}", hint="make it with: python cli.py robustness RUN --out DIR")
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or set(_MEASURED) - set(rows[0]) or {r.get("kind") for r in rows} - set(LEVELS):
        raise DataError(f"{path} is not what robustness writes", hint="run python cli.py robustness again")
    dataset, partition, recordings = (rows[0][name] for name in _MEASURED)
    points = [build(Point, _point_row(row), where=str(path)) for row in rows]
    return Robustness(dataset, partition, int(recordings), points, areas(points))


def _point_row(row: dict[str, str]) -> dict[str, str | None]:
    maybe = ("low", "high", "floor")
    return {k: None if k in maybe and v == "" else v for k, v in row.items() if k not in _MEASURED}
