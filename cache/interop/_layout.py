"""What a foreign layout is: the streams and recordings it holds, one recording at a time, on the source's own clock."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from cache.errors import UsageError
from cache.records import Annotation, Modality, Partitions, Timeline, Track
from cache.store import FeatureCache

PROTOCOL = "va"


@dataclass(frozen=True)
class Wants:
    """How to import. modalities: by the source's stream name, ``none`` to leave it out; guessed where not given.

    fps: of nominal frames; None is the source's own rate, else 25. label_range: lowest and highest label, mapped to
    [-1, 1]. columns: which of the source's label columns are valence and arousal. labels: a label file (or the name of
    a label sequence) that is not where the layout has it. protocol: under which name the labels are kept.
    """

    modalities: dict[str, str] = field(default_factory=dict)
    fps: float | None = None
    align: str = "overlap"
    dtype: str = "float16"
    label_range: tuple[float, float] | None = None
    columns: tuple[int, ...] = ()
    labels: Path | None = None
    protocol: str = PROTOCOL


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

    annotations: by protocol; a Track holds (valence, arousal) rows that last from and to a time. timeline, clock:
    frame times and what is known of them, where the source has them. info: by stream, kept with its commit record.
    """

    tracks: dict[str, Track] = field(default_factory=dict)
    annotations: dict[str, Annotation | Track] = field(default_factory=dict)
    timeline: Timeline | None = None
    clock: dict[str, Any] = field(default_factory=dict)
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

    streams: by the source's own names. dataset: of a source that was a cache. rate: frames a second that suit the source's own times, where it has any.
    notes: filled while reading.
    """

    drops_in: ClassVar[str]
    drops_out: ClassVar[str]

    def __init__(self, path: Path, wants: Wants) -> None:
        self.path, self.wants = Path(path), wants
        self.streams: dict[str, Source] = {}
        self.recordings: list[str] = []
        self.partitions: dict[str, Partitions] = {}
        self.delays: dict[str, dict[str, float]] = {}
        self.dataset = ""
        self.rate: float | None = None
        self.notes: list[str] = []
        self.opened = contextlib.ExitStack()
        with contextlib.ExitStack() as unless_open:
            unless_open.callback(self.close)
            self.open()
            unless_open.pop_all()

    @abstractmethod
    def open(self) -> None:
        """Find out what there is. Raises MissingData or DataError where the path is not of this layout."""

    @abstractmethod
    def read(self, recording: str, streams: Collection[str]) -> Foreign:
        """One recording with those of these streams that it has. Raises DataError for what is damaged."""

    def close(self) -> None:
        """Let go of the files in ``opened``."""
        self.opened.close()

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
