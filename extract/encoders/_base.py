"""The one contract of every encoder: blocks in, tracks on the encoder's own clock out.

An encoder never aligns: it says when each of its rows holds, and ``cache.align`` does the rest. Building one is
cheap and imports no torch, so that a run with nothing to do stays instant; ``load`` does the heavy part.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from cache.records import Modality, Track

if TYPE_CHECKING:
    import torch

Block = TypeVar("Block")


class Encoder(ABC, Generic[Block]):
    """A frozen network with one clock.

    A subclass has a frozen dataclass ``Config`` (with at least ``weights``, ``precision``, ``batch_size``), names its
    ``modality`` and raises ``version`` whenever its numbers change. ``Block`` is what it is fed: ``FrameBlock``
    (several a recording) for visual, one ``Waveform`` for audio, one ``list[TimedText]`` for text.
    """

    Config: ClassVar[type]
    modality: ClassVar[Modality]
    version: ClassVar[int] = 1
    rate: ClassVar[int] = 16_000  # Hz of the sound that an audio encoder is fed
    #: Options that change speed, never numbers; ``weights`` enters the fingerprint by the hash of what was loaded,
    #: ``model`` by the name that the encoder was asked for.
    NO_EFFECT: ClassVar[frozenset[str]] = frozenset({"batch_size", "weights"})

    def __init__(self, cfg: Any) -> None:
        self.cfg = cfg
        self.weights_hash = ""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Width D of a row; known without loading, though an encoder of any model may import its library for it."""

    def settings(self) -> dict[str, Any]:
        """Every option that changes the numbers, for the fingerprint (the weights' hash is added by the caller)."""
        return {k: v for k, v in asdict(self.cfg).items() if k not in self.NO_EFFECT}

    def model_settings(self) -> dict[str, Any]:
        """What decides the numbers too but only the loaded model knows, for the fingerprint; empty for most."""
        return {}

    @abstractmethod
    def signature(self) -> list[Any]:
        """Cheap identity of the weights (spec; file names, sizes, times) that spares hashing them again.

        JSON-able. Raises WeightsNotFound where the weights cannot be had.
        """

    @abstractmethod
    def load(self, device: "torch.device") -> None:
        """Load the weights onto the device, in eval mode, and set ``weights_hash`` (sha256 of all tensors)."""

    def begin(self) -> None:
        """A recording begins: forget what one that broke off has left. For encoders that hold rows back."""

    @abstractmethod
    def push(self, block: Block) -> Track:
        """Encode one block of the current recording; may hold rows back until more is seen."""

    def tracks(self, block: Block) -> Iterator[Track]:
        """All rows of a recording that is given as one block (sound, a transcript), piece by piece."""
        self.begin()
        yield self.push(block)
        yield self.finish()

    def finish(self) -> Track:
        """Rows held back at the end of the recording."""
        return Track.concat([], self.dim)


def batches(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """``items`` in consecutive pieces of at most ``size``."""
    return [items[i : i + size] for i in range(0, len(items), size)]
