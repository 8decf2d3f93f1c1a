"""What a cache holds, as plain facts and as a table of 80 columns; what cannot be read is named, not fatal."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cache.care.damages import damage_list
from cache.errors import AffuseError
from cache.groups import attributes
from cache.ids import recording_of
from cache.mark import MARK
from cache.remote import remote_behind
from cache.store import FeatureCache

if TYPE_CHECKING:
    from rich.table import Table

T = TypeVar("T")
_NAMED = 5  # recordings that a line names; --json names all


@dataclass(frozen=True)
class StreamInfo:
    """One stream: what made it, and how much of it is committed.

    weights: hash of the loaded weights. hours: of the recordings in it. lacks: recordings that have a timeline and are
    not in it. faults: what of it cannot be read; where that is its own record, the fields before ``recordings`` are
    empty.
    """

    key: str
    modality: str
    encoder: str
    weights: str
    dtype: str
    dim: int
    recordings: int
    frames: int
    absent_frames: int
    hours: float
    bytes: int
    lacks: list[str]
    faults: list[str]


@dataclass(frozen=True)
class CacheInfo:
    """One cache. hours and frames of its timelines; protocols: labelled recordings by protocol."""

    root: str
    dataset: str
    recordings: int
    frames: int
    hours: float
    bytes: int
    streams: list[StreamInfo]
    protocols: dict[str, int]
    faults: list[str]


def describe(root: Path | str) -> CacheInfo:
    """Facts from the metadata and the timelines; no feature is read."""
    cache, faults = FeatureCache(root), list[str]()
    folders = _recordings(cache.root / "timelines", faults)
    read = {r: _read(partial(cache.timelines.read, r), faults) for r in folders}
    times = {r: t for r, t in read.items() if t is not None}
    seconds = {r: t.end - float(t.pts[0]) for r, t in times.items()}
    streams = [_stream(cache, key, list(folders), seconds) for key in cache.stream_keys()]
    names = _read(cache.labels.protocols, faults) or []
    protocols = {p: len(_read(partial(cache.labels.recordings, p), faults) or []) for p in names}
    return CacheInfo(
        root=cache.where,
        dataset=cache.dataset,
        recordings=len(folders),
        frames=sum(map(len, times.values())),
        hours=_hours(seconds.values()),
        bytes=sum(s.bytes for s in streams) + _beside(cache),
        streams=streams,
        protocols=protocols,
        faults=faults + _listed(cache),
    )


def _beside(cache: FeatureCache) -> int:
    """Bytes of all that belongs to no stream."""
    keys, features = set(cache.stream_keys()), cache.root / "features"
    rest = [*(f for f in cache.root.iterdir() if f != features), *features.iterdir()]
    return sum(size_of(f) for f in rest if f.name != MARK and not (f.parent == features and f.name in keys))


def _listed(cache: FeatureCache) -> list[str]:
    """What the last deep check found damaged, and nobody has remade."""
    faults = list[str]()
    known = [d for d in _read(partial(damage_list, cache), faults) or [] if (cache.root / d.part).exists()]
    return faults + [f"{d.part}, as a deep check found: {d.cause}" for d in known]


def _stream(cache: FeatureCache, key: str, timed: list[str], seconds: dict[str, float]) -> StreamInfo:
    folder, faults = cache.root / "features" / key, list[str]()
    about = _read(partial(cache.about, key), faults) or {}
    there = _recordings(folder, faults)
    records = {r: _read(partial(attributes, f), faults) for r, f in there.items()}
    whole = [r for r in records.values() if r]
    settings: dict[str, Any] = about.get("settings", {})
    return StreamInfo(
        key=key,
        modality=about.get("modality", ""),
        encoder=str(settings.get("encoder", "")),
        weights=str(settings.get("weights", "")),
        dtype=next((r["arrays"]["values"]["dtype"] for r in whole), str(settings.get("dtype", ""))),
        dim=about.get("dim", 0),
        recordings=len(there),
        frames=sum(r["arrays"]["present"]["shape"][0] for r in whole),
        absent_frames=sum(r["absent_frames"] for r in whole),
        hours=_hours(seconds.get(r, 0.0) for r in there),
        bytes=size_of(folder),
        lacks=[r for r in timed if r not in there],
        faults=faults,
    )


def _recordings(folder: Path, faults: list[str]) -> dict[str, Path]:
    """Folders of the committed recordings by their ids, sorted; one whose long id cannot be read by its folder name."""
    found = {}
    for group in (f.parent for f in folder.glob("*/zarr.json")):
        name = recording_of(group.name)
        if name is None:
            name = (_read(partial(attributes, group), faults) or {}).get("recording", group.name)
        found[name] = group
    return dict(sorted(found.items()))


def _read(what: Callable[[], T], faults: list[str]) -> T | None:
    try:
        return what()
    except (AffuseError, OSError) as error:
        faults.append(error.message if isinstance(error, AffuseError) else str(error))
        return None


def _hours(seconds: Any) -> float:
    return round(sum(seconds) / 3600, 3)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder, or of a file; in a mirror also of what is at its URL alone."""
    remote = remote_behind(folder / "any")
    if remote is None:
        return sum(size for _, size in _files(folder))
    return sum((remote.sizes(folder) | {Path(name): size for name, size in _files(folder)}).values())


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """Every file below a folder (or the file itself) with its bytes; what vanishes meanwhile is left out."""
    if folder.is_file():
        yield str(folder), folder.stat().st_size
    for top, _, names in os.walk(folder):
        for name in names:
            path = f"{top}{os.sep}{name}"
            with contextlib.suppress(FileNotFoundError):
                if name != MARK:
                    yield path, os.stat(path).st_size


def info_lines(info: CacheInfo) -> "Iterator[Table | str]":
    """The facts for a terminal."""
    from rich import box
    from rich.table import Table

    labels = ", ".join(f"{n} labelled under {p!r}" for p, n in info.protocols.items()) or "no labels"
    size = f"{info.hours:.2f} h, {info.bytes / 1e6:.1f} MB"
    title = f"{info.root}: {info.dataset}, {info.recordings} recordings, {info.frames} frames, {size}, "
    table = Table(title=f"{title}{labels}", title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for name in ("stream", "modality", "dim", "rec.", "frames", "absent", "hours", "MB"):
        left = name in ("stream", "modality")
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "stream", overflow="fold")
    for s in info.streams:
        absent = f"{s.absent_frames / s.frames:.0%}" if s.frames else "-"
        made, kind = f"  {s.encoder or '?'} {s.weights[:8]}", f"{s.modality or '?'}\n{s.dtype}"
        numbers = map(str, (s.dim, s.recordings, s.frames, absent, f"{s.hours:.2f}", f"{s.bytes / 1e6:.1f}"))
        table.add_row(f"{s.key}\n{made}", kind, *numbers)
    yield table
    for s in info.streams:
        if s.lacks:
            yield f"{s.key} lacks {len(s.lacks)} of {info.recordings} recordings: {named(s.lacks)}"
    faults = [*info.faults, *(f for s in info.streams for f in s.faults)]
    yield from (f"damaged: {fault}" for fault in faults[:_NAMED])
    if faults:
        yield f"{len(faults)} parts are damaged; name all that is damaged with: python cli.py cache verify --deep"


def named(recordings: list[str]) -> str:
    """The first five of some recordings, and how many more there are."""
    more = len(recordings) - _NAMED
    return ", ".join(map(repr, recordings[:_NAMED])) + (f" and {more} more" if more > 0 else "")
