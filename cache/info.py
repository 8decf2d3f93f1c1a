"""What a cache holds, as plain facts and as a table of 80 columns."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cache.store import FeatureCache

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class StreamInfo:
    """One stream: its key, modality and width, and how much of it is committed."""

    key: str
    modality: str
    dim: int
    recordings: int
    frames: int
    bytes: int
    absent_frames: int


@dataclass(frozen=True)
class CacheInfo:
    """One cache. protocols: labelled recordings by protocol; hours of timelines."""

    root: str
    dataset: str
    recordings: int
    hours: float
    streams: list[StreamInfo]
    protocols: dict[str, int]


def describe(root: Path) -> CacheInfo:
    """Facts from the metadata alone; no feature is read."""
    cache = FeatureCache(root)
    timed = cache.timelines.recordings()
    frames = {r: len(cache.timelines.read(r)) for r in timed}
    seconds = sum(t.end - t.pts[0] for t in map(cache.timelines.read, timed))
    streams = [_stream(cache, key, frames) for key in cache.stream_keys()]
    protocols = {p: len(cache.labels.recordings(p)) for p in cache.labels.protocols()}
    return CacheInfo(str(cache.root), cache.dataset, len(timed), round(seconds / 3600, 3), streams, protocols)


def _stream(cache: FeatureCache, key: str, frames: dict[str, int]) -> StreamInfo:
    spec, names = cache.stream(key), cache.recordings(key)
    folder = cache.root / "features" / key
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    absent = sum(cache.commit_record(key, r)["absent_frames"] for r in names)
    total = sum(frames[r] for r in names)
    return StreamInfo(key, spec.modality, spec.dim, len(names), total, size, absent)


def info_table(info: CacheInfo) -> "Table":
    """The facts for a terminal."""
    from rich import box
    from rich.table import Table

    labels = ", ".join(f"{n} labelled under {p!r}" for p, n in info.protocols.items()) or "no labels"
    title = f"{info.root}: {info.dataset}, {info.recordings} recordings, {info.hours:.2f} h, {labels}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("stream", "modality", "dim", "recordings", "frames", "absent", "MB"):
        table.add_column(name, justify="left" if name in ("stream", "modality") else "right", no_wrap=True)
    for s in info.streams:
        absent = f"{s.absent_frames / s.frames:.0%}" if s.frames else "-"
        table.add_row(s.key, s.modality, *map(str, (s.dim, s.recordings, s.frames)), absent, f"{s.bytes / 1e6:.1f}")
    return table
