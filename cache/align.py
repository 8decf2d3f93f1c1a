"""The only place where time becomes a frame index.

Encoders and annotations keep their own clocks; here their rows are laid onto the frames that were on screen while
each row held. Frame i is on screen during ``[edges[i], edges[i+1])``. A frame that no row touches is not present.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import DataError, UsageError
from cache.records import Aligned, Annotation, Labels, Timeline, Track

TOUCH_S = 1e-9  # overlaps shorter than a nanosecond are rounding, not time
_FRAMES_AT_ONCE = 1024
Values = npt.NDArray[np.floating[Any]]


def align(track: Track, timeline: Timeline, policy: str = "overlap") -> Aligned:
    """Map a track's rows onto frames.

    policy: ``overlap`` weights every row by the time it shares with the frame; ``nearest`` takes the touching row
    whose middle is closest to the frame's; ``linear`` interpolates between the middles of the rows around it.
    Returns values f32[T,D] (zero where absent) and present bool[T]. Raises UsageError for another policy.
    """
    blocks = list(align_blocks(track, timeline, policy))
    return Aligned(np.concatenate([b.values for b in blocks]), np.concatenate([b.present for b in blocks]))


def align_blocks(track: Track, timeline: Timeline, policy: str = "overlap") -> Iterator[Aligned]:
    """What ``align`` gives, some frames at a time: of a track whose values lie on disk only what they need is read."""
    if policy not in POLICIES:
        raise UsageError(f"unknown align policy {policy!r}; there are: {', '.join(POLICIES)}")
    rows = _Rows(track)
    for frames, pairs in _touching(rows.spans, timeline.edges):
        count = frames.stop - frames.start
        values = np.zeros((count, track.values.shape[1]), np.float32)
        if len(pairs.frame):
            values[pairs.frame[pairs.first] - frames.start] = POLICIES[policy](rows, timeline, pairs)
        yield Aligned(values, np.bincount(pairs.frame - frames.start, minlength=count) > 0)


class _Rows:
    """A track's rows in order of their beginnings. spans: f64[N,2]."""

    def __init__(self, track: Track) -> None:
        self._order = np.argsort(track.spans[:, 0], kind="stable")
        self._values = track.values
        self.spans = track.spans[self._order]

    def take(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """Values f32[R,D] of these rows."""
        return self._values[self._order[rows]]

    @cached_property
    def middles(self) -> npt.NDArray[np.float64]:
        """f64[N], seconds."""
        return self.spans.mean(axis=1)

    @cached_property
    def by_middle(self) -> npt.NDArray[np.intp]:
        """Rows in order of their middles."""
        return np.argsort(self.middles, kind="stable")


@dataclass(frozen=True)
class Pairs:
    """Frames and rows that share time, ordered by frame. frame, row: i64[P]; shared: f64[P], seconds."""

    frame: npt.NDArray[np.intp]
    row: npt.NDArray[np.intp]
    shared: npt.NDArray[np.float64]

    @property
    def first(self) -> npt.NDArray[np.intp]:
        """Where each touched frame's pairs begin."""
        return np.flatnonzero(np.r_[True, np.diff(self.frame) > 0]) if len(self.frame) else np.empty(0, np.intp)


def _touching(spans: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> Iterator[tuple[slice, Pairs]]:
    """The pairs of a block of frames at a time, so that memory does not grow with the recording."""
    reach = np.maximum.accumulate(spans[:, 1]) if len(spans) else spans[:, 1]
    for start in range(0, len(edges) - 1, _FRAMES_AT_ONCE):
        frames = slice(start, min(start + _FRAMES_AT_ONCE, len(edges) - 1))
        begin, end = edges[frames], edges[frames.start + 1 : frames.stop + 1]
        first = np.searchsorted(reach, begin, "right")
        count = np.maximum(np.searchsorted(spans[:, 0], end, "left") - first, 0)
        frame = np.repeat(np.arange(frames.start, frames.stop), count)
        row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
        shared = np.minimum(spans[row, 1], edges[frame + 1]) - np.maximum(spans[row, 0], edges[frame])
        keep = shared > TOUCH_S
        yield frames, Pairs(frame[keep], row[keep], shared[keep])


def _overlap(rows: _Rows, timeline: Timeline, pairs: Pairs) -> Values:
    first = pairs.first
    total = np.add.reduceat(pairs.shared, first)
    count = np.diff(np.r_[first, len(pairs.frame)])
    share = pairs.shared / np.repeat(total, count)  # exactly 1 where one row fills the frame
    return np.add.reduceat(rows.take(pairs.row) * share[:, None], first, axis=0)


def _nearest(rows: _Rows, timeline: Timeline, pairs: Pairs) -> Values:
    away = np.abs(rows.middles[pairs.row] - _middles(timeline, pairs.frame))
    order = np.lexsort((away, pairs.frame))  # frames stay in place, each one's nearest row comes first
    return rows.take(pairs.row[order[pairs.first]])


def _linear(rows: _Rows, timeline: Timeline, pairs: Pairs) -> Values:
    """Between the middles of two rows that meet or overlap; beside a gap, the nearest row: nothing crosses a gap."""
    out = _nearest(rows, timeline, pairs)
    at = _middles(timeline, pairs.frame[pairs.first])
    place = np.searchsorted(rows.middles[rows.by_middle], at)
    right = rows.by_middle[np.minimum(place, len(rows.middles) - 1)]
    left = rows.by_middle[np.maximum(np.minimum(place, len(rows.middles) - 1) - 1, 0)]
    begin, end = rows.middles[left], rows.middles[right]
    meet = (rows.spans[right, 0] <= rows.spans[left, 1] + TOUCH_S) & (begin <= at) & (at <= end)
    share = ((at - begin) / np.maximum(end - begin, TOUCH_S))[meet, None]
    out[meet] = rows.take(left[meet]) * (1 - share) + rows.take(right[meet]) * share
    return out


def _middles(timeline: Timeline, frame: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    return (timeline.edges[frame] + timeline.edges[frame + 1]) / 2


#: Values f32[F,D] of the frames that some row touches.
Policy = Callable[[_Rows, Timeline, Pairs], Values]
POLICIES: dict[str, Policy] = {"overlap": _overlap, "linear": _linear, "nearest": _nearest}


def align_labels(annotation: Annotation, timeline: Timeline, recording: str = "") -> Labels:
    """Lay annotation rows onto frames.

    Rows without times belong to frames by number: surplus rows are dropped from the tail, frames without a row stay
    unlabelled, nothing ever shifts but by the annotation's own delay. Rows with times are interpolated linearly at each
    frame's PTS, and a frame is labelled only where the rows around it are. A row is invalid where either value is not a
    number or is -5.

    Raises DataError for a valid row outside [-1, 1].
    """
    va = np.asarray(annotation.va, dtype=np.float64).reshape(-1, 2)
    valid = np.isfinite(va).all(axis=1) & (va != -5).all(axis=1)
    wild = valid & (np.abs(va) > 1).any(axis=1)
    if wild.any():
        bad = int(np.flatnonzero(wild)[0])
        raise DataError(
            f"annotation row {bad} of {recording or annotation.source!r} is {va[bad].tolist()}; "
            "wanted valence and arousal in [-1, 1], or -5 for an invalid frame",
            hint="map the corpus's range to [-1, 1] first",
        )
    times = annotation.times
    if times is None and annotation.delay:
        va, valid, times = va[: len(timeline)], valid[: len(timeline)], timeline.pts[: len(va)]
    if times is None:
        rows = min(len(va), len(timeline))
        labelled = np.zeros(len(timeline), bool)
        labelled[:rows] = valid[:rows]
        out = np.zeros((len(timeline), 2), np.float32)
        out[:rows][labelled[:rows]] = va[:rows][labelled[:rows]]
        return Labels(out, labelled)
    return _timed_labels(np.asarray(times, np.float64) - annotation.delay, va, valid, timeline)


def _timed_labels(
    times: npt.NDArray[np.float64],
    va: npt.NDArray[np.float64],
    valid: npt.NDArray[np.bool_],
    timeline: Timeline,
) -> Labels:
    if len(times) != len(va) or not (np.diff(times) > 0).all() or not len(times):
        raise DataError(f"{len(va)} annotation rows have {len(times)} times; wanted one strictly increasing time a row")
    step = float(np.median(np.diff(times))) if len(times) > 1 else float(np.median(np.diff(timeline.edges)))
    right = np.clip(np.searchsorted(times, timeline.pts - TOUCH_S, "left"), 0, len(times) - 1)
    left = np.where(times[right] <= timeline.pts + TOUCH_S, right, np.maximum(right - 1, 0))
    gap = np.maximum(times[right] - times[left], TOUCH_S)
    share = np.clip((timeline.pts - times[left]) / gap, 0.0, 1.0)
    near = (timeline.pts >= times[0] - step / 2) & (timeline.pts <= times[-1] + step / 2)
    labelled = valid[left] & valid[right] & near
    mixed = va[left] * (1 - share[:, None]) + va[right] * share[:, None]
    return Labels(np.where(labelled[:, None], mixed, 0.0).astype(np.float32), labelled)
