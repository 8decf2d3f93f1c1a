"""Inception-v1 with inflated kernels as a table of layers, the network made from it, and its forward pass.

The names of layers and tensors are those of pytorch-i3d; padding is TensorFlow's SAME, whose surplus goes to the end.
Built of plain containers, so that the table is all there is to read.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Size = tuple[int, int, int]  # time, height, width


@dataclass(frozen=True)
class Pool:
    """The largest of a neighbourhood."""

    kernel: Size
    stride: Size


@dataclass(frozen=True)
class Unit:
    """Convolution, batch norm, ReLU."""

    width: int
    kernel: int = 1
    stride: int = 1


@dataclass(frozen=True)
class Mixed:
    """Four branches side by side: 1; 1 then 3; 1 then 3; pool then 1. Widths in that order, as the paper's figure."""

    b0: int
    b1a: int
    b1b: int
    b2a: int
    b2b: int
    b3b: int

    @property
    def width(self) -> int:
        """Channels of the branches together."""
        return self.b0 + self.b1b + self.b2b + self.b3b


LAYERS: dict[str, Pool | Unit | Mixed] = {
    "Conv3d_1a_7x7": Unit(64, kernel=7, stride=2),
    "MaxPool3d_2a_3x3": Pool((1, 3, 3), (1, 2, 2)),
    "Conv3d_2b_1x1": Unit(64),
    "Conv3d_2c_3x3": Unit(192, kernel=3),
    "MaxPool3d_3a_3x3": Pool((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": Mixed(64, 96, 128, 16, 32, 32),
    "Mixed_3c": Mixed(128, 128, 192, 32, 96, 64),
    "MaxPool3d_4a_3x3": Pool((3, 3, 3), (2, 2, 2)),
    "Mixed_4b": Mixed(192, 96, 208, 16, 48, 64),
    "Mixed_4c": Mixed(160, 112, 224, 24, 64, 64),
    "Mixed_4d": Mixed(128, 128, 256, 24, 64, 64),
    "Mixed_4e": Mixed(112, 144, 288, 32, 64, 64),
    "Mixed_4f": Mixed(256, 160, 320, 32, 128, 128),
    "MaxPool3d_5a_2x2": Pool((2, 2, 2), (2, 2, 2)),
    "Mixed_5b": Mixed(256, 160, 320, 32, 128, 128),
    "Mixed_5c": Mixed(384, 192, 384, 48, 128, 128),
}


def inception(narrow: int) -> "torch.nn.ModuleDict":
    """The network, ``narrow`` times narrower than the paper's, He-initialised."""
    from torch import nn

    net, inside = nn.ModuleDict(), 3
    for name, layer in LAYERS.items():
        if isinstance(layer, Unit):
            layer = replace(layer, width=layer.width // narrow)
            net[name] = _unit(inside, layer)
        elif isinstance(layer, Mixed):
            layer = Mixed(*(width // narrow for width in astuple(layer)))
            net[name] = _mixed(inside, layer)
        else:
            continue
        inside = layer.width
    for conv in (m for m in net.modules() if isinstance(m, nn.Conv3d)):
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return net


def _unit(inside: int, unit: Unit) -> "torch.nn.ModuleDict":
    from torch import nn

    around = unit.kernel // 2 if unit.stride == 1 else 0  # SAME is symmetric without a stride; else see ``_same``
    conv = nn.Conv3d(inside, unit.width, unit.kernel, unit.stride, around, bias=False)
    return nn.ModuleDict({"conv3d": conv, "bn": nn.BatchNorm3d(unit.width, eps=1e-3)})


def _mixed(inside: int, m: Mixed) -> "torch.nn.ModuleDict":
    from torch import nn

    units = {"b0": _unit(inside, Unit(m.b0)), "b3b": _unit(inside, Unit(m.b3b))}
    for branch, narrow, wide in (("b1", m.b1a, m.b1b), ("b2", m.b2a, m.b2b)):
        units[f"{branch}a"] = _unit(inside, Unit(narrow))
        units[f"{branch}b"] = _unit(narrow, Unit(wide, kernel=3))
    return nn.ModuleDict(units)


def features(net: "torch.nn.ModuleDict", x: "torch.Tensor") -> "torch.Tensor":
    """Clips f32[B,3,T,H,W] -> f32[B,D], the mean of the last block."""
    return last_block(net, x).float().mean((2, 3, 4))


def last_block(net: "torch.nn.ModuleDict", x: "torch.Tensor") -> "torch.Tensor":
    """Clips f32[B,3,T,H,W] -> [B,D,t,h,w], each an eighth in time and a 32nd in height and width, rounded up."""
    for name, layer in LAYERS.items():
        if isinstance(layer, Unit):
            x = _run(net[name], x)
        elif isinstance(layer, Pool):
            x = _pooled(x, layer)
        else:
            x = _branches(net[name], x)  # (B, C, t, h, w)
    return x


def _run(unit: "torch.nn.ModuleDict", x: "torch.Tensor") -> "torch.Tensor":
    conv = unit["conv3d"]
    return unit["bn"](conv(x if conv.stride == (1, 1, 1) else _same(x, conv.kernel_size, conv.stride))).relu_()


def _branches(m: "torch.nn.ModuleDict", x: "torch.Tensor") -> "torch.Tensor":
    import torch

    pooled = torch.nn.functional.max_pool3d(x, 3, stride=1, padding=1)
    one, two = (_run(m[f"{b}b"], _run(m[f"{b}a"], x)) for b in ("b1", "b2"))
    return torch.cat([_run(m["b0"], x), one, two, _run(m["b3b"], pooled)], dim=1)


def _pooled(x: "torch.Tensor", pool: Pool) -> "torch.Tensor":
    """Zeros around the edge never win, since everything that is pooled comes from a ReLU."""
    import torch

    return torch.nn.functional.max_pool3d(_same(x, pool.kernel, pool.stride), pool.kernel, pool.stride)


def _same(x: "torch.Tensor", kernel: Sequence[int], stride: Sequence[int]) -> "torch.Tensor":
    """Pad time, height and width so that each gives ``ceil(n / stride)`` positions; the odd one goes to the end."""
    import torch

    around: list[int] = []
    for n, k, s in zip(x.shape[:1:-1], kernel[::-1], stride[::-1], strict=True):  # the last axis comes first
        pad = max(k - (n % s or s), 0)
        around += [pad // 2, pad - pad // 2]
    return torch.nn.functional.pad(x, around) if any(around) else x
