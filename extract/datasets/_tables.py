"""Tables of numbers as corpora write them: ``,`` or ``;`` or tabs, padded names, quotes, empty lines, Weka's ARFF."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cache.errors import DataError, MissingData

_DELIMITERS = ";\t,"


@dataclass(frozen=True)
class Table:
    """columns: names in lower case without spaces. rows: (line in the file, cells without padding and quotes)."""

    path: Path
    columns: list[str]
    rows: list[tuple[int, list[str]]]

    def numbers(self, column: str) -> npt.NDArray[np.float64]:
        """f64[N] of one column, NaN for an empty cell. Raises DataError naming the line that is no number."""
        at = self.columns.index(column)
        found = np.full(len(self.rows), np.nan)
        for i, (line, cells) in enumerate(self.rows):
            try:
                found[i] = float(cells[at]) if cells[at] else np.nan
            except ValueError as error:
                raise DataError(f"{self.path} line {line}: {column} is {cells[at]!r}, not a number") from error
        return found


def read_table(path: Path) -> Table:
    """A table with named columns. Raises MissingData, or DataError naming the line with too few or many cells."""
    if not path.is_file():
        raise MissingData(f"no annotation file at {path}")
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    lines = [(n, line) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    while lines and not lines[-1][1].strip(" \t;,"):
        lines.pop()  # spreadsheets leave such rows behind; inside the table one is a frame without values
    if not lines:
        raise DataError(f"{path} is empty; wanted a header that names its columns, then rows")
    if path.suffix.lower() == ".arff":
        columns, lines, delimiter = _arff_columns(lines), _after_data(lines), ","
    else:
        header = lines.pop(0)[1]
        delimiter = max(_DELIMITERS, key=header.count)
        columns = _cells(header, delimiter)
    rows = [(n, _cells(line, delimiter)) for n, line in lines]
    ragged = next(((n, r) for n, r in rows if len(r) != len(columns)), None)
    if ragged:
        raise DataError(f"{path} line {ragged[0]} has {len(ragged[1])} cells; its header names {len(columns)} columns")
    return Table(path, ["".join(c.lower().split()) for c in columns], rows)


def _cells(line: str, delimiter: str) -> list[str]:
    cells = next(csv.reader([line], delimiter=delimiter)) if '"' in line else line.split(delimiter)
    return [c.strip(" \t'\"") for c in cells]


def _arff_columns(lines: list[tuple[int, str]]) -> list[str]:
    return [line.split()[1].strip("'\"") for _, line in lines if line.strip().lower().startswith("@attribute ")]


def _after_data(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    start = next((i for i, (_, line) in enumerate(lines) if line.strip().lower() == "@data"), len(lines))
    return [(n, line) for n, line in lines[start + 1 :] if not line.lstrip().startswith("%")]
