"""How far two streams of one cache are apart: the settings that differ, and the numbers of what both hold.

Some frames of one recording at a time, so that memory does not grow with the cache or with a recording's length.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cache.care.why import apart_lines
from cache.errors import CorruptCache
from cache.fingerprint import differing
from cache.progress import progress
from cache.reader import StreamReader
from cache.store import FeatureCache

if TYPE_CHECKING:
    from rich.table import Table

_AT_ONCE = 1024  # frames
_WORST = 10  # recordings that the table shows; --json has all
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Compared:
    """One recording in both streams.

    frames: present in both. cosine_mean, cosine_worst: similarity of a frame's two rows; None without such frames, or
    where the widths differ. largest: absolute difference of two values. presence: percent of all frames that only one
    of the streams has.
    """

    recording: str
    frames: int
    cosine_mean: float | None
    cosine_worst: float | None
    largest: float | None
    presence: float


@dataclass(frozen=True)
class StreamDifference:
    """Two streams. dims: their widths; settings: dotted paths with both values; recordings: those that both hold."""

    a: str
    b: str
    dims: tuple[int, int]
    settings: dict[str, tuple[Any, Any]]
    only_a: list[str]
    only_b: list[str]
    recordings: list[Compared]


def compare_streams(root: Path | str, a: str, b: str, *, quiet: bool = False) -> StreamDifference:
    """Two streams by key, or by bare name where that is one.

    Recordings are compared only where both are of one width. Raises CorruptCache where a recording cannot be read.
    """
    cache = FeatureCache(root)
    one, two = cache.resolve(a), cache.resolve(b)
    settings = differing(cache.about(one.key)["settings"], cache.about(two.key)["settings"])
    left, right = cache.reader(one.key), cache.reader(two.key)
    both = sorted(left.folders.keys() & right.folders.keys()) if one.dim == two.dim else []
    compared = []
    with progress("diff", len(both), quiet=quiet) as step:
        for recording in both:
            compared.append(_compare(recording, left, right))
            step()
    only_a, only_b = (sorted(x.folders.keys() - y.folders.keys()) for x, y in ((left, right), (right, left)))
    return StreamDifference(one.key, two.key, (one.dim, two.dim), settings, only_a, only_b, compared)


def _compare(recording: str, left: StreamReader, right: StreamReader) -> Compared:
    (a, here), (b, there) = left.recording(recording), right.recording(recording)
    if a.shape != b.shape or here.shape != there.shape:
        raise CorruptCache(f"recording {recording!r} has shape {a.shape} in one stream and {b.shape} in the other")
    seen, count, total, worst, largest = here & there, 0, 0.0, np.inf, 0.0
    for start in range(0, len(seen), _AT_ONCE):
        frames = start + np.flatnonzero(seen[start : start + _AT_ONCE])
        if len(frames):
            x, y = a[frames].astype(np.float64), b[frames].astype(np.float64)
            cosine = _cosine(x, y)
            count, total, worst = count + len(frames), total + float(cosine.sum()), min(worst, float(cosine.min()))
            largest = max(largest, float(np.abs(x - y).max(initial=0.0)))
    apart = round(100 * float((here != there).mean()), 3)
    if not count:
        return Compared(recording, 0, None, None, None, apart)
    return Compared(recording, count, round(total / count, 6), round(worst, 6), largest, apart)


def _cosine(x: Values, y: Values) -> Values:
    """Of each row: 1 where both are zero, 0 where one is."""
    a, b = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    product = a * b
    cosine = (x * y).sum(axis=1) / np.where(product > 0, product, 1.0)
    return np.where((a == 0) & (b == 0), 1.0, np.clip(cosine, -1.0, 1.0))


def diff_lines(found: StreamDifference) -> "Iterator[Table | str]":
    """The comparison for a terminal."""
    if found.settings:
        yield from apart_lines(found.a, found.b, found.settings)
    else:
        yield f"{found.a} and {found.b} have the same settings"
    if found.dims[0] != found.dims[1]:
        yield f"{found.dims[0]} and {found.dims[1]} wide: only their settings can be compared"
        return
    if found.recordings:
        less = f" (the {_WORST} least alike)" if len(found.recordings) > _WORST else ""
        yield f"Recordings in both{less}:"
        yield _numbers(found)
    total, frames = len(found.recordings), sum(r.frames for r in found.recordings)
    alone = f"{len(found.only_a)} in {found.a} alone, {len(found.only_b)} in {found.b} alone"
    yield f"{total} recordings are in both ({frames} frames), {alone}"


def _numbers(found: StreamDifference) -> "Table":
    from rich import box
    from rich.table import Table

    ranked = sorted(found.recordings, key=lambda r: (2.0 if r.cosine_worst is None else r.cosine_worst, -r.presence))
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("recording", "frames", "cosine", "worst", "max diff", "presence"):
        left = name == "recording"
        table.add_column(name, justify="left" if left else "right", no_wrap=not left, overflow="fold")
    for r in [*ranked[:_WORST], _together(found.recordings)]:
        cosines = ("-" if c is None else f"{c:.4f}" for c in (r.cosine_mean, r.cosine_worst))
        largest = "-" if r.largest is None else f"{r.largest:.3g}"
        table.add_row(r.recording, str(r.frames), *cosines, largest, f"{r.presence:.1f} %")
    return table


def _together(recordings: list[Compared]) -> Compared:
    """All of them as one: means weighted by frames, the worst of the worst."""
    some = [r for r in recordings if r.cosine_mean is not None]
    frames = sum(r.frames for r in some)
    mean = sum((r.cosine_mean or 0.0) * r.frames for r in some) / frames if frames else None
    worst = min((r.cosine_worst for r in some if r.cosine_worst is not None), default=None)
    largest = max((r.largest for r in some if r.largest is not None), default=None)
    presence = sum(r.presence for r in recordings) / len(recordings)
    return Compared("all (presence: mean)", frames, mean, worst, largest, presence)
