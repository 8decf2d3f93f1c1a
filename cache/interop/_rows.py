"""What every import checks of what it reads: shapes, finite numbers, increasing times; and .npy without pickles."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import DataError, MissingData
from cache.records import Track

_HOLE = 2.5  # rows further apart than so many usual steps have nothing between them
Values = npt.NDArray[Any]
Times = npt.NDArray[np.float64]
Given = npt.NDArray[np.floating[Any]]


def rows_of(values: Values, where: str) -> npt.NDArray[np.float32]:
    """f32[N,D]. Raises DataError for another shape, for no rows, and for what is no number."""
    if values.dtype.kind not in "fiub" or values.ndim != 2 or not values.size:
        raise DataError(f"{where} has {values.dtype} values of shape {values.shape}; wanted numbers [rows, dimensions]")
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


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


def spread(count: int, seconds: float) -> Times:
    """f64[N,2]: that many rows evenly over so many seconds, for rows without times."""
    edges = np.arange(count + 1) * (seconds / count)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def whole_rows(track: Track, where: str) -> tuple[Track, int]:
    """The rows whose numbers are all finite, and how many are not. Raises DataError where none is left."""
    values = np.asarray(track.values)
    good = np.isfinite(values).all(axis=1)
    if len(values) and not good.any():
        raise DataError(f"no row of {where} holds finite numbers", hint="get the file anew")
    return (track, 0) if good.all() else (Track(track.spans[good], values[good]), int((~good).sum()))


def load_npy(path: Path) -> Values:
    """An array from a .npy file, mapped, so that a size it only claims is an error. Pickled objects are refused."""
    if not path.is_file():
        raise MissingData(f"{path} is missing")
    try:
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except (ValueError, OSError, EOFError, SyntaxError, OverflowError, MemoryError) as error:
        raise DataError(f"{path} is no array of numbers ({error})", hint="write it anew with numpy.save") from error
