"""Label files of corpora: rows by frame or by time, in one file or one a dimension, in the corpus's own range."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from cache.errors import ConfigError, DataError
from cache.records import Annotation
from extract.datasets._tables import Table, read_table

DIMENSIONS = ("valence", "arousal")
_TIMES = {
    "time": "",
    "timestamp": "",
    "frametime": "",
    "time_s": "s",
    "time(s)": "s",
    "time_ms": "ms",
    "time(ms)": "ms",
}
_OTHERS = ("", "value", "name", "segment_id", "liking", *DIMENSIONS)  # columns of known corpora that are no times
_HOLE = 2.5  # times further apart than so many usual steps have nothing between them
Range = tuple[float, float]


@dataclass(frozen=True)
class LabelFormat:
    """How to read label files.

    label_range: lowest and highest label of the corpus, mapped to [-1, 1]; valence_range and arousal_range where the
    two differ. invalid: the value of rows without a label; by default -5 where that is outside the range. time_unit:
    of columns called time or timestamp, which do not say it themselves.
    """

    label_range: Range = (-1.0, 1.0)
    valence_range: Range | None = None
    arousal_range: Range | None = None
    invalid: float | None = None
    time_unit: Literal["s", "ms"] = "s"

    def __post_init__(self) -> None:
        for low, high in (self.range_of(d) for d in DIMENSIONS):
            if not low < high:
                raise ConfigError(f"a label range is [{low}, {high}]; wanted [lowest, highest]")

    def range_of(self, dimension: str) -> Range:
        """Lowest and highest value of ``valence`` or ``arousal``."""
        return (self.valence_range if dimension == "valence" else self.arousal_range) or self.label_range


def read_labels(path: Path, form: LabelFormat | None = None) -> Annotation:
    """A file with the columns valence and arousal in any order; without a column of times, one row a video frame.

    Invalid rows are NaN. Raises MissingData, or DataError naming the line.
    """
    form, table = form or LabelFormat(), read_table(path)
    if not set(DIMENSIONS) <= set(table.columns):
        raise DataError(f"{path} has the columns {', '.join(table.columns)}; wanted a header with valence and arousal")
    va = np.stack([_values(table, d, d, form) for d in DIMENSIONS], axis=1)
    times = _times(table, form)
    if times is None:
        _check_rows(table)
    return as_annotation(va, times, path.name)


def read_dimensions(valence: Path, arousal: Path, form: LabelFormat | None = None) -> Annotation:
    """Two files, one a dimension, whose values are in a column of that name or called ``value``."""
    form, tables = form or LabelFormat(), [read_table(valence), read_table(arousal)]
    columns = []
    for table, dimension in zip(tables, DIMENSIONS, strict=True):
        column = next((c for c in (dimension, "value") if c in table.columns), None)
        if column is None:
            raise DataError(f"{table.path} has the columns {', '.join(table.columns)}; wanted value or {dimension}")
        columns.append(_values(table, column, dimension, form))
        if _times(table, form) is None:
            _check_rows(table)
    times = [_times(table, form) for table in tables]
    same = len(columns[0]) == len(columns[1]) and (times[0] is None) == (times[1] is None)
    if not same or not np.allclose(times[0] if times[0] is not None else 0, times[1] if times[1] is not None else 0):
        rows = f"{len(columns[0])} and {len(columns[1])} rows"
        raise DataError(f"{valence} and {arousal} are not rows of the same times ({rows})")
    return as_annotation(np.stack(columns, axis=1), times[0], f"{valence.name}, {arousal.name}")


def _check_rows(table: Table) -> None:
    """Of rows that count frames: an empty line may be one, unless every second line is empty (double line ends)."""
    steps = np.diff([line for line, _ in table.rows])
    if len(steps) and steps.min() != steps.max():
        after = table.rows[int(np.argmax(steps))][0]
        raise DataError(
            f"{table.path} has an empty line after line {after}, among rows that count video frames",
            hint="is it a frame without a label? write -5,-5 there, or take the line out",
        )


def _values(table: Table, column: str, dimension: str, form: LabelFormat) -> npt.NDArray[np.float64]:
    """f64[N] in [-1, 1], NaN where invalid."""
    low, high = form.range_of(dimension)
    values = table.numbers(column)
    mark = form.invalid if form.invalid is not None else -5.0
    if form.invalid is not None or not low <= mark <= high:
        values[values == mark] = np.nan
    outside = np.flatnonzero((values < low) | (values > high))
    if len(outside):
        line, value = table.rows[outside[0]][0], values[outside[0]]
        raise DataError(
            f"{table.path} line {line}: {column} is {value:g}, outside [{low:g}, {high:g}]",
            hint="give the corpus's own range: --set dataset_options.label_range=[LOW,HIGH]",
        )
    return values if (low, high) == (-1.0, 1.0) else 2 * (values - low) / (high - low) - 1


def _times(table: Table, form: LabelFormat) -> npt.NDArray[np.float64] | None:
    """f64[N] in seconds, or None where the file has no times."""
    unknown = [c for c in table.columns if c not in {*_TIMES, *_OTHERS}]
    if unknown:
        raise DataError(
            f"{table.path} has the column {unknown[0]!r}: is it a time?",
            hint=f"call times one of {', '.join(_TIMES)}; rows without times belong to video frames in order",
        )
    column = next((c for c in table.columns if c in _TIMES), None)
    if column is None:
        return None
    return table.numbers(column) / (1000 if (_TIMES[column] or form.time_unit) == "ms" else 1)


def as_annotation(va: npt.NDArray[np.float64], times: npt.NDArray[np.float64] | None, source: str) -> Annotation:
    """Rows with times in seconds, or None. Where rows are missing stands an invalid one: nothing is interpolated."""
    if times is not None and len(times) > 2:
        gaps = np.diff(times)
        holes = np.flatnonzero(gaps > _HOLE * np.median(gaps)) + 1
        va = np.insert(va, holes, np.nan, axis=0)
        times = np.insert(times, holes, (times[holes - 1] + times[holes]) / 2)
    return Annotation(va, times, source)
