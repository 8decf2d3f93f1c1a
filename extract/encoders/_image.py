"""What the encoders of single frames share: each frame is resized, cropped, normalised, and gives one row."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from cache.records import Modality, Track
from extract.blocks import FrameBlock
from extract.encoders._base import batches
from extract.encoders._pixels import Preprocess
from extract.encoders._precision import computing
from extract.encoders._trainable import Places, Times, TrainableEncoder, holding

if TYPE_CHECKING:
    import torch


class FrameEncoder(TrainableEncoder[FrameBlock]):
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
        if not block.rgb:
            return Track.concat([], self.dim)
        with computing(self.cfg.precision, self.device):
            rows = self.fitting.joined(block.rgb, lambda rgb: self.embed(self.preprocess.cropped(rgb, self.device)))
            return Track(block.spans, rows.float().cpu().numpy())  # (N, D)

    def inputs_at(self, block: FrameBlock, times: Times) -> "Iterator[tuple[Places, torch.Tensor]]":
        """u8[b,3,S,S] of the frames on screen at ``times``."""
        places, rows = holding(block.spans, times)
        for some in batches(np.arange(len(places)), self.cfg.batch_size):
            yield places[some], self.preprocess.cropped([block.rgb[i] for i in rows[some]], self.device)

    def embed(self, inputs: "torch.Tensor") -> "torch.Tensor":
        """u8[B,3,S,S] -> f32[B,D]."""
        return self.net(self.preprocess.scaled(inputs))
