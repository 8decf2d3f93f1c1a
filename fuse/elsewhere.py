"""Scoring without training: a finished run on a cache, its own or another corpus's, and prediction files alone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.errors import DataError, MissingData
from cache.ids import folder_of
from cache.recipe import build, to_plain
from cache.records import Labels, Partitions
from cache.store import FeatureCache
from fuse.feeding.locked import LOCKED, count_opening, open_test_labels, run_of, tuning_labels
from fuse.feeding.resident import placed
from fuse.feeding.snapshot import Share, take_snapshot
from fuse.feeding.traits import Traits, traits
from fuse.finished import load_run, open_for
from fuse.numbers.evaluate import Evaluation, evaluate
from fuse.numbers.postprocess import postprocess
from fuse.prediction_files import F64, prediction_file, read_predictions, strayed
from fuse.runs import RunFolder
from fuse.train import score, torch_device

Truth = Callable[[str, F64], Labels | None]


@dataclass(frozen=True)
class Elsewhere:
    """A run, or a folder of predictions, scored on a partition of a corpus. trained_on is unknown for files alone."""

    source: str
    dataset: str
    partition: str
    evaluation: Evaluation
    share: Share | None
    trained_on: Traits | None
    scored_on: Traits | None
    folder: str


def evaluate_run(folder: Path, cache: FeatureCache, partition: str, device: str = "auto") -> Elsewhere:
    """A finished run on a partition of a cache. Predictions and numbers go to ``evaluated/<dataset>`` of the run.

    Raises CacheError where the cache lacks a stream of the run, by its key.
    """
    run = load_run(folder)
    dataset = cache.corpus
    corpus = open_for(run, cache, partition, f"evaluate on {dataset}")
    on = torch_device(device)
    run.head.to(on)
    scored = score(run.head, placed(corpus, on, run.recipe.resident), run.recipe, run.protocol, run.width)
    out = RunFolder(folder / "evaluated" / folder_of(dataset))
    out.save_scored(partition, corpus.pts, scored)
    known = run.record.get("trained_on")
    result = Elsewhere(
        source=str(folder),
        dataset=dataset,
        partition=partition,
        evaluation=scored.evaluation,
        share=corpus.share,
        trained_on=build(Traits, known) if known else None,
        scored_on=traits(corpus),
        folder=str(out.path),
    )
    out.save_metrics(to_plain(result), f"{partition}.json")
    return result


def evaluate_files(
    folder: Path, wanted: list[str], truth: Truth, dataset: str, partition: str, smooth: int = 25
) -> Elsewhere:
    """Prediction files ``<recording>.csv`` (frame,time_s,valence,arousal) against labels.

    wanted: recordings of the partition. truth: of a recording and its frame times f64[T], its labels on those frames,
    or None where it has none. Raises MissingData where a labelled recording has no file, DataError where a file's
    frames are not those that are labelled: nothing is skipped in silence.
    """
    predictions, labels, lacking = {}, {}, []
    for recording in wanted:
        path = prediction_file(folder, recording)
        times, pred = read_predictions(path) if path.is_file() else (np.empty(0), np.empty((0, 2)))
        found = truth(recording, times)
        if found is None or not found.labelled.any():
            continue
        if not path.is_file():
            lacking.append(recording)
        elif len(found.labelled) != len(pred):
            raise DataError(f"{path} has {len(pred)} frames, {recording!r} has {len(found.labelled)}")
        else:
            predictions[recording], labels[recording] = pred, found
    if lacking or not predictions:
        raise MissingData(
            f"{folder} lacks {len(lacking)} labelled recordings of {partition!r}, such as {lacking[:1]}"
            if lacking
            else f"none of {len(wanted)} recordings of {partition!r} has labels",
            hint="every labelled recording of the partition needs its file, or a score would be of another partition",
        )
    evaluation, _ = evaluate(predictions, postprocess(predictions, smooth), labels, smooth)
    return Elsewhere(str(folder), dataset, partition, evaluation, None, None, None, "")


def cache_truth(cache: FeatureCache, protocol: str, partition: str, folder: Path) -> tuple[list[str], Truth]:
    """Recordings of a partition of a cache and their labels, for files whose times are its frames', within half a one.

    Scoring ``test`` is counted in the run that the files in ``folder`` belong to.
    """
    snapshot = take_snapshot(cache, (), protocol)
    wanted = members(snapshot.split, partition)
    if partition == LOCKED:
        labels = open_test_labels(snapshot, run_of(folder), "evaluate, prediction files")
    else:
        labels = tuning_labels(snapshot, partition)

    def truth(recording: str, times: F64) -> Labels | None:
        pts = cache.timelines.read(recording).pts if recording in labels and len(times) else times
        if len(pts) == len(times) and (apart := strayed(times, pts)):
            raise DataError(f"predictions of {recording!r} are up to {apart:.3f} s away from its frames")
        return labels.get(recording)

    return wanted, truth


def count_corpus(split: Partitions, partition: str, folder: Path) -> list[str]:
    """Recordings of a partition of a corpus that is about to be scored; ``test`` is counted."""
    wanted = members(split, partition)
    if partition == LOCKED:
        count_opening(run_of(folder), "evaluate, prediction files", "of the corpus", len(wanted))
    return wanted


def members(split: Partitions, partition: str) -> list[str]:
    """Recordings of a partition. Raises MissingData with the partitions there are."""
    found = split.members(partition)
    if not found:
        there = ", ".join(sorted(set(split.of.values()))) or "none"
        raise MissingData(f"no recording is in partition {partition!r}; there are: {there}")
    return found
