"""MuSe challenge folders (MuSe 2020-2024, https://www.muse-challenge.org).

``feature_segments/<name>/<id>.csv`` (or ``features/``; ``timestamp`` in ms or ``time_s`` in seconds, ``segment_id``,
features), ``label_segments/<valence|arousal>/<id>.csv`` (times, ``value``, ``segment_id``), ``metadata/partition.csv``
(Id, ..., Proposal; ``subject`` where there is one). A row lasts until the next one; one that is not wholly finite is
absent.
"""

import csv
from collections.abc import Collection
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from cache.errors import DataError, MissingData
from cache.ids import folder_of
from cache.interop import FORMATS
from cache.interop._labels import NO_AROUSAL
from cache.interop._layout import Exported, Foreign, Label, Layout, Source, export_names
from cache.interop._tables import Table, partition_name, read_table, rows_of, write_table
from cache.interop._times import check_times, rate_of, spans_from, with_holes
from cache.records import Modality, Partitions, Track
from cache.store import FeatureCache

_TIMES = {"timestamp": 1000.0, "time_s": 1.0}
_NO_FEATURES = (*_TIMES, "segment_id")
_FOLDERS = ("feature_segments", "features")
_DIMENSIONS = ("valence", "arousal")


@FORMATS.register("muse")
class Muse(Layout):
    """MuSe folders."""

    drops_in = "segment_id and labels other than valence and arousal"
    drops_out = (
        "stream settings, when the last frame ends, streams of a recording that are absent throughout, and label "
        "protocols but the first; absent frames are empty cells"
    )

    @classmethod
    def export(cls, cache: FeatureCache, path: Path) -> Exported:
        """Write ``feature_segments/<stream>``, ``label_segments``, ``metadata/{partition,streams}.csv``; ms."""
        streams, written = export_names(cache), set()
        for key, name in streams.items():
            written |= _write_features(cache, key, path / _FOLDERS[0] / folder_of(name))
        split = Partitions()
        for protocol in cache.labels.protocols()[:1]:
            split = cache.labels.partitions(protocol)
            _write_labels(cache, protocol, path / "label_segments")
        of, subjects = split.of, split.subjects
        members = [[folder_of(r), r, subjects.get(r, ""), of.get(r, "")] for r in sorted({*written, *of})]
        _write_csv(path / "metadata" / "partition.csv", ["Id", "recording", "subject", "Proposal"], members)
        told = [[folder_of(name), cache.stream(k).modality, k] for k, name in streams.items()]
        _write_csv(path / "metadata" / "streams.csv", ["folder", "modality", "key"], told)
        return Exported(str(path), "muse", list(streams.values()), len(written), cls.drops_out)

    def open(self) -> None:
        """What the layout holds."""
        features = next((self.path / f for f in _FOLDERS if (self.path / f).is_dir()), self.path / _FOLDERS[0])
        folders = sorted(p for p in features.iterdir() if p.is_dir()) if features.is_dir() else []
        files = {f.name: {p.stem: p for p in sorted(f.glob("*.csv"))} for f in folders}
        self._files = {name: found for name, found in files.items() if found}
        if not self._files:
            raise MissingData(f"{features} has no folders of .csv files", hint=f"wanted {_FOLDERS[0]}/<name>/<id>.csv")
        told = self._modalities()
        self.streams = {n: Source(tuple(found.values()), modality=told.get(n)) for n, found in self._files.items()}
        labels = self.wants.labels or self.path / "label_segments"
        self._labels = {d: {p.stem: p for p in sorted((labels / d).glob("*.csv"))} for d in _DIMENSIONS}
        if not any(self._labels.values()):
            self.note(f"{labels} has no folders {' and '.join(_DIMENSIONS)}: nothing is labelled")
        ids = self._read_partitions()
        self._stems = {ids.get(s, s): s for s in sorted({s for found in self._files.values() for s in found})}
        self.recordings = list(self._stems)
        first = next((p for found in self._labels.values() for p in found.values()), None)
        self.rate = rate_of(_times(read_table(first))) if first else None

    def _modalities(self) -> dict[str, Modality]:
        """What our own export says of its folders, where it was one."""
        path = self.path / "metadata" / "streams.csv"
        rows = [r for r in _read_csv(path) if len(r) >= 2] if path.is_file() else []
        return {r[0]: m for r in rows for m in get_args(Modality) if r[1] == m}

    def _read_partitions(self) -> dict[str, str]:
        """Recording ids by file stem, where the partition file has a column for them."""
        path = self.path / "metadata" / "partition.csv"
        if not path.is_file():
            self.note(f"{path} is not there: recordings are in no partition, so heads cannot be trained on them")
            return {}
        header, *rows = _read_csv(path) or [[]]
        names = [h.strip().lower() for h in header]
        if len(names) < 2 or any(len(r) != len(names) for r in rows):
            raise DataError(f"{path} is no table of Id and partition")
        id_at, subject_at = (names.index(n) if n in names else 0 for n in ("recording", "subject"))
        ids = {r[0].strip(): r[id_at] if id_at else r[0].strip() for r in rows}
        of = {ids[r[0].strip()]: partition_name(r[-1]) for r in rows if r[-1].strip()}
        subjects = {ids[r[0].strip()]: r[subject_at] for r in rows if subject_at and r[subject_at]}
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
                tracks[name] = Track(spans_from(_times(table)), rows_of(table.rows[:, columns], str(table.path)))
        return Foreign(tracks, self._label(stem))

    def _label(self, stem: str) -> dict[str, Label]:
        tables = {d: read_table(found[stem]) for d, found in self._labels.items() if stem in found}
        if not tables:
            return {}
        times = [_times(t) for t in tables.values()]
        if any(len(t) != len(times[0]) or not np.allclose(t, times[0]) for t in times):
            raise DataError(f"valence and arousal of {stem!r} are not rows of the same times")
        for dimension in [d for d in _DIMENSIONS if d not in tables]:
            self.note(NO_AROUSAL.replace("arousal", dimension))
        middle = np.full(len(times[0]), self.wants.middle)
        va = np.stack([tables[d].column("value") if d in tables else middle for d in _DIMENSIONS], axis=1)
        return {self.wants.protocol: with_holes(times[0], va)}


