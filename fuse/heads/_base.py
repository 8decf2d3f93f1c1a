"""The one contract of every head, and the few tensor steps that all of them need.

A head is told its streams and window length, and maps features and two masks to (valence, arousal) per token.
Whatever it does inside (polar output, pooling over time) it undoes inside, so the training loop never branches.
"""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cache.errors import UsageError
from fuse.feeding.batch import Batch, HeadInputs
from fuse.heads._maps import AttentionMap
from fuse.heads._regressor import OutputSpace, Regressor
from fuse.losses import Scope


@dataclass(frozen=True)
class Protocol:
    """How a head's paper samples and trains, used where the recipe is silent.

    tokens: L of a window. stride: frames from one token to the next; above 1, windows exist at every phase.
    hop: tokens from the start of one window to the next, along one phase. ccc_scope: of the loss, see ``fuse.losses``.
    optimiser: ``adam`` has its weight decay in the gradient, ``adamw`` beside it.
    """

    tokens: int = 300
    stride: int = 1
    hop: int = 200
    batch_size: int = 16
    lr: float = 1e-4
    weight_decay: float = 1e-3
    loss: str = "ccc"
    ccc_scope: Scope = "batch"
    optimiser: str = "adamw"


class Head(nn.Module):
    """Base class of heads.

    A subclass has a frozen dataclass ``Config``, is built as ``Head(inputs, cfg)`` and implements
    ``forward(x, present, real) -> f32[B,L,2]`` with columns (valence, arousal).

    The rules the contract tests hold: where ``present[m]`` is false, what is stored in ``x[m]`` changes nothing;
    tokens where ``real`` is false change no real output; every parameter receives a gradient; every stream counts.
    """

    @dataclass(frozen=True)
    class Config:
        """No options."""

    protocol: ClassVar[Protocol] = Protocol()
    fixed_length: ClassVar[bool] = False  # True where parameters depend on L, so that other lengths are refused
    single_stream: ClassVar[bool] = False  # True where more than one stream is refused

    def __init__(self, inputs: HeadInputs, cfg: Any) -> None:
        super().__init__()
        _check_streams(inputs)
        self.inputs = inputs
        self.cfg = cfg

    def start_at(self, mean_va: Tensor) -> None:
        """Told the training partition's mean label f32[2] once, before training.

        A head whose last layers are ``self.regressor``, a Regressor, starts there; any other does nothing.
        """
        last = getattr(self, "regressor", None)
        if isinstance(last, Regressor):
            last.start_at(mean_va)

    def attention_maps(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> list[AttentionMap]:
        """Which stream looks where, by a head that has attention; see AttentionMap for what a map must hold.

        Nobody calls it in training, see ``look``. A head of one's own may override it: watch the inputs of its modules
        with ``fuse.heads._maps.calls`` while it runs its own ``forward``, and make the weights again from these.
        """
        return []


@dataclass(frozen=True)
class OutputConfig(Head.Config):
    """Options of a head that ends in a Regressor. output_space: what its last layer's two numbers are."""

    output_space: OutputSpace = "cartesian"


def look(head: Head, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> list[AttentionMap]:
    """The head's attention maps of these windows, as it would look in evaluation; none of a head without attention.

    Nothing of the head changes, and nothing is kept for a gradient.
    """
    training = head.training
    head.eval()
    try:
        with torch.no_grad():
            return head.attention_maps(x, present, real)
    finally:
        head.train(training)


class ClosedForm(Head):
    """A head that is solved for on the training partition, in one pass, instead of being trained step by step."""

    @abstractmethod
    def solve(self, batches: Iterable[Batch]) -> None:
        """Set the weights from all labelled tokens of the training partition, each in exactly one batch."""


def _check_streams(inputs: HeadInputs) -> None:
    """Parameters are keyed by stream name, so names must be unique and legal inside a torch state dict."""
    names = inputs.names
    if not names:
        raise UsageError("a head needs at least one stream, got none", hint="name one with --visual, --audio or --text")
    if len(set(names)) != len(names):
        raise UsageError(f"stream names must differ, got {', '.join(names)}", hint="name every stream once")
    dotted = [n for n in names if "." in n or not n]
    if dotted:
        raise UsageError(f"stream name {dotted[0]!r} is empty or holds a dot", hint="rename the stream")


def visible(
    x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Values and masks a head may look at: absent or padded positions are zeroed whatever is stored there.

    x[m]: [B,L,D]; present[m], real: bool[B,L]. Returns (x, seen) with seen[m] = present[m] & real.
    """
    seen = {m: present[m] & real for m in x}
    return {
        m: v if _all(seen[m]) else torch.where(seen[m].unsqueeze(-1), v, v.new_zeros(())) for m, v in x.items()
    }, seen


def _all(mask: Tensor) -> bool:
    """Whether nothing need be zeroed, where that is known without waiting for another device."""
    return mask.device.type == "cpu" and bool(mask.all())
