"""Plain CSV streams, as most labs have them: a file a recording, in a folder a stream, rows with their times.

``features/<stream>/<recording>.csv`` (times, then numbers) and ``labels/<recording>.csv`` (times, valence, arousal),
at any rates. Times are a column ``time_s``, ``time_ms``, ``timestamp`` (ms, as in MuSe) or ``time``, whose unit the
usual step tells: below 1 it is seconds, from 5 on milliseconds; between these it is asked for. ``recordings.csv``
(recording, subject, partition), or --labels TABLE.csv, says who is seen and who trains. A row lasts until the next
one; one that is not wholly finite is absent.
"""

from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cache.errors import DataError, MissingData
from cache.interop import FORMATS
from cache.interop._label_table import read_label_table
from cache.interop._labels import label_columns, valence_arousal
from cache.interop._layout import Foreign, Label, Layout, Source
from cache.interop._tables import Table, read_table, rows_of
from cache.interop._times import check_times, rate_of, spans_from, step_of, with_holes
from cache.records import Partitions, Track

_UNITS = {"time_s": 1.0, "time_ms": 1000.0, "timestamp": 1000.0}
_TIMES = (*_UNITS, "time")
_SECONDS_BELOW, _MS_FROM = 1.0, 5.0
_TABLE = "recordings.csv"


@FORMATS.register("csv-features")
class Csv(Layout):
    """Folders of .csv files."""

    drops_in = "labels other than valence and arousal"
    drops_out = "export muse writes CSV files; hdf5 loses nothing"

    def open(self) -> None:
        """Streams are folders, recordings the names of their files."""
        top = self.path / "features"
        folders = sorted(p for p in top.iterdir() if p.is_dir()) if top.is_dir() else []
        files = {f.name: {p.stem: p for p in sorted(f.glob("*.csv"))} for f in folders}
        self._files = {name: found for name, found in files.items() if found}
        if not self._files:
            raise MissingData(f"{top} has no folders of .csv files", hint="wanted features/<stream>/<recording>.csv")
        self.streams = {name: Source(tuple(found.values())) for name, found in self._files.items()}
        self.recordings = sorted({stem for found in self._files.values() for stem in found})
        given = self.wants.labels
        folder = self.path / "labels" if given is None or given.is_file() else given
        self._labels = {p.stem: p for p in sorted(folder.glob("*.csv"))} if folder.is_dir() else {}
        table = given if given is not None and given.is_file() else self.path / _TABLE
        self._read_recordings(table if table.is_file() else None)
        if not self._labels and not self.labels:
            self.note(f"{folder} has no .csv files: nothing is labelled")
        groups = [self._labels.values(), *(found.values() for found in self._files.values())]
        self._units = {p.parent: unit for unit, paths in ((_unit_of(g), g) for g in groups) for p in paths}
        self.rate = next((r for g in groups for r in (self._rate(p) for p in g) if r), None)

    def _rate(self, path: Path) -> float | None:
        """Rows a second; None of a file that cannot be read, which fails by itself later."""
        try:
            return rate_of(self._times(read_table(path)))
        except DataError:
            return None

    def _read_recordings(self, path: Path | None) -> None:
        """Subjects and partitions; without the latter all are in ``train``, which is told."""
        split = Partitions()
        if path is not None:
            table = read_label_table(path, self)
            split, self.labels = table.partitions, table.labels
            if unknown := sorted({*split.of, *split.subjects} - {*self.recordings}):
                self.note(f"{len(unknown)} recordings of {path} have no features, such as {unknown[0]!r}")
        if not split.of:
            self.note("no partitions are given: all recordings are in train; cross-validate, e.g. --folds 5")
            split = Partitions(dict.fromkeys(self.recordings, "train"), split.subjects)
        elif lacking := [r for r in self.recordings if r not in split.of]:
            self.note(f"{len(lacking)} recordings are in no partition of {path}, such as {lacking[0]!r}")
        self.partitions = {self.wants.protocol: split}

    def read(self, recording: str, streams: Collection[str]) -> Foreign:
        """One recording."""
        tables = {n: read_table(self._files[n][recording]) for n in streams if recording in self._files[n]}
        tracks = {n: Track(spans_from(self._times(t)), _values(t)) for n, t in tables.items()}
        return Foreign(tracks, self._label(recording))

    def _label(self, recording: str) -> dict[str, Label]:
        if recording not in self._labels:
            return {}
        table = read_table(self._labels[recording])
        va = valence_arousal(table.rows, label_columns(table.columns, self.wants.columns), self)
        return {self.wants.protocol: with_holes(self._times(table), va.astype(np.float64))}

    def _times(self, table: Table) -> npt.NDArray[np.float64]:
        """Seconds. Raises DataError where a file's own step contradicts the unit of its folder."""
        name = _time_column(table)
        unit = _UNITS.get(name) or self._units[table.path.parent]
        own = _UNITS.get(name) or _unit(table)
        if unit is None:
            raise DataError(
                f"whether {name!r} of {table.path} is seconds or milliseconds cannot be told from its steps",
                hint="call the column time_s or time_ms",
            )
        if own is not None and own != unit:
            raise DataError(
                f"{name!r} of {table.path} looks like another unit than in the files beside it",
                hint="call the columns time_s or time_ms",
            )
        return check_times(table.column(name) / unit, str(table.path))


def _time_column(table: Table) -> str:
    found = [n for n in _TIMES if n in table.columns]
    if len(found) != 1:
        told = f"the columns {' and '.join(found)}" if found else "no column " + ", ".join(_TIMES)
        raise DataError(f"{table.path} has {told}", hint="wanted one column of times")
    return found[0]


def _unit(table: Table) -> float | None:
    """Units in a second, as the usual step between rows tells; None where it does not."""
    step = step_of(table.column(_time_column(table)))
    if step is None or _SECONDS_BELOW <= step < _MS_FROM or not np.isfinite(step):
        return None
    return 1.0 if step < _SECONDS_BELOW else 1000.0


def _unit_of(paths: Iterable[Path]) -> float | None:
    """That of the first file that tells; files that cannot be read fail by themselves later."""
    for path in paths:
        try:
            table = read_table(path)
            name = _time_column(table)
            if name in _UNITS:
                return _UNITS[name]
            if unit := _unit(table):
                return unit
        except DataError:
            continue
    return None


def _values(table: Table) -> npt.NDArray[np.float32]:
    keep = [i for i, c in enumerate(table.columns) if c not in _TIMES]
    return rows_of(table.rows[:, keep], str(table.path))
