"""What the page shows: recordings by their place in a table, each with traces, annotation, masks of presence and words.

The page asks by number, never by name or path. Labels come through the one door: those of ``test`` are opened for
``--partition test`` alone, and counted in every run that is shown.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.check import undamaged_array
from cache.errors import AffuseError, MissingData, UsageError
from cache.find import find_cache
from cache.ids import as_text, folder_of, recording_of
from cache.reader import open_array
from cache.records import Labels, Partitions
from cache.store import FeatureCache
from fuse.elsewhere import members
from fuse.feeding.locked import LOCKED, LOG, TUNING, open_test_labels, run_of, tuning_labels
from fuse.feeding.snapshot import take_snapshot
from fuse.numbers.metrics import ccc_va
from fuse.prediction_files import F64, read_predictions
from fuse.view.sources import Pair, Source, in_cache, why_not

Words = Callable[[str], Sequence[tuple[str, float, float]]]
PROTOCOL = "va"


@dataclass(frozen=True)
class Shelf:
    """All that one page can show. names: ids, in the order of their numbers; media: the file that plays, if any.

    sound: a file of its own, where it is not in the film's. split: of all. labels: of the partitions that are viewed.
    words: (text, start, end in seconds) of a transcript.
    """

    cache: FeatureCache
    sources: tuple[Source, ...]
    names: tuple[str, ...]
    split: Mapping[str, str]
    labels: Mapping[str, Labels]
    media: Mapping[str, Path]
    sound: Mapping[str, Path]
    words: Words

    @cached_property
    def listing(self) -> dict[str, Any]:
        """Names of the runs; of each recording its id, partition, seconds, and CCC (valence, arousal) of each run."""
        rows = [
            {
                "id": as_text(name),
                "partition": self.split.get(name, ""),
                "seconds": self._seconds(name),
                "ccc": [self._ccc(source, name) for source in self.sources],
                "traces": any(source.has(name) for source in self.sources),
            }
            for name in self.names
        ]
        runs = [source.name for source in self.sources]
        return {"dataset": as_text(self.cache.corpus), "runs": runs, "recordings": rows}

    def recording(self, number: int) -> dict[str, Any]:
        """All of one recording, a value a frame. Raises IndexError for a number that the list does not have."""
        name = self.names[number]
        pts, end = self._times(name)
        labels = self.labels.get(name)
        traces = [self._traced(source, name, pts) for source in self.sources]
        said, why = self._said(name)
        return {
            "id": as_text(name),
            "pts": np.round(pts, 6).tolist(),
            "end": end,
            "annotation": _annotation(labels),
            "runs": traces,
            "streams": self._presence(name, len(pts)),
            "words": [[text, round(start, 3), round(stop, 3)] for text, start, stop in said],
            "notes": [*([why] if why else []), *self._stale(name, traces)],
            "media": name in self.media,
            "sound": name in self.sound,
        }

    def _times(self, name: str) -> tuple[F64, float]:
        """Frame times, and when the last frame ends; of a recording that the cache does not know, its predictions'."""
        if self.cache.timelines.has(name):
            timeline = self.cache.timelines.read(name)
            return timeline.pts, timeline.end
        source = next(s for s in self.sources if s.has(name))
        pts, _ = read_predictions(source.files[folder_of(name)])
        return pts, float(pts[-1] + (np.median(np.diff(pts)) if len(pts) > 1 else 0.04))

    def _seconds(self, name: str) -> float | None:
        try:
            pts, end = self._times(name)
        except AffuseError:
            return None  # damaged: the recording's own page says how
        return round(float(end - pts[0]), 3)

    def _ccc(self, source: Source, name: str) -> Pair | None:
        """What the run left when it was scored; of other files, computed here. None without labels or traces."""
        if name in source.scored and name in self.labels:
            return source.scored[name]
        if name not in self.labels or not source.has(name):
            return None
        try:
            return self._scored(name, source.trace(name, self._times(name)[0]))
        except AffuseError:
            return None  # the recording's own page says why

    def _scored(self, name: str, va: F64) -> Pair | None:
        labels = self.labels.get(name)
        if labels is None or not labels.labelled.any():
            return None
        found = ccc_va(va, labels.va, labels.labelled)
        return found.valence, found.arousal

    def _traced(self, source: Source, name: str, pts: F64) -> dict[str, Any] | None:
        if not source.has(name):
            return None
        try:
            va = source.trace(name, pts)
        except AffuseError as error:
            return {"note": why_not(error)}
        valence, arousal = np.round(va.T, 4).tolist()
        return {"valence": valence, "arousal": arousal, "ccc": self._scored(name, va)}

    def _stale(self, name: str, traces: list[dict[str, Any] | None]) -> list[str]:
        """Where a run was scored on other labels than those that are drawn."""
        pairs = zip(self.sources, traces, strict=True)
        both = [(s, t["ccc"], s.scored[name]) for s, t in pairs if t and t.get("ccc") and name in s.scored]
        told = "{} was scored {:.3f} and {:.3f} here: the list has these numbers, its labels have changed since"
        return [told.format(s.name, *then) for s, now, then in both if not np.allclose(now, then, atol=1e-3)]

    def _presence(self, name: str, frames: int) -> list[dict[str, Any]]:
        """Spans of frames ``[first, last)`` in which each stream of the cache saw something."""
        found = []
        for key in self.cache.stream_keys():
            if self.cache.has(key, name):
                seen = _spans(open_array(undamaged_array(self.cache.folder(key, name), "present"))[:frames])
                found.append({"name": as_text(self.cache.stream(key).name), "key": as_text(key), "spans": seen})
        return found

    def _said(self, name: str) -> tuple[Sequence[tuple[str, float, float]], str]:
        try:
            return self.words(name), ""
        except AffuseError as error:
            return [], why_not(error)


