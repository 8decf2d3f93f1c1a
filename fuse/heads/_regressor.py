"""The last layers of a head, and what their two numbers mean: (valence, arousal), or polar (I, theta).

    valence = I cos(theta), arousal = I sin(theta)          (MAVEN, Eq. 30-31), before the loss (Eq. 32)

so theta has no seam: theta + 2 pi is the same point, and no loss or metric ever sees polar numbers. I is not bounded
and may be negative. Where a head ends in tanh it does so in Cartesian space only: an angle has no business within 1.
"""

import itertools
from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

OutputSpace = Literal["cartesian", "polar"]
EDGE = 0.999  # the largest mean that a tanh is started at


def polar_to_va(polar: Tensor) -> Tensor:
    """[...,2] of (I, theta in radians) -> (valence, arousal)."""
    intensity, theta = polar.unbind(-1)
    return torch.stack([intensity * theta.cos(), intensity * theta.sin()], dim=-1)


def va_to_polar(va: Tensor) -> Tensor:
    """[...,2] of (valence, arousal) -> (I, theta). The origin gets theta = pi/4: at 0 arousal has no gradient."""
    intensity = va.norm(dim=-1)
    theta = torch.atan2(va[..., 1], va[..., 0])
    return torch.stack([intensity, torch.where(intensity > 0, theta, torch.pi / 4)], dim=-1)


class Regressor(nn.Sequential):
    """Layers of which the last is Linear(..., 2), then the step to (valence, arousal) in float32.

    bounded: tanh on top, in Cartesian space.
    """

    def __init__(self, *layers: nn.Module, space: OutputSpace = "cartesian", bounded: bool = False) -> None:
        super().__init__(*layers)
        self.space, self.bounded = space, bounded

    def forward(self, x: Tensor) -> Tensor:
        """x: [...,D] -> f32[...,2], (valence, arousal)."""
        raw = super().forward(x).float()
        if self.space == "polar":
            return polar_to_va(raw)
        return raw.tanh() if self.bounded else raw

    @torch.no_grad()
    def start_at(self, mean_va: Tensor) -> None:
        """Set the last bias to the training mean f32[2]: near (I, theta) = (0, 0) arousal has no gradient."""
        target = mean_va
        if self.space == "polar":
            target = va_to_polar(mean_va)
        elif self.bounded:
            target = mean_va.clamp(-EDGE, EDGE).atanh()
        cast(nn.Linear, self[-1]).bias.copy_(target)


def regressor(widths: Sequence[int], dropout: float, space: OutputSpace) -> Regressor:
    """Linear layers of the given widths, with ReLU and dropout after each but the last, which has 2 numbers."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(dropout)]
    return Regressor(*layers, nn.Linear(widths[-1], 2), space=space)
