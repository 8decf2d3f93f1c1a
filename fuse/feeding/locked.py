"""The one door to labels in stage two: those of ``test`` open through ``open_test_labels`` alone, which keeps count.

Training, the choice of an epoch, of a smoothing width or of anything else see corpora that ``tuning_labels`` filled,
which refuses ``test``. A test holds that no other file here reads labels of a cache.
"""

import csv
import hashlib
from pathlib import Path

from cache.errors import CacheError, UsageError
from cache.records import Labels
from fuse.feeding.snapshot import Snapshot

TUNING = ("train", "validation")
LOCKED = "test"
LOG = "test_evaluations.csv"
_COLUMNS = ("evaluation", "what", "protocol", "recordings", "weights")


def tuning_labels(snapshot: Snapshot, partition: str) -> dict[str, Labels]:
    """Labels of the recordings of ``train`` or ``validation`` that have any. Raises UsageError for all others."""
    if partition not in TUNING:
        raise UsageError(
            f"labels of partition {partition!r} are locked: only {' and '.join(TUNING)} may be looked at while tuning",
            hint="score test once, with: python cli.py evaluate RUN --partition test",
        )
    return _read(snapshot, partition)


def open_test_labels(snapshot: Snapshot, run: Path, what: str) -> dict[str, Labels]:
    """Labels of ``test``, for a run whose folder keeps count of every time; what: says why, e.g. ``train-fusion``."""
    count_opening(run, what, snapshot.protocol, len(snapshot.split.members(LOCKED)))
    return _read(snapshot, LOCKED)


def count_opening(run: Path, what: str, protocol: str, recordings: int) -> None:
    """A row of the folder's ``test_evaluations.csv``, before a label of ``test`` is read.

    weights: first digits of the sha256 of what is scored, so that scoring the same weights again can be told from
    scoring others.
    """
    log, weights = run / LOG, run / "best.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:12] if weights.is_file() else ""
    known = len(log.read_text(encoding="utf-8").splitlines()) if log.is_file() else 0
    run.mkdir(parents=True, exist_ok=True)
    with open(log, "a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if not known:
            writer.writerow(_COLUMNS)
        writer.writerow([max(known, 1), what, protocol, recordings, digest])


def run_of(folder: Path) -> Path:
    """The run that a folder of predictions lies in, which counts for it; else the folder itself."""
    return next((p for p in (folder, *folder.resolve().parents[:3]) if (p / "recipe.json").is_file()), folder)


def has_labels(snapshot: Snapshot, partition: str) -> bool:
    """Whether any recording of that partition has a label file; its values are not looked at."""
    return bool(set(snapshot.split.members(partition)) & snapshot.marks.keys())


def _read(snapshot: Snapshot, partition: str) -> dict[str, Labels]:
    return {r: _unchanged(snapshot, r) for r in snapshot.split.members(partition) if r in snapshot.marks}


def _unchanged(snapshot: Snapshot, recording: str) -> Labels:
    """Labels as they were when the run began. Raises CacheError where they are others now."""
    store, protocol = snapshot.cache.labels, snapshot.protocol
    found, mark = store.read(protocol, recording), store.mark(protocol, recording)
    if mark != snapshot.marks[recording]:
        raise CacheError(
            f"the labels of {recording!r} were changed since this run began", hint="run the same command again"
        )
    return found
