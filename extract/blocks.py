"""What media hands to encoders: pieces of one recording, each carrying its own times in seconds."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class FrameBlock:
    """Consecutive video frames. rgb: N arrays u8[H,W,3] (sizes may differ). spans: f64[N,2], when each is on screen."""

    rgb: list[npt.NDArray[np.uint8]]
    spans: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Waveform:
    """The sound of a recording, mono. samples: f32[S] in [-1, 1] at ``rate`` Hz; the first sounds at ``start`` s."""

    samples: npt.NDArray[np.float32]
    rate: int
    start: float


@dataclass(frozen=True)
class TimedText:
    """One unit of a transcript, a word or a cue, spoken during ``[start, end)`` seconds."""

    text: str
    start: float
    end: float
