"""The one contract of every corpus: which recordings there are, what their labels say, who is in which partition.

A corpus is read by one file; nothing after it ever sees the corpus's folders.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np

from cache.errors import DataError, MissingData
from cache.records import Annotation, Partitions, Recording


class Dataset(ABC):
    """One corpus under one root folder (or file)."""

    protocol: ClassVar[str] = "va"  # name of its usual labels and split

    def __init__(self, root: Path) -> None:
        """Raises MissingData, in one line that says what was looked for, where the root is not of this corpus."""
        self.root = Path(root)

    @abstractmethod
    def recordings(self) -> list[Recording]:
        """All recordings, sorted by id, whether or not their files can be read."""

    @abstractmethod
    def annotation(self, recording: Recording) -> Annotation | None:
        """The rows of one recording as the corpus gives them, or None where it has no labels."""

    @abstractmethod
    def partitions(self) -> Partitions:
        """The official split (or the corpus's usual one)."""


def read_frame_rows(path: Path) -> Annotation:
    """Aff-Wild2's annotation file: a header naming two columns, then one row a video frame.

    The header decides which column is valence. Raises DataError naming the row that is not two numbers.
    """
    if not path.is_file():
        raise MissingData(f"no annotation file at {path}")
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    header = [c.strip().lower() for c in lines[0].split(",")] if lines else []
    if sorted(header) != ["arousal", "valence"]:
        found = lines[0] if lines else "nothing"
        raise DataError(f"{path} starts with {found!r}; wanted the header 'valence,arousal'")
    rows = [line for line in lines[1:] if line.strip()]
    try:
        va = np.array([[float(c) for c in row.split(",")] for row in rows]).reshape(len(rows), 2)
    except ValueError as error:
        raise DataError(f"{path} has a row that is not two numbers: {error}") from error
    return Annotation(va if header[0] == "valence" else va[:, ::-1].copy(), source=path.name)
