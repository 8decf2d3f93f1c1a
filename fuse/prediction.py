"""Predictions of a finished run where there are no labels: new media, or a partition whose labels nobody has.

No label is opened here, not even where the cache has some: what is predicted is not scored. Each recording is predicted
by itself, so that its numbers do not depend on what else is predicted with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from cache.errors import CacheError, CorruptCache
from cache.progress import progress
from cache.reader import StreamReader
from cache.records import Partitions
from cache.store import FeatureCache
from fuse.elsewhere import members
from fuse.feeding.data import absent_faces, open_unlabelled
from fuse.finished import Finished, check_streams
from fuse.fit import predicted
from fuse.numbers.postprocess import postprocess
from fuse.prediction_files import save_predictions
from fuse.train import torch_device

F64 = npt.NDArray[np.float64]
PREDICTED = Path("var/predict")
RAW = "raw"
_RATES = 1.25  # so much faster or slower than any recording of training, windows span another time


@dataclass(frozen=True)
class Predicted:
    """One recording. times: f64[T], seconds; raw, smoothed: f64[T,2], (valence, arousal)."""

    times: F64
    raw: F64
    smoothed: F64


@dataclass(frozen=True)
class Prediction:
    """What ``predict`` left in ``folder``. frames: how many each recording has; smooth: width in frames.

    failures, notes: a line each; overlays: films that were drawn.
    """

    run: str
    folder: str
    smooth: int
    frames: dict[str, int]
    notes: list[str]
    failures: list[str]
    overlays: list[str]


def predict_recording(
    run: Finished, cache: FeatureCache, readers: dict[str, StreamReader], recording: str, device: torch.device
) -> Predicted:
    """Every frame of one recording of a cache, later by the run's delays, as it would be scored.

    readers: of the run's streams there, by name. Raises CacheError where the cache lacks a stream of it.
    """
    corpus = open_unlabelled(cache, readers, [recording], run.stats)
    run.head.to(device)
    raw = predicted(run.head, corpus, run.recipe, run.protocol)
    absent = absent_faces(corpus, run.streams) if run.recipe.interpolate else None
    return Predicted(corpus.pts[recording], raw[recording], postprocess(raw, run.width, absent)[recording])


def predict_all(
    run: Finished,
    cache: FeatureCache,
    wanted: Mapping[str, str],
    out: Path,
    *,
    keys: Mapping[str, str] | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> tuple[dict[str, Predicted], dict[str, str]]:
    """Predict recordings and write ``<out>/<name>.csv``, smoothed as the run's, and ``<out>/raw/<name>.csv``.

    wanted: the recording in the cache, by the name that its files get. keys: of the cache's streams by their names,
    where they are not the run's. Returns what was predicted, and of the others why not, by name.
    """
    readers = {s.name: cache.reader(keys[s.name] if keys else s.key) for s in run.streams}
    made: dict[str, Predicted] = {}
    failed: dict[str, str] = {}
    on = torch_device(device)
    with progress("predict", len(wanted), quiet=quiet) as step:
        for name, recording in wanted.items():
            try:
                one = predict_recording(run, cache, readers, recording, on)
            except (CacheError, CorruptCache) as error:
                failed[name] = " ".join(f"{name}: {error}".split())
            else:
                save_predictions(out, name, one.times, one.smoothed)
                save_predictions(out / RAW, name, one.times, one.raw)
                made[name] = one
            step()
    return made, failed


def in_partition(run: Finished, cache: FeatureCache, partition: str) -> dict[str, str]:
    """Recordings of a partition, annotated or not, to be predicted; of a run of a fold too those of the official split.

    Raises CacheError where the cache lacks a stream of the run, MissingData for a partition without recordings.
    """
    check_streams(run, cache)
    split: Partitions = cache.labels.partitions(run.recipe.labels)
    return {r: r for r in members(split, partition)}


def out_folder(run: Finished, out: Path | None, partition: str | None = None) -> Path:
    """``out``, or a folder of the run's names below ``var/predict``."""
    return out or PREDICTED / run.dataset / run.folder.resolve().name / (partition or "")


def prediction_of(
    run: Finished,
    out: Path,
    made: Mapping[str, Predicted],
    notes: list[str],
    failures: Mapping[str, str],
    overlays: list[str],
) -> Prediction:
    """What is told of it all."""
    frames = {name: len(one.times) for name, one in made.items()}
    notes = [*notes, *_other_rates(run, made)]
    return Prediction(str(run.folder), str(out), run.width, frames, notes, [*failures.values()], overlays)


def _other_rates(run: Finished, made: Mapping[str, Predicted]) -> list[str]:
    """A note where media run much faster or slower than all that the run was trained on: windows count frames."""
    low, high = run.record.get("trained_on", {}).get("rates", (0.0, np.inf))
    rates = {n: 1 / float(np.median(np.diff(p.times))) for n, p in made.items() if len(p.times) > 1}
    apart = {n: r for n, r in rates.items() if not low / _RATES <= r <= high * _RATES}
    trained = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    return [f"{n} has {r:.4g} frames a second, the run was trained on {trained}" for n, r in apart.items()]


def prediction_lines(made: Prediction) -> list[str]:
    """What was written where, notes, and each failure with its cause."""
    frames = f"{len(made.frames)} recordings, {sum(made.frames.values()):,} frames"
    lines = [f"{frames} predicted in {made.folder}/, smoothed over {made.smooth} frames; raw in {made.folder}/{RAW}/"]
    lines += [f"drawn: {path}" for path in made.overlays]
    lines += [f"note: {note}" for note in made.notes]
    if made.failures:
        lines += [f"{len(made.failures)} failed:", *(f"  {failure}" for failure in made.failures)]
    return lines