def open_shelf(
    sources: tuple[Source, ...],
    cache: FeatureCache,
    partition: str | None = None,
    media: Mapping[str, Path] | None = None,
    sound: Mapping[str, Path] | None = None,
    words: Words = lambda _: [],
) -> Shelf:
    """Recordings of a partition (by default train and validation), of none, and those that only files speak of.

    Raises UsageError or MissingData for a partition that cannot be viewed or is empty.
    """
    split, labels = _open_labels(sources, cache, partition)
    known = cache.timelines.recordings()
    sources = tuple(in_cache(source, known) for source in sources)
    viewed = (partition,) if partition else TUNING
    files = {stem for source in sources for stem in source.files} - {folder_of(r) for r in (*known, *split.of)}
    loose = [recording_of(stem) or stem for stem in files] if partition is None else []
    inside = [r for r in known if split.of.get(r) in viewed or (partition is None and r not in split.of)]
    names = sorted([*inside, *loose], key=lambda r: (not any(s.has(r) for s in sources), r))
    if not names:
        told = f"{cache.where} and the runs hold no recording to view"
        raise MissingData(told, hint="look with: python cli.py cache info")
    there = {r: p for r, p in (media or {}).items() if r in set(names)}
    return Shelf(cache, sources, tuple(names), split.of, labels, there, sound or {}, words)


def cache_of(folders: Sequence[Path], given: Path | str | None, dataset: str | None) -> Path | str:
    """The cache that was given, else that of the first run that says which one it was trained on."""
    if given is None and dataset is None:
        recipes = (_recipe(f) for f in folders)
        given = next((r["cache"] for r in recipes if "cache" in r), None)
    return find_cache(given, dataset)


def _open_labels(
    sources: tuple[Source, ...], cache: FeatureCache, partition: str | None
) -> tuple[Partitions, dict[str, Labels]]:
    protocol = _protocol(sources)
    if protocol not in cache.labels.protocols():
        if partition:
            raise UsageError(f"{cache.where} has no labels of protocol {protocol!r}, so no partition {partition!r}")
        return Partitions(), {}
    snapshot = take_snapshot(cache, (), protocol)
    if partition:
        members(snapshot.split, partition)
    if partition == LOCKED:
        opened: dict[str, Labels] = {}
        for run in dict.fromkeys(run_of(s.folder) for s in sources):
            opened = open_test_labels(snapshot, run, "view")  # the same each time, counted for each run
        return snapshot.split, opened
    wanted = (partition,) if partition else TUNING
    return snapshot.split, {r: one for p in wanted for r, one in tuning_labels(snapshot, p).items()}


def _protocol(sources: tuple[Source, ...]) -> str:
    """The protocol that the runs were trained by. Raises UsageError where they differ."""
    found = {str(r["labels"]) for s in sources if "labels" in (r := _recipe(run_of(s.folder)))} or {PROTOCOL}
    if len(found) > 1:
        raise UsageError(f"the runs were trained on labels of several protocols: {', '.join(sorted(found))}")
    return found.pop()


def _recipe(folder: Path) -> dict[str, Any]:
    path = folder / "recipe.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _annotation(labels: Labels | None) -> dict[str, Any] | None:
    """Values of the annotation, null where a frame is not labelled."""
    if labels is None or not labels.labelled.any():
        return None
    columns = np.where(labels.labelled[:, None], np.round(labels.va.astype(np.float64), 4), np.nan).T.tolist()
    valence, arousal = ([None if v != v else v for v in column] for column in columns)
    return {"valence": valence, "arousal": arousal}


def _spans(mask: npt.NDArray[np.bool_]) -> list[list[int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [[int(a), int(b)] for a, b in edges.reshape(-1, 2)]


def view_lines(shelf: Shelf, partition: str | None, url: str) -> list[str]:
    """For a terminal: how much there is, whether test was opened, and where the page is."""
    runs = f"{len(shelf.sources)} run{'s' if len(shelf.sources) > 1 else ''}"
    lines = [f"{len(shelf.names)} recordings, {len(shelf.media)} with media, {runs}"]
    if partition == LOCKED:
        lines.append(f"labels of {LOCKED} are open, which is counted in {LOG} of every run")
    return [*lines, f"open {url} (Ctrl-C ends)"]