def _times(table: Table) -> npt.NDArray[np.float64]:
    name = next((n for n in _TIMES if n in table.columns), None)
    if name is None:
        raise DataError(f"{table.path} has no column {' or '.join(_TIMES)}: its rows have no times")
    return check_times(table.column(name) / _TIMES[name], str(table.path))


def _write_features(cache: FeatureCache, key: str, folder: Path) -> set[str]:
    folder.mkdir(parents=True)
    recordings = cache.recordings(key)
    header = ["timestamp", "segment_id", *map(str, range(cache.stream(key).dim))]
    for recording in recordings:
        data, pts = cache.read(key, recording), cache.timelines.read(recording).pts
        if data.present.any():
            rows = np.column_stack([np.ones(len(pts)), np.where(data.present[:, None], data.values, np.nan)])
            write_table(folder / f"{folder_of(recording)}.csv", header, pts * 1000, rows)
    return set(recordings)


def _write_labels(cache: FeatureCache, protocol: str, folder: Path) -> None:
    for i, dimension in enumerate(_DIMENSIONS):
        (folder / dimension).mkdir(parents=True)
        for recording in cache.labels.recordings(protocol):
            labels, pts = cache.labels.read(protocol, recording), cache.timelines.read(recording).pts
            rows = np.column_stack([np.where(labels.labelled, labels.va[:, i], np.nan), np.ones(len(pts))])
            name = folder / dimension / f"{folder_of(recording)}.csv"
            write_table(name, ["timestamp", "value", "segment_id"], pts * 1000, rows)


def _read_csv(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        return [r for r in csv.reader(file) if r]


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
