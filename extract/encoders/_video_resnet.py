"""Video ResNets with 18 layers (``r3d``, ``r2plus1d``), put together from torchvision's parts.

Model: Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018
(https://arxiv.org/abs/1711.11248). Parts and weights: torchvision (BSD-3), trained on Kinetics-400, published as
pickles only. torchvision squeezes every picture to 128 x 171 pixels before it crops 112 x 112; here the shorter side
becomes 128 and the shape stays, the same to a pixel for 4:3 and undistorted for square face crops.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from extract.encoders._clips import ClipConfig, ClipEncoder
from extract.encoders._pixels import Preprocess
from extract.encoders._published import Found

if TYPE_CHECKING:
    import torch

MEAN, STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)  # of Kinetics-400, for channels in [0, 1]
STEM = 64  # channels that torchvision's stems give


@dataclass(frozen=True)
class Architecture:
    """Input pixels, widths of the stages and blocks a stage."""

    input_size: int
    widths: tuple[int, ...]
    depth: int


ARCHITECTURES = {"base": Architecture(112, (64, 128, 256, 512), 2), "micro": Architecture(32, (16, 32, 64), 1)}


class VideoResNetEncoder(ClipEncoder):
    """Clips in, one row a frame out: the mean over the last stage. A subclass names torchvision's parts."""

    convolution: ClassVar[str]
    stem: ClassVar[str]
    tensor_names = ((r"^fc\.", None),)

    def __init__(self, cfg: ClipConfig) -> None:
        super().__init__(cfg)
        self.architecture = ARCHITECTURES[cfg.size]
        self.preprocess = Preprocess(self.architecture.input_size, cfg.crop_pct, MEAN, STD, "bilinear")

    @property
    def dim(self) -> int:
        """512 for base, 64 for micro."""
        return self.architecture.widths[-1]

    def build(self, found: Found) -> "torch.nn.Module":
        """torchvision's VideoResNet without its classifier, under the same names."""
        from torch import nn
        from torchvision.models.video import resnet as parts

        convolution = getattr(parts, self.convolution)
        layers: OrderedDict[str, nn.Module] = OrderedDict(stem=getattr(parts, self.stem)())
        inside = STEM
        for i, width in enumerate(self.architecture.widths):
            layers[f"layer{i + 1}"] = stage(convolution, inside, width, 1 if i == 0 else 2, self.architecture.depth)
            inside = width
        net = nn.Sequential(OrderedDict(**layers, pool=nn.AdaptiveAvgPool3d(1), flat=nn.Flatten()))
        for conv in (m for m in net.modules() if isinstance(m, nn.Conv3d)):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        return net


def stage(convolution: type, inside: int, width: int, stride: int, depth: int) -> "torch.nn.Sequential":
    """``depth`` residual blocks; the first one changes width and size, its shortcut by a convolution of its own."""
    from torch import nn
    from torchvision.models.video.resnet import BasicBlock

    shortcut = None
    if stride != 1 or inside != width:
        strides = convolution.get_downsample_stride(stride)
        shortcut = nn.Sequential(nn.Conv3d(inside, width, 1, strides, bias=False), nn.BatchNorm3d(width))
    blocks = [BasicBlock(inside, width, convolution, stride, shortcut)]
    return nn.Sequential(*blocks, *(BasicBlock(width, width, convolution) for _ in range(depth - 1)))
