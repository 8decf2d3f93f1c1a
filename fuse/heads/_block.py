"""Pieces that two or more heads use unchanged: adapters, masking, masked softmax.

Masks are ``seen`` = present & real, bool[B,L]. Every layer with a bias is followed by ``keep``: a bias turns
the zeros of an absent token into numbers that look like data.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def keep(x: Tensor, seen: Tensor) -> Tensor:
    """Zero the tokens that are not seen. x: [B,L,D]; seen: bool[B,L]."""
    return torch.where(seen.unsqueeze(-1), x, x.new_zeros(()))


def masked_softmax(scores: Tensor, keys: Tensor, dim: int = -1) -> Tensor:
    """Softmax over the True entries of ``keys`` (broadcast to scores); 0 elsewhere, and where no key is True.

    The filling is finite, so that a row without keys has zero weights and zero gradients instead of NaN.
    """
    filled = scores.masked_fill(~keys, torch.finfo(scores.dtype).min)
    return filled.softmax(dim).masked_fill(~keys, 0.0)


class Adapters(nn.ModuleDict):
    """One Linear(D_m, d) per stream, keyed by stream name: cached widths differ, fusion wants one."""

    def __init__(self, dims: dict[str, int], width: int) -> None:
        super().__init__({m: nn.Linear(d, width) for m, d in dims.items()})

    def forward(self, x: dict[str, Tensor], seen: dict[str, Tensor]) -> dict[str, Tensor]:
        """x[m]: [B,L,D_m] -> [B,L,d], zero where not seen."""
        return {m: keep(linear(x[m]), seen[m]) for m, linear in self.items()}


def join(names: Sequence[str], x: dict[str, Tensor], seen: dict[str, Tensor]) -> Tensor:
    """Streams side by side, each followed by its presence bit: [B,L,sum(D_m)+M].

    The bit tells a missing token, which is zero-filled, from a token whose features happen to be zero.
    """
    return torch.cat([part for m in names for part in (x[m], seen[m].unsqueeze(-1).to(x[m].dtype))], dim=-1)
