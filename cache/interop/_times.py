"""Times of rows as sources give them, and the frames that a recording gets where nobody knows its video's."""

from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import DataError
from cache.interop._layout import Label
from cache.records import Annotation, Timeline, Track

NOMINAL_FPS = 25.0
_HOLE = 2.5  # rows further apart than so many usual steps have nothing between them
_LONGEST, _MOST = 200_000, 5_000_000  # seconds, which are 55 hours, and frames
Times = npt.NDArray[np.float64]
Given = npt.NDArray[np.floating[Any]]


def check_times(given: Given, where: str) -> Times:
    """f64[N], seconds. Raises DataError unless they are finite, reasonable and strictly increasing."""
    times = np.asarray(given, np.float64).reshape(-1)
    if not len(times) or not np.isfinite(times).all() or np.abs(times).max() > 1e7:
        raise DataError(f"{where} has no times, or such that are not finite numbers of seconds")
    if not (np.diff(times) > 0).all():
        bad = int(np.flatnonzero(~(np.diff(times) > 0))[0]) + 1
        raise DataError(
            f"the times of {where} must increase; row {bad} is at {times[bad]:g} s, after {times[bad - 1]:g} s"
        )
    return times


def step_of(times: Times) -> float | None:
    """The usual time between rows in seconds, None for a single row."""
    return float(np.median(np.diff(times))) if len(times) > 1 else None


def rate_of(times: Times) -> float | None:
    """Rows a second, None for a single row."""
    step = step_of(times)
    return round(1 / step, 6) if step else None


def spans_from(given: Given, last: float | None = None) -> Times:
    """f64[N,2]: each row lasts until the next one, beside a hole and at the end for a usual step (``last``)."""
    times = np.asarray(given, np.float64)
    step = step_of(times) or last or 1.0
    gaps = np.append(np.diff(times), last or step)
    return np.stack([times, times + np.where(gaps > _HOLE * step, step, gaps)], axis=1)


def with_holes(times: Times, va: Times) -> Annotation:
    """Label rows at these times; where rows are missing stands an invalid one: nothing is interpolated across."""
    step = step_of(times) or 0.0
    holes = np.flatnonzero(np.diff(times) > _HOLE * step) + 1
    return Annotation(np.insert(va, holes, np.nan, axis=0), np.insert(times, holes, times[holes - 1] + step))


def spread(count: int, seconds: float) -> Times:
    """f64[N,2]: that many rows evenly over so many seconds, for rows without times."""
    edges = np.arange(count + 1) * (seconds / count)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def stretched(track: Track, seconds: float, timeline: Timeline) -> Track:
    """Rows that were spread over so many seconds, spread over a timeline instead."""
    begin, end = float(timeline.edges[0]), float(timeline.edges[-1])
    return Track(begin + track.spans * ((end - begin) / seconds), track.values)


def nominal_frames(tracks: dict[str, Track], labels: dict[str, Label], fps: float, where: str) -> Timeline:
    """Frames over all that the source has, one of them at the first label's time, so that labels stay what they are.

    Raises DataError where nothing in the source has a time, and where it lasts for days.
    """
    timed = [a.times for a in labels.values() if isinstance(a, Annotation) and a.times is not None]
    times = [check_times(t, f"the labels of {where}") for t in timed if len(t)]
    held = [a for a in labels.values() if isinstance(a, Track)]
    spans = [t.spans for t in (*tracks.values(), *held) if len(t)]
    if not spans and not times:
        raise DataError(f"{where} has neither rows nor labels with times")
    begin = min([float(s.min()) for s in spans] + [float(t[0]) for t in times])
    end = max([float(s.max()) for s in spans] + [float(t[-1]) + 1 / fps for t in times])
    anchor = float(times[0][0]) if times else begin
    if not end - begin <= _LONGEST or (end - begin) * fps > _MOST:
        raise DataError(f"{where} lasts from {begin:g} to {end:g} s: these are no times of a recording")
    first = -int((anchor - begin) * fps + 1e-6)
    last = int(np.ceil((end - anchor) * fps - 1e-6))
    if last <= first:
        raise DataError(f"{where} lasts from {begin:g} to {end:g} s: this is less than a frame")
    return Timeline(anchor + np.arange(first, last) / fps, anchor + last / fps)
