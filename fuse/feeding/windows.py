"""Windows of tokens over recordings, and their way back to frames.

A token is a frame. With ``stride`` 1 a window is L consecutive frames; with stride s it is every s-th frame, at each of
the s phases in turn (the sampling of JCA), so that every frame belongs to exactly one phase and is predicted.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cache.errors import UsageError


@dataclass(frozen=True)
class Windows:
    """W windows of L tokens. recording: i64[W], index into the recordings; frame: i64[W,L], -1 where padding."""

    recording: npt.NDArray[np.int64]
    frame: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.recording)


def make_windows(lengths: list[int], tokens: int, stride: int, hop: int) -> Windows:
    """Windows that together hold every frame of every recording at least once.

    lengths: frames of each recording; hop: tokens between window starts. The last window of a phase is moved back to
    end with its last frame; only what is shorter than a window is padded, at its end.
    Raises UsageError where a window would skip frames or a number is below 1.
    """
    if min(tokens, stride, hop) < 1 or hop > tokens:
        raise UsageError(
            f"windows of {tokens} tokens, stride {stride}, hop {hop} would skip frames; wanted 1 <= hop <= tokens"
        )
    recording, frame = [np.empty(0, np.int64)], [np.empty((0, tokens), np.int64)]
    for index, length in enumerate(lengths):
        for phase in range(min(stride, length)):
            rows = _phase(np.arange(phase, length, stride), tokens, hop)
            recording.append(np.full(len(rows), index))
            frame.append(rows)
    return Windows(np.concatenate(recording), np.concatenate(frame))


def _phase(frames: npt.NDArray[np.int64], tokens: int, hop: int) -> npt.NDArray[np.int64]:
    """Windows [W,L] over one phase's frames."""
    last = max(len(frames) - tokens, 0)
    starts = np.unique(np.append(np.arange(0, last + 1, hop), last))
    padded = np.append(frames, np.full(max(tokens - len(frames), 0), -1))
    return padded[starts[:, None] + np.arange(tokens)]


class Stitcher:
    """Averages overlapping window outputs back into one [T,2] per recording, in float64."""

    def __init__(self, lengths: list[int]) -> None:
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        self._sum = np.zeros((int(self._starts[-1]), 2))
        self._count = np.zeros(int(self._starts[-1]), np.int64)

    def add(
        self, recording: npt.NDArray[np.int64], frame: npt.NDArray[np.int64], pred: npt.NDArray[np.float64]
    ) -> None:
        """Outputs [W,L,2] of windows with recording [W] and frame [W,L]; padding (-1) is left out."""
        real = frame >= 0
        at = (self._starts[recording][:, None] + frame)[real]
        np.add.at(self._sum, at, pred[real])
        np.add.at(self._count, at, 1)

    def result(self) -> list[npt.NDArray[np.float64]]:
        """[T,2] per recording. Raises UsageError where a frame was never predicted."""
        if not (self._count > 0).all():
            raise UsageError(f"{int((self._count == 0).sum())} frames were never predicted")
        mean = self._sum / self._count[:, None]
        return [mean[a:b] for a, b in zip(self._starts[:-1], self._starts[1:], strict=True)]
