"""Temporal convolutional network, as in Zhang et al. (ABAW2 and ABAW3) and JCA's I3D-TCN; Bai et al., 2018.

Block i: two weight-normalised convolutions of dilation 2^i, each with LeakyReLU and dropout, then a residual (1x1
where widths differ) and LeakyReLU. Unseen tokens are zero before every convolution, just as what lies outside the
window is: neither can be looked at, but time goes on, so that a gap stays as long as it is.

Deviations: ABAW3's BatchNorm is left out (as in ABAW2), since its statistics would tie windows to their neighbours.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm


def _convolution(d: int, width: int, kernel: int, dilation: int) -> nn.Module:
    conv = nn.Conv1d(d, width, kernel, dilation=dilation)
    nn.init.xavier_uniform_(conv.weight, gain=math.sqrt(2))
    return weight_norm(conv)


class TemporalBlock(nn.Module):
    """Two convolutions and a residual. causal: a token sees itself and what came before; else both sides alike."""

    def __init__(self, d: int, width: int, kernel: int, dilation: int, dropout: float, causal: bool) -> None:
        super().__init__()
        reach = (kernel - 1) * dilation
        self.pad = (reach, 0) if causal else (reach // 2, reach - reach // 2)
        self.conv = nn.ModuleList(
            [_convolution(d, width, kernel, dilation), _convolution(width, width, kernel, dilation)]
        )
        self.residual = nn.Conv1d(d, width, 1) if d != width else nn.Identity()
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x: [B,D,L], zero where not seen; seen: bool[B,1,L] -> [B,width,L], zero where not seen."""
        h = x
        for conv in self.conv:
            h = self.drop(functional.leaky_relu(conv(functional.pad(h, self.pad))))
            h = torch.where(seen, h, h.new_zeros(()))
        h = functional.leaky_relu(h + self.residual(x))
        return torch.where(seen, h, h.new_zeros(()))


class TCN(nn.Module):
    """Blocks of the given widths; the last one sees 2 (kernel - 1) (2^n - 1) tokens beside its own."""

    def __init__(self, d: int, widths: Sequence[int], *, kernel: int = 5, dropout: float = 0.1, causal: bool = True):
        super().__init__()
        pairs = itertools.pairwise((d, *widths))
        self.blocks = nn.ModuleList(
            TemporalBlock(a, b, kernel, 2**i, dropout, causal) for i, (a, b) in enumerate(pairs)
        )

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x: [B,L,D], zero where not seen; seen: bool[B,L] -> [B,L,width], zero where not seen."""
        h = x.mT
        for block in self.blocks:
            h = block(h, seen.unsqueeze(1))
        return h.mT
