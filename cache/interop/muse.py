"""MuSe challenge folders (MuSe 2020-2024), and CSV streams with times in general.

``features/<name>/<id>.csv`` (``timestamp`` in ms or ``time_s`` in seconds, ``segment_id``, features),
``label_segments/<valence|arousal>/<id>.csv`` (times, ``value``, ``segment_id``), ``metadata/partition.csv`` (Id, ...,
Proposal; ``subject`` where there is one). A row lasts until the next one; a row that is not wholly finite is absent.
"""

import csv
from collections.abc import Collection
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from cache.errors import DataError, MissingData
from cache.interop import FORMATS
from cache.interop._layout import Exported, Foreign, Layout, Source
from cache.interop._muse_out import DROPS, export_muse
from cache.interop._rows import check_times, rate_of, rows_of, spans_from
from cache.interop._tables import Table, partition_name, read_table
from cache.records import Annotation, Modality, Partitions, Track
from cache.store import FeatureCache

_TIMES = {"timestamp": 1000.0, "time_s": 1.0}
_NO_FEATURES = (*_TIMES, "segment_id")
_HOLE = 2.5


@FORMATS.register("muse")
class Muse(Layout):
    """MuSe folders."""

    drops_in = "segment_id and labels other than valence and arousal"
    drops_out = DROPS

    @classmethod
    def export(cls, cache: FeatureCache, path: Path) -> Exported:
        """Write a whole cache."""
        return export_muse(cache, path)

    def open(self) -> None:
        """What the layout holds."""
        features = self.path / "features"
        folders = sorted(p for p in features.iterdir() if p.is_dir()) if features.is_dir() else []
        self._files = {f.name: {p.stem: p for p in sorted(f.glob("*.csv"))} for f in folders}
        self._files = {name: files for name, files in self._files.items() if files}
        if not self._files:
            raise MissingData(f"{features} has no folders of .csv files", hint="wanted features/<name>/<id>.csv")
        told = self._modalities()
        self.streams = {n: Source(tuple(files.values()), modality=told.get(n)) for n, files in self._files.items()}
        labels = self.wants.labels or self.path / "label_segments"
        self._labels = {d: {p.stem: p for p in sorted((labels / d).glob("*.csv"))} for d in ("valence", "arousal")}
        self._ids = self._partitions()
        stems = sorted({s for files in self._files.values() for s in files})
        self._stems = {self._ids.get(s, s): s for s in stems}
        self.recordings = list(self._stems)
        first = next((p for files in self._labels.values() for p in files.values()), None)
        self.rate = rate_of(_times(read_table(first))) if first else None

    def _modalities(self) -> dict[str, Modality]:
        """What our own export says of its folders, where it was one."""
        path = self.path / "metadata" / "streams.csv"
        if not path.is_file():
            return {}
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = [r for r in csv.reader(file) if len(r) >= 2]
        return {r[0]: m for r in rows for m in get_args(Modality) if r[1] == m}

    def _partitions(self) -> dict[str, str]:
        """Recording ids by file stem, where the partition file has a column for them."""
        path = self.path / "metadata" / "partition.csv"
        if not path.is_file():
            self.note(f"{path} is not there: recordings are in no partition, so heads cannot be trained on them")
            return {}
        with open(path, encoding="utf-8-sig", newline="") as file:
            header, *rows = [r for r in csv.reader(file) if r] or [[]]
        names = [h.strip().lower() for h in header]
        if len(names) < 2 or any(len(r) != len(names) for r in rows):
            raise DataError(f"{path} is no table of Id and partition")
        ids = {r[0].strip(): r[names.index("recording")] if "recording" in names else r[0].strip() for r in rows}
        of = {ids[r[0].strip()]: partition_name(r[-1]) for r in rows if r[-1].strip()}
        subjects = {}
        if "subject" in names:
            subjects = {ids[r[0].strip()]: r[names.index("subject")] for r in rows if r[names.index("subject")]}
        self.partitions = {self.wants.protocol: Partitions(of, subjects)}
        return ids

    def read(self, recording: str, streams: Collection[str]) -> Foreign:
        """One recording."""
        stem = self._stems[recording]
        tracks = {}
        for name in streams:
            if stem in self._files[name]:
                table = read_table(self._files[name][stem])
                columns = [i for i, c in enumerate(table.columns) if c not in _NO_FEATURES]
                spans = spans_from(_times(table))
                tracks[name] = Track(spans, rows_of(table.rows[:, columns], str(table.path)))
        return Foreign(tracks, self._annotation(stem))

    def _annotation(self, stem: str) -> dict[str, Annotation | Track]:
        files = {d: labels[stem] for d, labels in self._labels.items() if stem in labels}
        if not files:
            return {}
        tables = {d: read_table(path) for d, path in files.items()}
        times = [_times(t) for t in tables.values()]
        if any(len(t) != len(times[0]) or not np.allclose(t, times[0]) for t in times):
            raise DataError(f"valence and arousal of {stem!r} are not rows of the same times")
        for dimension in [d for d in self._labels if d not in files]:
            self.note(f"the source has no {dimension}: it is 0 everywhere, so do not read its scores")
        zero = np.zeros(len(times[0]))
        va = np.stack([tables[d].column("value") if d in tables else zero for d in ("valence", "arousal")], axis=1)
        return {self.wants.protocol: with_holes(times[0], va)}


def _times(table: Table) -> npt.NDArray[np.float64]:
    name = next((n for n in _TIMES if n in table.columns), None)
    if name is None:
        raise DataError(f"{table.path} has no column {' or '.join(_TIMES)}: its rows have no times")
    return check_times(table.column(name) / _TIMES[name], str(table.path))


def with_holes(times: npt.NDArray[np.float64], va: npt.NDArray[np.float64]) -> Annotation:
    """Where rows are missing stands an invalid one: nothing is interpolated across."""
    gaps = np.diff(times)
    holes = np.flatnonzero(gaps > _HOLE * np.median(gaps)) + 1 if len(gaps) else np.empty(0, np.intp)
    va = np.insert(va, holes, np.nan, axis=0)
    return Annotation(va, np.insert(times, holes, (times[holes - 1] + times[holes]) / 2))
