"""A recording's predictions as a file: ``frame,time_s,valence,arousal``, a line for every frame of the video."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from cache.errors import DataError
from cache.ids import folder_of

F64 = npt.NDArray[np.float64]
HEADER = "frame,time_s,valence,arousal"


def prediction_file(folder: Path, recording: str) -> Path:
    """Where a folder has a recording's predictions."""
    return folder / f"{folder_of(recording)}.csv"


def save_predictions(folder: Path, recording: str, pts: F64, pred: F64) -> Path:
    """Frame times f64[T] in seconds and (valence, arousal) f64[T,2] as ``<recording>.csv``. Returns the file."""
    path = prediction_file(folder, recording)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = np.column_stack([np.arange(len(pts)), pts, pred])
    np.savetxt(path, table, fmt=["%d", "%.6f", "%.6f", "%.6f"], delimiter=",", comments="", header=HEADER)
    return path


def read_predictions(path: Path) -> tuple[F64, F64]:
    """Times f64[T] and (valence, arousal) f64[T,2] of a prediction file.

    Raises DataError where it has another header, frames that are not 0..T-1 in order, or values that are no numbers.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines or lines[0].strip() != HEADER:
        raise DataError(f"{path} begins with {lines[0] if lines else 'nothing'!r}, wanted {HEADER}")
    try:
        table = np.array([[float(cell) for cell in line.split(",")] for line in lines[1:] if line.strip()])
        table = table.reshape(-1, 4)
    except ValueError as error:
        raise DataError(f"{path} is not a table of four numbers a line: {error}") from error
    if not len(table) or not np.array_equal(table[:, 0], np.arange(len(table))):
        raise DataError(f"{path} does not hold every frame once, from 0 on, in order")
    if not np.isfinite(table).all() or not (np.diff(table[:, 1]) > 0).all():
        raise DataError(f"{path} holds values that are not finite, or times that do not increase")
    return table[:, 1], table[:, 2:]


def strayed(times: F64, pts: F64) -> float:
    """How many seconds a file's times f64[T] are away from the frames' f64[T]; 0.0 up to half a frame."""
    if not len(pts):
        return 0.0
    apart = float(np.abs(times - pts).max())
    half = float(np.median(np.diff(pts))) / 2 if len(pts) > 1 else 0.02
    return apart if apart > half else 0.0
