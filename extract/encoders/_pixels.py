"""From decoded frames to the input of an image model: resize, centre crop, normalise, all on the device.

The steps and their order are those of timm's and torchvision's evaluation transforms; the resize works on bytes
and differs from PIL's by at most two levels in less than one pixel of a hundred.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from extract.encoders._fitting import upload

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Preprocess:
    """Constants that belong to a model. mean, std: of ImageNet, for channels in [0, 1]."""

    size: int
    crop_pct: float
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"

    def __call__(self, frames: Sequence[npt.NDArray[np.uint8]], device: "torch.device") -> "torch.Tensor":
        """B x u8[H,W,3], of one size or several -> f32[B,3,S,S]."""
        return self.scaled(self.cropped(frames, device))

    def cropped(self, frames: Sequence[npt.NDArray[np.uint8]], device: "torch.device") -> "torch.Tensor":
        """B x u8[H,W,3], of one size or several -> u8[B,3,S,S]. Frames of one size are resized together."""
        import torch

        cropped = torch.empty((len(frames), 3, self.size, self.size), dtype=torch.uint8, device=device)
        shapes = [f.shape for f in frames]
        for shape in dict.fromkeys(shapes):
            at = [i for i, s in enumerate(shapes) if s == shape]
            same = upload(np.stack([frames[i] for i in at]), device)  # (b, H, W, 3)
            cropped[at] = self._crop(self._resize(same.permute(0, 3, 1, 2)))
        return cropped

    def scaled(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """u8[B,3,S,S] -> f32[B,3,S,S]."""
        import torch

        mean, std = (torch.tensor(c, device=pixels.device).view(3, 1, 1) for c in (self.mean, self.std))
        return pixels.float().div_(255).sub_(mean).div_(std)

    def _target(self, h: int, w: int) -> tuple[int, int]:
        """Height and width to resize to: the shorter side becomes ``floor(size / crop_pct)``, the shape stays."""
        short = math.floor(self.size / self.crop_pct)
        return (short, int(short * w / h)) if h <= w else (int(short * h / w), short)

    def _resize(self, images: "torch.Tensor") -> "torch.Tensor":
        """u8[b,3,H,W] -> u8, antialiased."""
        import torch

        h, w = images.shape[2:]
        size = self._target(h, w)
        if size == (h, w):
            return images
        if images.device.type == "cpu":
            return torch.nn.functional.interpolate(images, size, mode=self.interpolation, antialias=True)
        return self._resize_as_floats(images, size)

    def _resize_as_floats(self, images: "torch.Tensor", size: tuple[int, int]) -> "torch.Tensor":
        """For devices that resize floats only: rows, then columns, each rounded to bytes as the CPU does."""
        import torch

        for step in ((images.shape[2], size[1]), size):
            images = torch.nn.functional.interpolate(images.float(), step, mode=self.interpolation, antialias=True)
            images = images.round_().clamp_(0, 255).byte()
        return images

    def _crop(self, images: "torch.Tensor") -> "torch.Tensor":
        top, left = (round((side - self.size) / 2) for side in images.shape[2:])
        return images[:, :, top : top + self.size, left : left + self.size]


@dataclass(frozen=True)
class Squashed(Preprocess):
    """Both sides become ``floor(size / crop_pct)``: nothing is cut off at the longer one, the shape is lost."""

    squash: bool = True

    def _target(self, h: int, w: int) -> tuple[int, int]:
        side = math.floor(self.size / self.crop_pct)
        return side, side
