"""Attention maps: which stream looks where, as a head itself computes it. Made on demand, never while it trains.

A map holds numbers of the head's own equations and no others: softmax weights over the tokens of a stream, or over the
streams at one token; of joint cross-attention, which has no softmax, the correlation that stands in its place.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

ALL = "all streams"  # what looks, or is looked at, where streams have been joined


@dataclass(frozen=True)
class AttentionMap:
    """One map of B windows.

    weights, by ``over``:

    - ``time``     [B,L,L], of token i of ``query`` on token j of ``keys[0]``
    - ``streams``  [B,L,M], of token i of ``query`` on stream ``keys[m]`` at that same token
    - ``features`` [B,d,d'], correlation of feature i of ``query`` with feature j of ``keys[0]``, from -1 to 1

    Of the first two, a row sums to 1; what may not be looked at is exactly 0, and so is a row that has nobody to look,
    or nothing to look at. Several attention heads are averaged. stage: the part of the head; means: it in plain words.
    """

    stage: str
    query: str
    keys: tuple[str, ...]
    over: Literal["time", "streams", "features"]
    means: str
    weights: Tensor


@contextmanager
def calls(*modules: Any) -> Iterator[list[tuple[Any, tuple[Any, ...]]]]:
    """Watches these torch modules: (module, what it was given) of each call within, in order."""
    found: list[tuple[Any, tuple[Any, ...]]] = []
    hooks = [m.register_forward_pre_hook(lambda module, given: found.append((module, given))) for m in modules]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def rows_of(weights: Tensor, seen: Tensor) -> Tensor:
    """Zero the rows of tokens that are not seen: whatever they look at goes nowhere. [B,L,K], bool[B,L]."""
    return weights.masked_fill(~seen.unsqueeze(-1), 0.0)
