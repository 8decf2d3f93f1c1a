"""Your own videos: a CSV with a row a recording.

Columns: ``id`` and at least one of ``video``, ``audio``; optional ``transcript``, ``crops`` (folder of numbered face
crops), ``labels`` (a file with the header ``valence,arousal`` and one row a frame), ``subject``, ``partition``.
Paths are relative to the CSV's folder. Empty cells are absent.
"""

import csv
from pathlib import Path

from cache.errors import DataError, MissingData
from cache.records import Annotation, Partitions, Recording
from cache.registry import suggest
from extract.datasets import DATASETS
from extract.datasets._base import Dataset, read_frame_rows

_FILES = ("video", "audio", "transcript", "crops")
_COLUMNS = ["id", *_FILES, "labels", "subject", "partition"]


@DATASETS.register("manifest")
class Manifest(Dataset):
    """``--root`` is the CSV itself, or a folder with a ``manifest.csv``."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.path = self.root / "manifest.csv" if self.root.is_dir() else self.root
        if not self.path.is_file():
            raise MissingData(
                f"no manifest at {self.path}", hint="give --root a CSV with the columns id,video,audio,..."
            )
        with open(self.path, newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            self._check_columns([c or "" for c in table.fieldnames or []])
            self.rows = {row["id"]: row for row in self._checked(table)}

    def _check_columns(self, columns: list[str]) -> None:
        unknown = [c for c in columns if c not in _COLUMNS]
        if unknown or "id" not in columns:
            what = f"has the unknown column {unknown[0]!r}" if unknown else "has no column 'id'"
            hint = suggest(unknown[0], _COLUMNS) if unknown else ""
            raise DataError(f"{self.path} {what}; it takes {', '.join(_COLUMNS)}", hint=hint)

    def _checked(self, table: "csv.DictReader[str]") -> list[dict[str, str]]:
        rows, seen = [], set()
        for number, row in enumerate(table, start=2):
            cells = {c: (row.get(c) or "").strip() for c in _COLUMNS}
            if None in row or not cells["id"] or cells["id"] in seen or not (cells["video"] or cells["audio"]):
                raise DataError(
                    f"{self.path} line {number}: every row needs a unique id, a video or an audio file, "
                    f"and no more cells than the header; got {dict(row)}"
                )
            seen.add(cells["id"])
            rows.append(cells)
        return rows

    def _path(self, row: dict[str, str], column: str) -> Path | None:
        return self.path.parent / row[column] if row[column] else None

    def recordings(self) -> list[Recording]:
        """One recording a row."""
        return [
            Recording(id=id, subject=row["subject"], **{c: self._path(row, c) for c in _FILES})
            for id, row in sorted(self.rows.items())
        ]

    def annotation(self, recording: Recording) -> Annotation | None:
        """The file of the ``labels`` column."""
        path = self._path(self.rows[recording.id], "labels")
        return read_frame_rows(path) if path else None

    def partitions(self) -> Partitions:
        """The ``partition`` and ``subject`` columns, where filled."""
        rows = sorted(self.rows.items())
        return Partitions(
            {id: row["partition"] for id, row in rows if row["partition"]},
            {id: row["subject"] for id, row in rows if row["subject"]},
        )
