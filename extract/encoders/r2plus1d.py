"""R(2+1)D-18 over clips of 16 video frames: one 512-d row a frame; each convolution is one in space, then one in time.

Model: Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018
(https://arxiv.org/abs/1711.11248). Parts and weights: torchvision (BSD-3), trained on Kinetics-400. How clips are
cut and rows placed: ``_clips``. ``micro`` is the same, tiny, for tests.
"""

from extract.encoders import ENCODERS
from extract.encoders._published import Published
from extract.encoders._video_resnet import VideoResNetEncoder


@ENCODERS.register("r2plus1d")
class R2Plus1D(VideoResNetEncoder):
    """Frames of any size in, one row a frame out."""

    convolution = "Conv2Plus1D"
    stem = "R2Plus1dStem"
    published = Published("r2plus1d", (), pickle="https://download.pytorch.org/models/r2plus1d_18-91a641e6.pth")
