"""What a foreign layout is: the streams and recordings it holds, one recording at a time, on the source's own clock."""

import contextlib
import csv
import zipfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cache.errors import AffuseError, DataError, UsageError
from cache.interop._wants import Wants
from cache.records import Annotation, Modality, Partitions, Timeline, Track
from cache.store import FeatureCache

#: Labels as a source has them: at times or by frame, rows (valence, arousal) that last from and to a time, or one
#: f32[2] of the whole recording.
Label = Annotation | Track | npt.NDArray[np.float32]

#: What reading a file can raise that is damaged, or made to do harm.
UNREADABLE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, MemoryError),
    *(csv.Error, zipfile.BadZipFile),
)


@dataclass(frozen=True)
class Source:
    """One stream as the source has it.

    files: whose bytes it was made from; their hash is in the fingerprint. name: where it is not made of the source's
    own. modality: where the layout says it.
    settings: whole settings where the source has ours; then the stream keeps its key.
    """

    files: tuple[Path, ...] = ()
    name: str = ""
    modality: Modality | None = None
    settings: dict[str, Any] | None = None
    origin: dict[str, Any] = field(default_factory=dict)
    dtype: str | None = None


@dataclass(frozen=True)
class Foreign:
    """One recording. tracks: by the source's stream name, lacking those it does not have; times are the source's.

    labels: by protocol. timeline, clock: frame times and what is known of them, where the source has them. untimed:
    seconds over which its rows are spread because it has no times; they are spread over the video where the cache
    knows that. info: by stream, kept with its commit record.
    """

    tracks: dict[str, Track] = field(default_factory=dict)
    labels: dict[str, Label] = field(default_factory=dict)
    timeline: Timeline | None = None
    clock: dict[str, Any] = field(default_factory=dict)
    untimed: float = 0.0
    info: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Exported:
    """What was written. drops: what the layout has no place for."""

    path: str
    format: str
    streams: list[str]
    recordings: int
    drops: str


class Layout(ABC):
    """A foreign file or folder, opened. ``drops_in`` and ``drops_out`` say what is lost on the way in and out.

    streams: by the source's own names. dataset: of a source that was a cache. rate: frames a second that suit the
    source's own times, where it has any. labels: by recording, where they are known from the start. notes: filled
    while reading.
    """

    drops_in: ClassVar[str]
    drops_out: ClassVar[str]

    def __init__(self, path: Path, wants: Wants) -> None:
        self.path, self.wants = Path(path), wants
        self.streams: dict[str, Source] = {}
        self.recordings: list[str] = []
        self.partitions: dict[str, Partitions] = {}
        self.labels: dict[str, Label] = {}
        self.delays: dict[str, dict[str, float]] = {}
        self.dataset = ""
        self.rate: float | None = None
        self.notes: list[str] = []
        self.opened = contextlib.ExitStack()
        with contextlib.ExitStack() as unless_open:
            unless_open.callback(self.opened.close)
            try:
                self.open()
            except AffuseError:
                raise
            except UNREADABLE as error:
                cause = " ".join(f"{type(error).__name__}: {error}".split())
                raise DataError(f"{self.path} is not of this layout, or damaged ({cause})") from error
            unless_open.pop_all()

    @abstractmethod
    def open(self) -> None:
        """Find out what there is. Raises MissingData or DataError where the path is not of this layout."""

    @abstractmethod
    def read(self, recording: str, streams: Collection[str]) -> Foreign:
        """One recording with those of these streams that it has. Raises DataError for what is damaged."""

    @classmethod
    def export(cls, cache: FeatureCache, path: Path) -> Exported:
        """Write a whole cache as this layout. Raises UsageError where it has no place for what a cache is."""
        raise UsageError(f"a cache cannot be exported so: {cls.drops_out}", hint="choose hdf5, csd or muse")

    def note(self, text: str) -> None:
        """Something a user should know, said once."""
        if text not in self.notes:
            self.notes.append(text)


def export_to(layout: type[Layout], cache: FeatureCache, path: Path) -> Exported:
    """Write a cache as that layout. Raises UsageError where it cannot be, and where something is there already."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UsageError(f"{path} is there already", hint="give a path that is not")
    return layout.export(cache, path)


def export_names(cache: FeatureCache, taken: str = "") -> dict[str, str]:
    """A name by stream key: the stream's own, or its key where names differ only in case, or that one is taken."""
    names = {k: cache.stream(k).name for k in cache.stream_keys()}
    count = Counter([taken, *(n.casefold() for n in names.values())])
    return {k: n if count[n.casefold()] == 1 else k for k, n in names.items()}
