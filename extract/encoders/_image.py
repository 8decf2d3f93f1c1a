"""What the encoders of single frames share: each frame is resized, cropped, normalised, and gives one row."""

from dataclasses import asdict
from typing import Any

import numpy as np

from cache.records import Modality, Track
from extract.blocks import FrameBlock
from extract.encoders._base import batches
from extract.encoders._frozen import FrozenEncoder
from extract.encoders._pixels import Preprocess
from extract.encoders._precision import computing


class FrameEncoder(FrozenEncoder[FrameBlock]):
    """Frames of any size in, one row a frame out; a row holds as long as its frame is shown.

    A subclass sets ``preprocess``, whose constants belong to its model.
    """

    modality: Modality = "visual"
    library = "timm"
    preprocess: Preprocess

    def settings(self) -> dict[str, Any]:
        """The config's and the preprocessing's, which belongs to the model."""
        return {**super().settings(), "preprocess": asdict(self.preprocess)}

    def push(self, block: FrameBlock) -> Track:
        """rgb: N x u8[H,W,3] -> N rows."""
        rows = []
        with computing(self.cfg.precision, self.device):
            for frames in batches(block.rgb, self.cfg.batch_size):
                pixels = self.preprocess(frames, self.device)  # (B, 3, S, S)
                rows.append(self.net(pixels).float().cpu().numpy())  # (B, D)
        values = np.concatenate(rows) if rows else np.empty((0, self.dim), np.float32)
        return Track(block.spans, values)
