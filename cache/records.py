"""The nouns of Affuse, frozen and validated: what passes between rooms is one of these, never a loose dict.

Letters used in shapes everywhere: T frames of a recording, N rows of an encoder on its own clock, D width,
B windows of a batch, L tokens of a window. All times are seconds on the container's clock.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, get_args

import google_crc32c
import numpy as np
import numpy.typing as npt

from cache.errors import DataError

Float = npt.NDArray[np.floating]
Bool = npt.NDArray[np.bool_]
Modality = Literal["visual", "audio", "text"]
MODALITIES: tuple[str, ...] = get_args(Modality)
FACE_BOX = "face-box"  # the stream that tells which face was cropped, and how sure that is; never used unasked


@dataclass(frozen=True)
class Recording:
    """One trial of a corpus: where its media lie and whom it shows.

    ``id`` is unique in the dataset. ``crops`` is a folder of face crops numbered by video frame (1-based);
    ``audio`` defaults to the sound inside ``video``. Whatever is ``None`` is absent, which is legal; without ``video``
    the frames are nominal.
    """

    id: str
    video: Path | None = None
    audio: Path | None = None
    transcript: Path | None = None
    crops: Path | None = None
    subject: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            raise DataError("a recording has an empty id", hint="give every recording a unique, non-empty id")
        if self.video is None and self.audio is None and self.crops is None:
            raise DataError(
                f"recording {self.id!r} has neither video, audio nor crops",
                hint="give it at least one of them: frames need a clock",
            )


@dataclass(frozen=True)
class Timeline:
    """Presentation time of each video frame, decoded from the container, never ``index / fps``.

    pts: f64[T], seconds, strictly increasing. end: when the last frame stops being shown, in seconds.
    """

    pts: npt.NDArray[np.float64]
    end: float

    def __post_init__(self) -> None:
        pts = np.asarray(self.pts, dtype=np.float64)
        object.__setattr__(self, "pts", pts)
        if pts.ndim != 1 or not len(pts):
            raise DataError(f"a timeline needs at least one frame time, got shape {pts.shape}")
        if not np.isfinite(pts).all() or not (np.diff(pts) > 0).all():
            bad = int(np.flatnonzero(~(np.diff(pts) > 0))[0]) + 1 if len(pts) > 1 else 0
            raise DataError(f"frame times must be finite and strictly increasing; frame {bad} is not")
        if not self.end > pts[-1]:
            raise DataError(f"the timeline ends at {self.end} s, before its last frame at {pts[-1]} s is shown")

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """f64[T+1]: frame i is on screen during ``[edges[i], edges[i+1])`` seconds."""
        return np.append(self.pts, self.end)

    @property
    def mark(self) -> int:
        """crc32c of the edges as little-endian f64, by which streams say which frame times they were made on."""
        return int(google_crc32c.value(self.edges.astype("<f8").tobytes()))


class Rows(Protocol):
    """f32[N,D] in memory (an array) or on disk: rows are read by their numbers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True)
class Track:
    """Rows of one encoder on its own clock.

    spans: f64[N,2], ``[start, end)`` in seconds. values: f32[N,D].
    """

    spans: npt.NDArray[np.float64]
    values: Rows

    def __post_init__(self) -> None:
        spans = np.asarray(self.spans, dtype=np.float64).reshape(-1, 2)
        object.__setattr__(self, "spans", spans)
        if len(self.values.shape) != 2 or len(self.values) != len(spans):
            raise DataError(f"a track has {len(spans)} spans but values of shape {self.values.shape}; wanted [N, D]")
        if not (spans[:, 1] > spans[:, 0]).all():
            bad = int(np.flatnonzero(~(spans[:, 1] > spans[:, 0]))[0])
            raise DataError(f"span {bad} of a track is empty or reversed: {spans[bad].tolist()} s")

    def __len__(self) -> int:
        return len(self.spans)

    @classmethod
    def concat(cls, tracks: "list[Track]", dim: int) -> "Track":
        """Rows of several tracks in the order given; an empty list gives N = 0 rows of width ``dim``."""
        spans = [t.spans for t in tracks] or [np.empty((0, 2))]
        values = [np.asarray(t.values) for t in tracks] or [np.empty((0, dim), np.float32)]
        return cls(np.concatenate(spans), np.concatenate(values))


@dataclass(frozen=True)
class Aligned:
    """A track mapped onto the frames. values: f32[T,D], zero where not present. present: bool[T]."""

    values: npt.NDArray[np.float32]
    present: Bool

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.present.shape != self.values.shape[:1]:
            raise DataError(
                f"aligned values of shape {self.values.shape} with presence of shape {self.present.shape}; "
                "wanted [T, D] and [T]"
            )


@dataclass(frozen=True)
class Annotation:
    """Annotation rows as the corpus gives them. va: f64[N,2], (valence, arousal); not yet masked.

    times: f64[N] in seconds, or ``None`` where row i belongs to video frame i (as in Aff-Wild2). delay: seconds by
    which rows lag behind what they describe, where the corpus states it; alignment moves them so much earlier.
    """

    va: npt.NDArray[np.float64]
    times: npt.NDArray[np.float64] | None = None
    source: str = ""
    delay: float = 0.0


@dataclass(frozen=True)
class Labels:
    """Annotation on the frames. va: f32[T,2] in [-1, 1], zero where not labelled. labelled: bool[T]."""

    va: npt.NDArray[np.float32]
    labelled: Bool


@dataclass(frozen=True)
class StreamSpec:
    """What a cached stream is: its name, its modality, its width and the key of its folder in the cache.

    layers: hidden states of an encoder that lie side by side in a row, each dim / layers wide.
    """

    name: str
    modality: Modality
    dim: int
    key: str = ""
    layers: int = 1


@dataclass(frozen=True)
class Partitions:
    """Which recording is in which partition, and whom it shows.

    subjects may lack recordings of unknown subject. groups: recordings of one film, such as two people in it, by a name
    that they share; it may lack those of a film of their own.
    """

    of: dict[str, str] = field(default_factory=dict)
    subjects: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)

    def members(self, partition: str) -> list[str]:
        """Recording ids of one partition, sorted."""
        return sorted(r for r, p in self.of.items() if p == partition)
