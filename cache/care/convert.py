"""The same features in another dtype, in other chunks or packed by another codec: beside the old ones, or elsewhere.

Another dtype gives other numbers, so it is another stream, whose settings say what it was converted from. Chunks and
codecs change no number: the stream keeps its key, and such a copy needs a cache of its own, since what is committed
never changes. Every recording is checked byte by byte before it is converted, and read back afterwards.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cache.care.damages import damage_list
from cache.care.heal import clear_damaged, still_damaged
from cache.care.info import size_of
from cache.check import undamaged
from cache.commit import publish_file
from cache.errors import UsageError
from cache.fingerprint import stream_key
from cache.packed import Packing
from cache.progress import progress
from cache.reader import open_stream
from cache.records import FACE_BOX, Aligned
from cache.store import FeatureCache
from cache.trust import open_inside

if TYPE_CHECKING:
    from rich.table import Table

Dtype = Literal["float32", "float16", "bfloat16"]
_AT_ONCE = 1024  # frames
_RECORD = {"recording", "arrays", "absent_frames", "timeline"}  # of a commit record, made anew


@dataclass
class Converted:
    """One stream. before, after: bytes of its recordings. made: recordings converted now; kept: there already.

    largest, mean: error of the numbers relative to what they were, over all present ones that are not zero; None where
    the dtype stayed.
    """

    stream: str
    key: str
    dtype: str
    made: int = 0
    kept: int = 0
    before: int = 0
    after: int = 0
    largest: float | None = None
    mean: float | None = None


@dataclass(frozen=True)
class Conversion:
    """Where from and where to, and each stream. healed: damaged parts of the new streams that were made anew."""

    cache: str
    out: str
    streams: list[Converted]
    healed: list[str] = field(default_factory=list)


@dataclass
class _Error:
    """Running error of a stream."""

    count: int = 0
    total: float = 0.0
    largest: float = 0.0


def convert(
    root: Path | str,
    out: Path | str | None = None,
    *,
    dtype: Dtype | None = None,
    packing: Packing | None = None,
    streams: tuple[str, ...] = (),
    quiet: bool = False,
) -> Conversion:
    """Convert all streams, or those named; what is committed already is kept. Times, labels and words go along.

    Converted streams, and the boxes of faces, whose columns are pixels, keep their dtype unless they are named. Raises
    UsageError where there is nothing to convert, DataError where values do not fit the dtype, CorruptCache where the
    source is damaged.
    """
    source = FeatureCache(root)
    keys = [source.resolve(s).key for s in streams] or source.stream_keys()
    plans = [_plan(source, key, dtype, named=bool(streams)) for key in keys]
    target = source if out is None else FeatureCache.create(out, source.dataset)
    same = target.root.resolve() == source.root.resolve()
    if same:
        plans = [p for p in plans if p.key != p.stream]
        if not plans:
            why = (
                f"every stream is {dtype} or converted"
                if dtype
                else "no dtype is asked for, and what is committed stays"
            )
            raise UsageError(f"nothing to convert in {source.where}: {why}", hint="give --dtype another one, or --out")
    healed = clear_damaged(target, [p.key for p in plans], source.timelines.recordings(), streams_alone=same)
    if not same:
        _take_along(source, target)
    with progress("convert", sum(len(source.recordings(p.stream)) for p in plans), quiet=quiet) as step:
        for plan in plans:
            _declare(source, target, plan)
            error = _Error()
            for recording in source.recordings(plan.stream):
                _convert(source, target, plan, recording, packing, error)
                step()
            if plan.key != plan.stream and error.count:
                plan.largest, plan.mean = error.largest, error.total / error.count
    if damage_list(target):
        still_damaged(target)
    return Conversion(source.where, target.where, plans, healed)


def _plan(source: FeatureCache, key: str, dtype: str | None, *, named: bool) -> Converted:
    """What a stream becomes: itself, where the dtype stays what it is."""
    about, recordings = source.about(key), source.recordings(key)
    first = source.commit_record(key, recordings[0])["arrays"]["values"]["dtype"] if recordings else ""
    now = str(about["settings"].get("dtype") or first or "float16")
    left = not named and (about["name"] == FACE_BOX or "converted" in about["settings"])
    if left or dtype in (None, now):
        return Converted(key, key, now)
    return Converted(key, stream_key(about["name"], _settings(about["settings"], key, str(dtype))), str(dtype))


def _settings(settings: dict[str, Any], key: str, dtype: str) -> dict[str, Any]:
    return {**settings, "dtype": dtype, "converted": {"from": key}}


def _declare(source: FeatureCache, target: FeatureCache, plan: Converted) -> None:
    about = source.about(plan.stream)
    settings = about["settings"] if plan.key == plan.stream else _settings(about["settings"], plan.stream, plan.dtype)
    target.declare(about["name"], about["modality"], about["dim"], settings, about["origin"])


def _convert(
    source: FeatureCache, target: FeatureCache, plan: Converted, recording: str, packing: Packing | None, error: _Error
) -> None:
    """One recording of a stream, unless it is there; and how far its numbers moved."""
    folder = source.folder(plan.stream, recording)
    if target.has(plan.key, recording):
        plan.kept += 1
    else:
        undamaged(folder)
        info = {k: v for k, v in source.commit_record(plan.stream, recording).items() if k not in _RECORD}
        target.write(plan.key, recording, _blocks(folder), info, dtype=plan.dtype, packing=packing)
        plan.made += 1
    if plan.key != plan.stream:
        _compare(folder, target.folder(plan.key, recording), error)
    plan.before += size_of(folder)
    plan.after += size_of(target.folder(plan.key, recording))


def _blocks(folder: Path) -> Iterator[Aligned]:
    values, present = open_stream(folder)
    for start in range(0, len(present), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        yield Aligned(values[some].astype(np.float32), present[some])


def _compare(before: Path, after: Path, error: _Error) -> None:
    for old, new in zip(_blocks(before), _blocks(after), strict=True):
        was = old.values[old.present].astype(np.float64)
        apart = np.abs(new.values[old.present] - was)[was != 0] / np.abs(was[was != 0])
        error.count += apart.size
        error.total += float(apart.sum())
        error.largest = max(error.largest, float(apart.max(initial=0.0)))


def _take_along(source: FeatureCache, target: FeatureCache) -> None:
    """Times, and what of labels and recognised words is not there yet."""
    for recording in source.timelines.recordings():
        record = source.timelines.info(recording) or {}
        info = {k: v for k, v in record.items() if k not in _RECORD | {"end"}}
        target.timelines.write(recording, source.timelines.read(recording), info)
    there = set(target.labels.protocols())
    for protocol in (p for p in source.labels.protocols() if p not in there):
        labels = {r: source.labels.read(protocol, r) for r in source.labels.recordings(protocol)}
        split = source.labels.partitions(protocol)
        target.labels.write(protocol, labels, split, source.labels.delays(protocol))
    words = source.root / "transcripts"
    for file in [*words.glob("*.json"), *sorted(words.glob("*/*.json"))]:
        copy = target.root / file.relative_to(source.root)
        if not copy.exists():
            with open_inside(source.root, file) as data:
                publish_file(target.root, copy, data.read())


def convert_lines(found: Conversion) -> "Iterator[Table | str]":
    """What was done, for a terminal."""
    from rich import box
    from rich.table import Table

    table = Table(title=f"{found.cache} to {found.out}", title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for name in ("stream", "dtype", "made", "kept", "MB before", "after", "rel. error"):
        left = name in ("stream", "dtype")
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "stream", overflow="fold")
    for s in found.streams:
        error = "-" if s.largest is None else f"{s.largest:.1e}\nmean {s.mean:.1e}"
        name = s.stream + (f"\n{s.key}" if s.key != s.stream else "")
        numbers = (str(s.made), str(s.kept), f"{s.before / 1e6:.1f}", f"{s.after / 1e6:.1f}")
        table.add_row(name, s.dtype, *numbers, error)
    yield table
    before, after = (sum(getattr(s, n) for s in found.streams) for n in ("before", "after"))
    yield f"{before:,} bytes became {after:,}"
    if found.healed:
        yield f"{len(found.healed)} parts were damaged and are made anew: {', '.join(found.healed[:5])}"
