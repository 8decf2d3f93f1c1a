"""Swin-B over video frames: one 1024-d row a frame, the mean of the last stage's normalised tokens.

Model: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021
(https://arxiv.org/abs/2103.14030), as built by timm (Apache-2.0). Weights: Microsoft (MIT), pretrained on ImageNet-22k
and tuned on 1k, republished by timm. ``micro`` is the same class, tiny, for tests and demonstrations.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from extract.encoders import ENCODERS
from extract.encoders._image import FrameEncoder
from extract.encoders._pixels import Preprocess
from extract.encoders._precision import Precision
from extract.encoders._published import Found, Published

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Architecture:
    """A Swin: what timm's class is built from. Width of a row: the last stage's, ``embed_dim`` doubled a stage."""

    input_size: int
    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]

    @property
    def dim(self) -> int:
        """Width of the pooled last stage."""
        return self.embed_dim * 2 ** (len(self.depths) - 1)


ARCHITECTURES = {
    "base": Architecture(224, 128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "micro": Architecture(56, 32, (1, 1), (2, 4)),
}


@ENCODERS.register("swin")
class Swin(FrameEncoder):
    """Frames of any size in, one row a frame out; a row holds as long as its frame is shown."""

    @dataclass(frozen=True)
    class Config:
        """crop_pct: the crop's share of the resized shorter side."""

        size: Literal["base", "micro"] = "base"
        weights: str = "hub"
        precision: Precision = "float32"
        batch_size: int = 16
        crop_pct: float = 0.9

    published = Published("swin", ("timm/swin_base_patch4_window7_224.ms_in22k_ft_in1k",))
    tensor_names = ((r"^head\.|relative_position_index$|attn_mask$", None),)

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.architecture = ARCHITECTURES[cfg.size]
        self.preprocess = Preprocess(self.architecture.input_size, cfg.crop_pct)

    @property
    def dim(self) -> int:
        """1024 for base, 64 for micro."""
        return self.architecture.dim

    def build(self, found: Found) -> "torch.nn.Module":
        """timm's Swin without its classifier."""
        from timm.models.swin_transformer import SwinTransformer

        a = self.architecture
        shape = {"embed_dim": a.embed_dim, "depths": a.depths, "num_heads": a.num_heads}
        return SwinTransformer(img_size=a.input_size, patch_size=4, window_size=7, num_classes=0, **shape)
