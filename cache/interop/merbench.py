"""MERBench folders (https://github.com/zeroQiaoba/MERTools): ``features/<feature-set>/<clip>.npy`` and a label file.

A file is [D] for the whole clip, [T, D], or a folder of [D] files, one a face, in order of their names. The label file
is ``label*.npz`` (``<partition>_corpus``: {clip: value, or {val, ...}}, pickled; it is never run, see ``_pickle``) or a
.csv with the columns name, valence (or val), arousal, partition and subject, as far as it has them.

There are no times in it: a clip gets as many frames as its longest feature set has rows, the others are spread evenly
over them, and a row of the whole clip lasts for all of it. Its label becomes the label of all its frames.
"""

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import DataError, MissingData, UsageError
from cache.interop import FORMATS
from cache.interop._label_table import LabelTable, read_label_table
from cache.interop._labels import NO_AROUSAL
from cache.interop._layout import Foreign, Label, Layout, Source
from cache.interop._pickle import read_stream
from cache.interop._tables import load_npy, partition_name, rows_of
from cache.interop._times import NOMINAL_FPS, spread
from cache.records import Partitions, Track

_MOST = 1 << 28  # bytes of a pickled table of labels


@FORMATS.register("merbench")
class MerBench(Layout):
    """Folders of MERBench."""

    drops_in = "emotion classes and every label but valence and arousal (and it has no times)"
    drops_out = "it has no times and one label a clip, so a cache would lose its clock and most of its labels"

    def open(self) -> None:
        """Feature sets are the folders that hold .npy files."""
        top = self.path / "features" if (self.path / "features").is_dir() else self.path
        folders = sorted(p for p in top.iterdir() if p.is_dir()) if top.is_dir() else []
        self._clips = {f.name: {p.stem if p.is_file() else p.name: p for p in _clips(f)} for f in folders}
        self._clips = {name: clips for name, clips in self._clips.items() if clips}
        if not self._clips:
            raise MissingData(f"{top} has no folders of .npy files", hint="wanted features/<feature-set>/<clip>.npy")
        self.streams = {
            n: Source(tuple(f for c in clips.values() for f in _files(c))) for n, clips in self._clips.items()
        }
        self.recordings = sorted({c for clips in self._clips.values() for c in clips})
        table = self._read_labels()
        self.labels = table.labels
        self.partitions = {self.wants.protocol: table.partitions} if table.partitions.of else {}
        self.note("there are no times: rows of each feature set are spread evenly over the video, or the longest set")

    def _read_labels(self) -> LabelTable:
        found = sorted([*self.path.glob("label*.npz"), *self.path.glob("label*.csv")])
        path = self.wants.labels or next(iter(found), None)
        if path is None:
            self.note("no label file (label*.npz or label*.csv): nothing is labelled")
            return LabelTable(Partitions(), {})
        if len(found) > 1 and not self.wants.labels:
            raise UsageError(f"{len(found)} label files in {self.path}; which?", hint=f"say --labels {path}")
        return self._from_npz(path) if path.suffix == ".npz" else read_label_table(path, self)

    def read(self, recording: str, streams: Collection[str]) -> Foreign:
        """One clip; all its feature sets are looked at for its length."""
        rows = {n: _rows(clips[recording]) for n, clips in self._clips.items() if recording in clips}
        seconds = max(len(r) for r in rows.values()) / (self.wants.fps or NOMINAL_FPS)
        tracks = {n: Track(spread(len(r), seconds), r) for n, r in rows.items() if n in streams}
        return Foreign(tracks, untimed=seconds)

    def _from_npz(self, path: Path) -> LabelTable:
        """``<partition>_corpus``: {clip: valence, or {val, aro, emo}}."""
        of: dict[str, str] = {}
        labels: dict[str, Label] = {}
        if not path.is_file():
            raise MissingData(f"no label file at {path}")
        with zipfile.ZipFile(path) as archive:
            for member in [m for m in archive.infolist() if m.filename.endswith("_corpus.npy")]:
                if member.file_size > _MOST:
                    raise DataError(f"{path}: {member.filename} claims {member.file_size} bytes")
                with archive.open(member) as file:
                    corpus = _object_of(file, f"{path}:{member.filename}")
                of |= dict.fromkeys(map(str, corpus), partition_name(member.filename.removesuffix("_corpus.npy")))
                labels |= {str(c): va for c, v in corpus.items() if (va := self._va(v, str(c))) is not None}
        if not of:
            raise DataError(f"{path} has no <partition>_corpus with labels")
        return LabelTable(Partitions(of), labels)

    def _va(self, value: Any, clip: str) -> npt.NDArray[np.float32] | None:
        """f32[2], or None without a valence."""
        given = value if isinstance(value, dict) else {"val": value}
        valence, arousal = (given.get(long, given.get(long[:3], "")) for long in ("valence", "arousal"))
        if valence in ("", None):
            return None
        if arousal in ("", None):
            self.note(NO_AROUSAL)
            arousal = self.wants.middle
        try:
            return np.array([float(valence), float(arousal)], np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(f"the label of {clip!r} is no number: {error}") from error


def _clips(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.npy"), *(p for p in folder.iterdir() if p.is_dir() and any(p.glob("*.npy")))])


def _files(clip: Path) -> list[Path]:
    return sorted(clip.glob("*.npy")) if clip.is_dir() else [clip]


def _rows(clip: Path) -> npt.NDArray[np.float32]:
    parts = [_table(load_npy(f)) for f in _files(clip)]
    if len({p.shape[-1:] for p in parts}) != 1:
        raise DataError(f"the files of {clip} have rows of different widths")
    return rows_of(np.concatenate(parts) if len(parts) > 1 else parts[0], str(clip))


def _table(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[D] as one row; axes of one in front of [T, D] are left out."""
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    return values[None] if values.ndim == 1 else values


def _object_of(file: Any, where: str) -> dict[Any, Any]:
    """The dict that numpy.savez pickled as an array of one object."""
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    if shape != () or dtype != object:
        raise DataError(f"{where} is not one dict")
    found = read_stream(file, where)
    inside = found.reshape(-1)[0] if isinstance(found, np.ndarray) and found.size == 1 else None
    if not isinstance(inside, dict):
        raise DataError(f"{where} is not one dict")
    return inside
