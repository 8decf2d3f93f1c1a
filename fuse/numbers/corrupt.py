"""What happens to one modality of a corpus before a trained head sees it; the same for every head.

Which frames, and which noise, follow from the recording, its frame and a seed alone: never from the head, its windows,
its batches or the order they come in. Frames dropped at 10 % are among those dropped at 20 %.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from cache.errors import UsageError
from cache.reader import StreamReader
from cache.records import Modality, StreamSpec
from cache.stats import Stats
from fuse.feeding.data import Corpus

Kind = Literal["drop", "zero", "noise", "shift"]
Pattern = Literal["block", "iid"]
Array = npt.NDArray[Any]
Bool = npt.NDArray[np.bool_]
BLOCK = 32  # frames, JCA's clip
LEVELS: dict[str, tuple[float, ...]] = {
    "drop": (0, 10, 20, 30, 50, 70, 90, 100),
    "zero": (0, 10, 20, 30, 50, 70, 90, 100),
    "noise": (0, 0.1, 0.5, 1, 2),
    "shift": (-64, -32, -16, -8, 0, 8, 16, 32, 64),
}
UNITS = {"drop": "% of frames", "zero": "% of frames", "noise": "training std", "shift": "frames"}


@dataclass(frozen=True)
class Corruption:
    """One thing done to one modality.

    ``drop``: level % of each recording's frames are absent. ``zero``: they are zero as the head sees it, and it is not
    told. ``noise``: Gaussian, level times the training standard deviation of each dimension. ``shift``: frame t shows
    what frame t + level held; beyond the ends it is absent. pattern: of frames, for the first two.
    """

    kind: Kind
    modality: Modality
    level: float
    pattern: Pattern = "block"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or self.pattern not in get_args(Pattern):
            raise UsageError(
                f"{self.kind!r} with pattern {self.pattern!r} is no corruption",
                hint=f"kinds are {', '.join(get_args(Kind))}, patterns {', '.join(get_args(Pattern))}",
            )


def corrupted(corpus: Corpus, streams: tuple[StreamSpec, ...], what: Corruption) -> Corpus:
    """The corpus with every stream of that modality corrupted, all of them in the same frames."""
    if not what.level:
        return corpus
    readers = {
        s.name: Corrupted(corpus.readers[s.name], _alter(s, corpus.stats[s.name], what))
        if s.modality == what.modality
        else corpus.readers[s.name]
        for s in streams
    }
    return replace(corpus, readers=readers)


class Corrupted(StreamReader):
    """A stream of which each recording is altered when it is read; the last one is kept."""

    def __init__(self, reader: StreamReader, alter: Callable[[str, Array, Bool], tuple[Array, Bool]]) -> None:
        super().__init__(reader.folders)
        self._reader, self._alter = reader, alter
        self._last: tuple[str, tuple[Array, Bool]] | None = None

    def recording(self, recording: str) -> tuple[Array, Bool]:
        """As of StreamReader, altered: values f32[T,D], present bool[T]."""
        if self._last is None or self._last[0] != recording:
            self._last = recording, self._alter(recording, *self._reader.recording(recording))
        return self._last[1]


def _alter(stream: StreamSpec, stats: Stats, what: Corruption) -> Callable[[str, Array, Bool], tuple[Array, Bool]]:
    def alter(recording: str, values: Array, present: Bool) -> tuple[Array, Bool]:
        values = values.astype(np.float32)
        if what.kind == "shift":
            return shifted(values, present, int(what.level))
        if what.kind == "noise":
            drawn = _rng(what.seed, recording, f"noise {stream.name}").standard_normal(values.shape, np.float32)
            return values + np.float32(what.level) * stats.std * drawn, present
        gone = dropped(recording, len(present), what)
        if what.kind == "drop":
            return values, present & ~gone
        values[gone] = stats.mean  # zero, once it is normalised
        return values, present

    return alter


def dropped(recording: str, frames: int, what: Corruption) -> Bool:
    """bool[T]: frames that go, ``level`` % of them to the nearest whole frame or block."""
    unit = BLOCK if what.pattern == "block" else 1
    units = -(-frames // unit)
    order = _rng(what.seed, recording, f"{what.pattern} {what.modality}").permutation(units)
    gone = np.zeros(units, bool)
    gone[order[: round(what.level / 100 * units)]] = True
    return np.repeat(gone, unit)[:frames]


def shifted(values: Array, present: Bool, frames: int) -> tuple[Array, Bool]:
    """Frame t gets what frame t + ``frames`` held; where there is none, it is absent."""
    source = np.arange(len(present)) + frames
    inside = (source >= 0) & (source < len(present))
    source = np.clip(source, 0, len(present) - 1)
    return values[source], present[source] & inside


def _rng(seed: int, recording: str, what: str) -> np.random.Generator:
    return np.random.default_rng(
        [seed, *(zlib.crc32(text.encode("utf-8", "surrogatepass")) for text in (recording, what))]
    )
