"""Folders of v-iashin/video_features (https://github.com/v-iashin/video_features): .npy files and their times.

``<video>_<feature>.npy`` [N, D] with ``<video>_timestamps_ms.npy`` [N] and ``<video>_fps.npy`` beside it, in any folder
below PATH. A frame lasts until the next one. Of I3D (``rgb``, ``flow``) the time is that of a stack's last frame, so a
row lasts from the row before it until then. VGGish has no times: its rows are 0.96 s each. The layout has no labels:
--labels TABLE.csv gives some, with the columns name, valence, arousal, partition, subject and time_s.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cache.errors import DataError, MissingData, UsageError
from cache.interop import FORMATS
from cache.interop._label_table import read_label_table
from cache.interop._layout import Foreign, Layout, Source
from cache.interop._tables import load_npy, rows_of
from cache.interop._times import check_times, spans_from
from cache.records import Track

_TIMES, _FPS = "_timestamps_ms", "_fps"
_AT_END = ("rgb", "flow")
_ROW_SECONDS = {"vggish": 0.96}


@dataclass(frozen=True)
class _File:
    """One feature file, and the times and rate that lie beside it."""

    rows: Path
    times: Path | None
    fps: Path | None


@FORMATS.register("video-features")
class VideoFeatures(Layout):
    """The output folder of video_features."""

    drops_in = "nothing"
    drops_out = "it has no place for labels, masks and partitions; export hdf5, csd or muse"

    def open(self) -> None:
        """Videos are told by their times' files, or by the name of a feature without times."""
        if not self.path.is_dir():
            raise MissingData(f"no folder at {self.path}")
        self._files: dict[str, dict[str, _File]] = {}
        lost = []
        for path in sorted(self.path.rglob("*.npy")):
            if path.stem.endswith((_TIMES, _FPS)):
                continue
            video, feature = _split(path)
            if not video:
                lost.append(path.name)
                continue
            times, fps = (path.with_name(f"{video}{end}.npy") for end in (_TIMES, _FPS))
            of = self._files.setdefault(feature, {})
            if video in of:
                raise DataError(
                    f"{path} and {of[video].rows} are both {feature} of {video!r}", hint="import one folder at a time"
                )
            of[video] = _File(path, times if times.is_file() else None, fps if fps.is_file() else None)
        if lost:
            self.note(f"{len(lost)} files without times are left out, such as {lost[0]}")
        if not self._files:
            raise UsageError(f"{self.path} has no features with times", hint="wanted <video>_<feature>.npy")
        self.streams = {
            n: Source(tuple(p for f in of.values() for p in (f.rows, f.times) if p)) for n, of in self._files.items()
        }
        self.recordings = sorted({video for of in self._files.values() for video in of})
        self.rate = next((_rate(f.fps) for of in self._files.values() for f in of.values() if f.fps), None)

        if self.wants.labels:
            table = read_label_table(self.wants.labels, self)
            self.labels, self.partitions = table.labels, {self.wants.protocol: table.partitions}
        else:
            self.note("the layout has no labels: give them to train heads: --labels TABLE.csv (name,valence,partition)")

    def read(self, recording: str, streams: Collection[str]) -> Foreign:
        """One video."""
        there = {n: self._files[n][recording] for n in streams if recording in self._files[n]}
        return Foreign({n: _track(n, file) for n, file in there.items()})


def _split(path: Path) -> tuple[str, str]:
    """(video, feature) of a file; the longest video whose times lie beside it, else by a feature without times."""
    cuts = [i for i, letter in enumerate(path.stem) if letter == "_"]
    for cut in reversed(cuts):
        if path.with_name(f"{path.stem[:cut]}{_TIMES}.npy").is_file():
            return path.stem[:cut], path.stem[cut + 1 :]
    known = next((f for f in _ROW_SECONDS if path.stem.endswith(f"_{f}")), "")
    return (path.stem.removesuffix(f"_{known}"), known) if known else ("", "")


def _track(feature: str, file: _File) -> Track:
    rows = rows_of(load_npy(file.rows), str(file.rows))
    if file.times is None:
        return Track(spans_from(np.arange(len(rows)) * _ROW_SECONDS[feature], _ROW_SECONDS[feature]), rows)
    times = check_times(load_npy(file.times).astype(np.float64) / 1000, str(file.times))
    if len(times) != len(rows):
        raise DataError(f"{file.rows} has {len(rows)} rows for {len(times)} times")
    return Track(_until(times, str(file.times)) if feature in _AT_END else spans_from(times, _last(file)), rows)


def _until(times: npt.NDArray[np.float64], where: str) -> npt.NDArray[np.float64]:
    """f64[N,2]: each row lasts from the one before it (the first from 0 s) to its own time."""
    if times[0] <= 0:
        raise DataError(f"{where} begins at {times[0]:g} s, where a stack cannot end")
    return np.stack([np.append(0.0, times[:-1]), times], axis=1)


def _last(file: _File) -> float | None:
    rate = _rate(file.fps)
    return 1 / rate if rate else None


def _rate(path: Path | None) -> float | None:
    """Frames a second of a file beside the features. Raises DataError for one that is no rate."""
    if path is None:
        return None
    value = load_npy(path)
    if value.dtype.kind not in "fiu" or value.size != 1 or not 0.01 < float(value.reshape(-1)[0]) < 10_000:
        raise DataError(f"{path} holds no frames a second")
    return round(float(value.reshape(-1)[0]), 6)
