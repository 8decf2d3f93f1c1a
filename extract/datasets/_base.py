"""The one contract of every corpus: which recordings there are, what their labels say, who is in which partition.

A corpus is read by one file; nothing after it ever sees the corpus's folders.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cache.records import Annotation, Partitions, Recording


@dataclass(frozen=True)
class NoOptions:
    """Of corpora that can be read in one way only."""


class Dataset(ABC):
    """One corpus under one root folder (or file). ``Config``: frozen dataclass of its options, all with defaults."""

    protocol: ClassVar[str] = "va"  # name of its usual labels and split
    Config: ClassVar[type] = NoOptions

    def __init__(self, root: Path, options: Any = None) -> None:
        """options: a ``Config``, or None for its defaults.

        Raises MissingData, in one line that says what was looked for, where the root is not of this corpus.
        """
        self.root = Path(root)
        self.options = self.Config() if options is None else options

    @abstractmethod
    def recordings(self) -> list[Recording]:
        """All recordings, sorted by id, whether or not their files can be read."""

    @abstractmethod
    def annotation(self, recording: Recording) -> Annotation | None:
        """The rows of one recording as the corpus gives them, or None where it has no labels."""

    def notes(self) -> list[str]:
        """What a user should know of how the corpus was read, a line each."""
        return []

    @abstractmethod
    def partitions(self) -> Partitions:
        """The official split (or the corpus's usual one)."""
