"""What a head is told before it is built (HeadInputs) and what a step of training sees (Batch)."""

from dataclasses import dataclass, replace

from torch import Tensor

from cache.records import StreamSpec


@dataclass(frozen=True)
class HeadInputs:
    """All a head knows before it is built: its streams, in order, and the window length L in tokens."""

    streams: tuple[StreamSpec, ...]
    tokens: int

    @property
    def dims(self) -> dict[str, int]:
        """Width D of each stream, by name, in stream order."""
        return {s.name: s.dim for s in self.streams}

    @property
    def names(self) -> tuple[str, ...]:
        """Stream names in order."""
        return tuple(s.name for s in self.streams)


@dataclass(frozen=True)
class Batch:
    """B windows of L tokens. Three masks that are never mixed; heads see only the first two.

    x[stream]: f32[B,L,D], zero where absent. present[stream]: bool[B,L], the encoder saw something.
    real: bool[B,L], not padding. labelled: bool[B,L], annotated and real. va: f32[B,L,2].
    recording: i64[B], index of the recording; frame: i64[B,L], frame of each token (-1 for padding).
    """

    x: dict[str, Tensor]
    present: dict[str, Tensor]
    real: Tensor
    labelled: Tensor
    va: Tensor
    recording: Tensor
    frame: Tensor


def narrowed(batch: Batch, streams: tuple[StreamSpec, ...]) -> Batch:
    """The batch with these streams alone, by name, of one that has them by key."""
    x, present = ({s.name: held[s.key] for s in streams} for held in (batch.x, batch.present))
    return replace(batch, x=x, present=present)
