"""The frames that an imported recording gets, and its labels on them."""

import numpy as np
import numpy.typing as npt

from cache.align import align, align_labels
from cache.errors import DataError
from cache.interop._layout import Foreign
from cache.interop._rows import check_times, rate_of
from cache.records import Annotation, Labels, Timeline, Track

NOMINAL_FPS = 25.0
_LONGEST = 50_000_000  # frames; a film of 23 days
Range = tuple[float, float] | None


def nominal_frames(foreign: Foreign, fps: float, where: str) -> Timeline:
    """Frames over all that the source has, one of them at the first label's time, so that labels stay what they are.

    Raises DataError where nothing in the source has a time.
    """
    timed = [a.times for a in foreign.annotations.values() if isinstance(a, Annotation) and a.times is not None]
    times = [check_times(t, f"the labels of {where}") for t in timed if len(t)]
    held = [a.spans for a in foreign.annotations.values() if isinstance(a, Track) and len(a)]
    spans = [t.spans for t in foreign.tracks.values() if len(t)] + held
    if not spans and not times:
        raise DataError(f"{where} has neither rows nor labels with times")
    begin = min([float(s.min()) for s in spans] + [float(t[0]) for t in times])
    end = max([float(s.max()) for s in spans] + [float(t[-1]) + 1 / (rate_of(t) or fps) for t in times])
    anchor = float(times[0][0]) if times else begin
    first = -int((anchor - begin) * fps + 1e-6)
    last = int(np.ceil((end - anchor) * fps - 1e-6))
    if not 0 < last - first <= _LONGEST:
        raise DataError(f"{where} lasts from {begin:g} to {end:g} s: these are no times of a recording")
    pts = anchor + np.arange(first, last) / fps
    return Timeline(pts, anchor + last / fps)


def on_frames(annotation: Annotation | Track, timeline: Timeline, where: str, label_range: Range) -> Labels:
    """Labels on frames, from the source's range to [-1, 1]. A track's rows hold for as long as they last.

    Raises DataError naming the option that is missing where labels lie outside [-1, 1].
    """
    if isinstance(annotation, Track):
        laid = align(annotation, timeline, "nearest")
        annotation = Annotation(np.where(laid.present[:, None], laid.values.astype(np.float64), np.nan), None, where)
    va = _in_range(np.asarray(annotation.va, np.float64).reshape(-1, 2), label_range, where)
    return align_labels(Annotation(va, annotation.times, annotation.source, annotation.delay), timeline, where)


def _in_range(va: npt.NDArray[np.float64], label_range: Range, where: str) -> npt.NDArray[np.float64]:
    low, high = label_range or (-1.0, 1.0)
    va = np.where(np.isfinite(va) & ((va != -5) | (low <= -5)), va, np.nan)
    outside = np.flatnonzero(((va < low) | (va > high)).any(axis=1))
    if len(outside):
        raise DataError(
            f"label {outside[0]} of {where} is {va[outside[0]].tolist()}, outside [{low:g}, {high:g}]",
            hint="give the source's own range, e.g. --label-range -3,3",
        )
    return va if label_range is None else 2 * (va - low) / (high - low) - 1
