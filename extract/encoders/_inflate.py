"""Inception-v1 over pictures made into I3D: each kernel repeated along time and divided by how often.

Carreira and Zisserman, CVPR 2017 (https://arxiv.org/abs/1705.07750), section 2.1: an N x N filter becomes N x N x N, so
that a picture shown without change gives what the picture gives, wherever no clip's edge is near. The tensors are
those of torchvision's GoogLeNet (BSD-3), whose layers have the same widths, norms of the same eps (0.001) and, like
pytorch-i3d, 3 x 3 where the paper's figure has 5 x 5 (a slip that both kept). What differs, and stays so:

- The stem is padded by three pixels at each side there, here by two and three as TensorFlow's SAME does: its windows
  lie one pixel further right and down.
- torchvision's published weights come with ``transform_input``, which turns its own normalisation of pictures into
  bytes scaled to [-1, 1]. I3D's pictures are scaled so already, and nothing is transformed.
- Zeros stand before and after a clip, here as in the paper, so rows near its edges are not the picture's.
- The classifiers (``fc``, ``aux1``, ``aux2``) are left out.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: torchvision's names of blocks and of branches, and this network's.
STEM = {"conv1": "Conv3d_1a_7x7", "conv2": "Conv3d_2b_1x1", "conv3": "Conv3d_2c_3x3"}
MIXED = {
    "inception3a": "Mixed_3b",
    "inception3b": "Mixed_3c",
    "inception4a": "Mixed_4b",
    "inception4b": "Mixed_4c",
    "inception4c": "Mixed_4d",
    "inception4d": "Mixed_4e",
    "inception4e": "Mixed_4f",
    "inception5a": "Mixed_5b",
    "inception5b": "Mixed_5c",
}
BRANCHES = {
    "branch1": "b0",
    "branch2.0": "b1a",
    "branch2.1": "b1b",
    "branch3.0": "b2a",
    "branch3.1": "b2b",
    "branch4.1": "b3b",
}
UNITS = STEM | {f"{a}.{b}": f"{c}.{d}" for a, c in MIXED.items() for b, d in BRANCHES.items()}
PARTS = {"conv.weight": "conv3d.weight"} | {
    f"bn.{p}": f"bn.{p}" for p in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
}
NAMES = {f"{unit}.{part}": f"{UNITS[unit]}.{PARTS[part]}" for unit in UNITS for part in PARTS}
CLASSIFIERS = ("fc.", "aux1.", "aux2.")


def is_flat(state: "dict[str, torch.Tensor]") -> bool:
    """Whether these are tensors of torchvision's GoogLeNet, told by the name and shape of the first."""
    first = state.get("conv1.conv.weight")
    return first is not None and first.ndim == 4


def inflated(state: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Tensors of torchvision's GoogLeNet as those of I3D; a name that is not known stays as it is."""
    kept = {k: t for k, t in state.items() if not k.startswith(CLASSIFIERS)}
    return {NAMES.get(k, k): _deep(t) if t.ndim == 4 else t for k, t in kept.items()}


def _deep(kernel: "torch.Tensor") -> "torch.Tensor":
    """[O,I,N,N] -> [O,I,N,N,N], whose sum along time is the kernel."""
    size = kernel.shape[-1]
    return (kernel / size).unsqueeze(2).repeat(1, 1, size, 1, 1)
