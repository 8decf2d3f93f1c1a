"""Numbers from files of strangers: .npy without pickles, .csv with a header; what is no number is an error."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import DataError, MissingData
from cache.records import Track

Values = npt.NDArray[Any]
Rows = npt.NDArray[np.float64]


def load_npy(path: Path) -> Values:
    """An array from a .npy file, mapped, so that a size it only claims is an error. Pickled objects are refused."""
    if not path.is_file():
        raise MissingData(f"{path} is missing")
    try:
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except (ValueError, OSError, EOFError, SyntaxError, OverflowError, MemoryError) as error:
        raise DataError(f"{path} is no array of numbers ({error})", hint="write it anew with numpy.save") from error


def rows_of(values: Values, where: str) -> npt.NDArray[np.float32]:
    """f32[N,D]. Raises DataError for another shape, for no rows, and for what is no number."""
    if values.dtype.kind not in "fiub" or values.ndim != 2 or not values.size:
        raise DataError(f"{where} has {values.dtype} values of shape {values.shape}; wanted numbers [rows, dimensions]")
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def whole_rows(track: Track, where: str) -> tuple[Track, int]:
    """The rows whose numbers are all finite, and how many are not. Raises DataError where none is left."""
    values = np.asarray(track.values)
    good = np.isfinite(values).all(axis=1)
    if len(values) and not good.any():
        raise DataError(f"no row of {where} holds finite numbers", hint="get the file anew")
    return (track, 0) if good.all() else (Track(track.spans[good], values[good]), int((~good).sum()))


@dataclass(frozen=True)
class Table:
    """columns: names in lower case. rows: f64[N, columns], NaN where a cell is empty."""

    path: Path
    columns: list[str]
    rows: Rows

    def column(self, name: str) -> Rows:
        """f64[N]. Raises DataError where the header lacks it."""
        if name not in self.columns:
            raise DataError(f"{self.path} has the columns {', '.join(self.columns[:6])}; wanted {name}")
        return self.rows[:, self.columns.index(name)]


def read_table(path: Path) -> Table:
    """Raises DataError for a file without header or rows, for ragged rows, and for cells that are no numbers."""
    try:
        header, *lines = path.read_text(encoding="utf-8-sig").splitlines() or [""]
        columns = [c.strip().lower() for c in next(csv.reader([header]), [])]
        rows = _rows([line for line in lines if line.strip()])
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path} is no table of numbers ({error})") from error
    if not rows.size or rows.shape[1] != len(columns) or len(set(columns)) != len(columns):
        raise DataError(f"{path} has rows of shape {rows.shape} below a header of {len(columns)} columns")
    return Table(path, columns, rows)


def _rows(lines: list[str]) -> Rows:
    if not lines:
        raise ValueError("no rows below its header")
    try:
        return np.loadtxt(lines, delimiter=",", ndmin=2, comments=None)
    except ValueError:
        return np.loadtxt(lines, delimiter=",", ndmin=2, comments=None, converters=_number)


def _number(cell: str) -> float:
    return float(cell.strip() or "nan")


def write_table(path: Path, header: list[str], times: Rows, rows: Rows) -> None:
    """A column of times in full, then values as exactly as float32 holds them; NaN is an empty cell."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(",".join(header) + "\n")
        for time, row in zip(times, rows, strict=True):
            cells = ("" if np.isnan(v) else f"{v:.9g}" for v in row)
            file.write(f"{float(time)!r},{','.join(cells)}\n")


def partition_name(name: str) -> str:
    """``devel``, ``dev``, ``valid`` and ``val`` are validation, ``trn`` is train; anything else stays."""
    usual = dict.fromkeys(("devel", "dev", "valid", "val", "validation"), "validation")
    usual |= {"trn": "train", "training": "train", "tst": "test"}
    return usual.get(name.strip().lower(), name.strip())
