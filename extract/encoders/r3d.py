"""R3D-18 over clips of 16 video frames: one 512-d row a frame, the mean over the last stage of 3-d convolutions.

Model: Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018
(https://arxiv.org/abs/1711.11248). Parts and weights: torchvision (BSD-3), trained on Kinetics-400. How clips are
cut and rows placed: ``_clips``. ``micro`` is the same, tiny, for tests.
"""

from extract.encoders import ENCODERS
from extract.encoders._published import Published
from extract.encoders._video_resnet import VideoResNetEncoder


@ENCODERS.register("r3d")
class R3D(VideoResNetEncoder):
    """Frames of any size in, one row a frame out."""

    convolution = "Conv3DSimple"
    stem = "BasicStem"
    published = Published("r3d", (), pickle="https://download.pytorch.org/models/r3d_18-b3b3357e.pth")
