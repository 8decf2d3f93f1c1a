"""ResNets of timm, over frames (``resnet18``, ``resnet50``) or spectrograms: widths and depths, and the frame encoder.

Model: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (https://arxiv.org/abs/1512.03385), as
built by timm (Apache-2.0). The files ``resnet18.py`` and ``resnet50.py`` name the block, the depth and the weights.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from extract.encoders._image import FrameEncoder
from extract.encoders._pixels import Preprocess
from extract.encoders._precision import Precision
from extract.encoders._published import Found

if TYPE_CHECKING:
    import torch

#: How many times wider than its convolutions a block's output is.
EXPANSION = {"BasicBlock": 1, "Bottleneck": 4}
#: Widths of the four stages; the stem has 64 channels in both sizes.
WIDTHS = {"base": (64, 128, 256, 512), "micro": (8, 16, 32, 64)}
INPUT = {"base": 224, "micro": 64}


@dataclass(frozen=True)
class Architecture:
    """A ResNet: timm's block by name, and blocks a stage of the published size (``micro`` has one a stage)."""

    block: Literal["BasicBlock", "Bottleneck"]
    depths: tuple[int, int, int, int]

    def dim(self, size: str) -> int:
        """Width of the pooled last stage."""
        return WIDTHS[size][-1] * EXPANSION[self.block]

    def build(self, size: str, channels: int = 3) -> "torch.nn.Module":
        """timm's ResNet without its classifier, for pictures of so many channels: f32[B,C,H,W] -> f32[B,D]."""
        from timm.models import resnet

        depths = self.depths if size == "base" else (1, 1, 1, 1)
        shape = {"channels": WIDTHS[size], "in_chans": channels, "zero_init_last": False}
        return resnet.ResNet(getattr(resnet, self.block), depths, num_classes=0, **shape)


class ResNetEncoder(FrameEncoder):
    """Frames of any size in, one row a frame out: the mean over the last stage."""

    @dataclass(frozen=True)
    class Config:
        """crop_pct: the crop's share of the resized shorter side."""

        size: Literal["base", "micro"] = "base"
        weights: str = "hub"
        precision: Precision = "float32"
        batch_size: int = 16
        crop_pct: float = 0.95

    architecture: ClassVar[Architecture]
    tensor_names = ((r"^fc\.", None),)

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.preprocess = Preprocess(INPUT[cfg.size], cfg.crop_pct)

    @property
    def dim(self) -> int:
        """512 or 2048 for base, 64 or 256 for micro."""
        return self.architecture.dim(self.cfg.size)

    def build(self, found: Found) -> "torch.nn.Module":
        """timm's ResNet without its classifier."""
        return self.architecture.build(self.cfg.size)

    def prepare(self) -> None:
        """Channels last: the same numbers up to rounding, less work."""
        import torch

        self.net.to(memory_format=torch.channels_last)
