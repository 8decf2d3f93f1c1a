"""How much there is to do and how much room it needs, from headers alone: before a run begins, and for its forecast."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cache.dtypes import dtype_of
from cache.errors import AffuseError, CacheError
from cache.layout import data_bytes
from cache.records import Recording, StreamSpec
from cache.store import FeatureCache
from extract.clock import NOMINAL_FPS, crops_timeline
from extract.media import open_media
from extract.plan import Job
from extract.source import sound_file

GB = 1e9
_SOUND_BYTES_S = 4 * (44_100 + 16_000)  # of sound on disk while a recording is worked on
_FRAME_BYTES = 8  # no codec needs less for a frame
_META_BYTES = 4096 * 4  # files of metadata a recording and stream


@dataclass(frozen=True)
class Size:
    """Extent of a recording's media as its header claims."""

    frames: int
    seconds: float


def size_of(recording: Recording, cache: FeatureCache | None = None) -> Size | None:
    """From the cached timeline, else from the header or the crops; None where they cannot be read."""
    if cache is not None and cache.timelines.info(recording.id) is not None:
        edges = cache.timelines.read(recording.id).edges
        return Size(len(edges) - 1, float(edges[-1] - edges[0]))
    try:
        if recording.video is None and recording.crops is not None:
            frames = len(crops_timeline(recording.crops, NOMINAL_FPS))
            return Size(frames, frames / NOMINAL_FPS)
        path = recording.video or sound_file(recording)
        with open_media(path) as container:
            seconds = (container.duration or 0) / 1e6
            films = container.streams.video if recording.video else ()
            film = max(films, key=lambda s: s.width * s.height, default=None)
            fps = float(film.average_rate or 0) if film else NOMINAL_FPS
            frames = round(seconds * (fps or NOMINAL_FPS))
            at_most = path.stat().st_size / _FRAME_BYTES  # a header may claim anything
            return Size(frames, seconds) if frames <= at_most else Size(round(at_most), at_most / NOMINAL_FPS)
    except AffuseError:
        return None


def _stream_bytes(spec: StreamSpec, frames: int, dtype: str) -> int:
    """Bytes of one recording of a stream in the cache."""
    return data_bytes((frames, spec.dim), dtype_of(dtype).itemsize) + frames + _META_BYTES


@dataclass(frozen=True)
class Room:
    """Bytes that jobs will add to the cache, by stream, and the most that one of them needs while it is worked on."""

    streams: dict[str, int]
    scratch: int

    @property
    def total(self) -> int:
        """What the disk must have free."""
        return sum(self.streams.values()) + self.scratch


def bytes_needed(jobs: Iterable[Job], specs: dict[str, StreamSpec], sizes: dict[str, Size], dtype: str) -> Room:
    """The room that jobs will take. specs: of the streams, by the keys of the jobs."""
    streams, scratch = dict.fromkeys(specs, 0), 0
    for job in jobs:
        size = sizes.get(job.recording.id)
        if size is None:
            continue
        for key in job.keys:
            streams[key] += _stream_bytes(specs[key], size.frames, dtype)
        rows = sum(4 * specs[k].dim * size.frames for k in job.keys if specs[k].modality == "visual")
        scratch = max(scratch, rows + round(size.seconds * _SOUND_BYTES_S))
    return Room(streams, scratch)


def free_bytes(folder: Path) -> int:
    """Room on the disk that a folder is, or will be, on."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check_room(needed: float, cache: Path) -> None:
    """Raises CacheError where the disk will not hold that many bytes more."""
    free = free_bytes(cache.absolute())
    if needed > free:
        raise CacheError(
            f"the features will need {needed / GB:.1f} GB, and the disk of {cache} has {free / GB:.1f} GB free",
            hint="make room, choose another disk with --cache DIR, or extract fewer streams",
        )
