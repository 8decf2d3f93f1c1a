"""Modality dropout: whole windows lose a modality while training, never all, so that a head learns to do without."""

import dataclasses

import numpy as np
import torch

from cache.records import StreamSpec
from fuse.feeding.batch import Batch


def drop_modalities(batch: Batch, streams: tuple[StreamSpec, ...], p: float, rng: np.random.Generator) -> Batch:
    """Each window loses each modality with probability p; one that would lose all keeps one of them, by chance.

    What is dropped is what an absent stream is: zero, with ``present`` false.
    """
    modalities = sorted({s.modality for s in streams})
    size = len(batch.real)
    kept = rng.random((size, len(modalities))) >= p  # [B,M]
    spared = rng.integers(len(modalities), size=size)
    kept[np.arange(size), spared] |= ~kept.any(axis=1)
    keep = torch.from_numpy(kept).to(batch.real.device)
    x, present = {}, {}
    for stream in streams:
        stays = keep[:, modalities.index(stream.modality)].unsqueeze(1)  # [B,1]
        present[stream.name] = batch.present[stream.name] & stays
        x[stream.name] = batch.x[stream.name].masked_fill(~present[stream.name].unsqueeze(-1), 0.0)
    return dataclasses.replace(batch, x=x, present=present)
