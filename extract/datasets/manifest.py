"""Your own videos: a CSV with a row a recording, or JSON Lines with an object a recording.

Columns: ``id`` and at least one of ``video``, ``audio``, ``crops`` (folder of numbered face crops; without a video they
need --fps); optional ``transcript``, ``labels`` (a file with the columns valence and arousal, and a column of times
unless it has one row a frame) or ``labels_valence`` and ``labels_arousal`` (one file each), ``delay_s``, ``subject``,
``partition``. Paths are relative to the manifest's folder. Empty cells are absent. Options say how label
files are to be read: see ``LabelFormat``.

``delay_s`` is by how many seconds the rows lag behind what they describe, where the corpus states such a constant; they
are moved so much earlier. A reaction delay that is tuned, as for RECOLA, belongs to training, not here.
"""

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cache.errors import DataError, MissingData
from cache.records import Annotation, Partitions, Recording
from cache.registry import suggest
from extract.datasets import DATASETS
from extract.datasets._base import Dataset
from extract.datasets._labels import LabelFormat, read_dimensions, read_labels

_FILES = ("video", "audio", "transcript", "crops")
_MEDIA = ("video", "audio", "crops")
_LABELS = ("labels", "labels_valence", "labels_arousal")
_COLUMNS = ["id", *_FILES, *_LABELS, "delay_s", "subject", "partition"]
_DELAY_AT_MOST_S = 60.0
_NAMES = ("manifest.csv", "manifest.jsonl")


@DATASETS.register("manifest")
class Manifest(Dataset):
    """``--root`` is the manifest itself, or a folder with a ``manifest.csv`` or ``manifest.jsonl``."""

    Config = LabelFormat

    def __init__(self, root: Path, options: LabelFormat | None = None) -> None:
        super().__init__(root, options)
        there = [self.root / n for n in _NAMES if (self.root / n).is_file()]
        self.path = (there or [self.root / _NAMES[0]])[0] if self.root.is_dir() else self.root
        if not self.path.is_file():
            raise MissingData(
                f"no manifest at {self.path}", hint="give --root a CSV with the columns id,video,audio,..."
            )
        read = _json_rows if self.path.suffix.lower() in (".jsonl", ".ndjson") else _csv_rows
        self.rows: dict[str, dict[str, str]] = {}
        for number, row in read(self.path):
            cells = self._checked(number, row)
            self.rows[cells["id"]] = cells

    def _checked(self, number: int, row: dict[str, Any]) -> dict[str, str]:
        unknown = [str(c) for c in row if c not in _COLUMNS and c is not None]
        if unknown or "id" not in row:
            what = f"has the unknown column {unknown[0]!r}" if unknown else "has no column 'id'"
            hint = suggest(unknown[0], _COLUMNS) if unknown else ""
            raise DataError(f"{self.path} {what}; it takes {', '.join(_COLUMNS)}", hint=hint)
        cells = {c: "" if row.get(c) is None else str(row[c]).strip() for c in _COLUMNS}
        if None in row or not cells["id"] or cells["id"] in self.rows or not any(cells[c] for c in _MEDIA):
            raise DataError(
                f"{self.path} line {number}: every row needs a unique id, a video, an audio file or face crops, "
                f"and no more cells than the header; got {row}"
            )
        if [bool(cells[c]) for c in _LABELS] not in ([False] * 3, [True, False, False], [False, True, True]):
            raise DataError(f"{self.path} line {number}: give labels, or labels_valence and labels_arousal; got {row}")
        if not 0 <= _seconds(cells["delay_s"]) <= _DELAY_AT_MOST_S:
            raise DataError(
                f"{self.path} line {number}: delay_s is {cells['delay_s']!r}; wanted seconds from 0 to "
                f"{_DELAY_AT_MOST_S:g} by which labels lag behind the media"
            )
        return cells

    def _path(self, row: dict[str, str], column: str) -> Path | None:
        return self.path.parent / row[column] if row[column] else None

    def recordings(self) -> list[Recording]:
        """One recording a row."""
        return [
            Recording(id=id, subject=row["subject"], **{c: self._path(row, c) for c in _FILES})
            for id, row in sorted(self.rows.items())
        ]

    def annotation(self, recording: Recording) -> Annotation | None:
        """The file of the ``labels`` column, or those of the two dimensions."""
        row = self.rows[recording.id]
        both, valence, arousal = (self._path(row, c) for c in _LABELS)
        if valence and arousal:
            found = read_dimensions(valence, arousal, self.options)
        elif both:
            found = read_labels(both, self.options)
        else:
            return None
        return replace(found, delay=_seconds(row["delay_s"]))

    def partitions(self) -> Partitions:
        """The ``partition`` and ``subject`` columns, where filled."""
        rows = sorted(self.rows.items())
        return Partitions(
            {id: row["partition"] for id, row in rows if row["partition"]},
            {id: row["subject"] for id, row in rows if row["subject"]},
        )


def _seconds(cell: str) -> float:
    """A cell as a number: 0 where it is empty, NaN where it is none."""
    try:
        return float(cell or 0)
    except ValueError:
        return math.nan


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from error


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    table = csv.DictReader(io.StringIO(_text(path), newline=""))
    for row in table:
        yield table.line_num, row


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path} line {number} is not JSON: {error.msg}") from error
            if not isinstance(row, dict):
                raise DataError(f"{path} line {number} is not an object of columns")
            yield number, row
