"""ResNet-18 over video frames: one 512-d row a frame, the mean over the last stage.

Model: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (https://arxiv.org/abs/1512.03385), as
built by timm (Apache-2.0). Weights: Wightman et al., "ResNet strikes back", 2021 (https://arxiv.org/abs/2110.00476),
recipe A1 on ImageNet-1k, published by timm (Apache-2.0). ``micro`` is the same class, tiny, for tests.
"""

from extract.encoders import ENCODERS
from extract.encoders._published import Published
from extract.encoders._resnet import Architecture, ResNetEncoder


@ENCODERS.register("resnet18")
class ResNet18(ResNetEncoder):
    """Frames of any size in, one row a frame out."""

    architecture = Architecture("BasicBlock", (2, 2, 2, 2))
    published = Published("resnet18", ("timm/resnet18.a1_in1k",))
