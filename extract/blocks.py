"""What media hands to encoders: pieces of one recording, each carrying its own times in seconds."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]


class SampleRows(Protocol):
    """f32[S] in memory (an array) or on disk: samples are read by slice."""

    def __len__(self) -> int: ...

    def __getitem__(self, some: slice) -> Samples: ...


@dataclass(frozen=True)
class FrameBlock:
    """Consecutive video frames. rgb: N arrays u8[H,W,3] (sizes may differ). spans: f64[N,2], when each is on screen.

    faces: f32[N,5], score and box of the face that was cropped, where that was done here.
    """

    rgb: list[npt.NDArray[np.uint8]]
    spans: npt.NDArray[np.float64]
    faces: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Waveform:
    """The sound of a recording, mono. samples: f32[S] in [-1, 1] at ``rate`` Hz; the first sounds at ``start`` s."""

    samples: SampleRows
    rate: int
    start: float


@dataclass(frozen=True)
class TimedText:
    """One unit of a transcript, a word or a cue, spoken during ``[start, end)`` seconds."""

    text: str
    start: float
    end: float
