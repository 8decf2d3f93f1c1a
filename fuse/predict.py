"""A trained head over whole recordings: every frame is predicted, overlapping windows are averaged."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from fuse.feeding.batch import Batch, narrowed
from fuse.feeding.data import Corpus
from fuse.feeding.feed import batches
from fuse.feeding.windows import Stitcher, Windows
from fuse.heads import Head

Predictions = dict[str, npt.NDArray[np.float64]]


def predict(head: Head, corpus: Corpus, windows: Windows, batch_size: int) -> Predictions:
    """(valence, arousal) per frame, f64[T,2], of each recording of the corpus, raw."""
    return _stitched([head], lambda batch, _: batch, corpus, windows, batch_size)[0]


def predict_together(heads: list[Head], corpus: Corpus, windows: Windows, batch_size: int) -> list[Predictions]:
    """As ``predict``, for several heads in one pass over a corpus whose streams go by key."""
    return _stitched(heads, lambda batch, head: narrowed(batch, head.inputs.streams), corpus, windows, batch_size)


def _stitched(
    heads: list[Head], view: Callable[[Batch, Head], Batch], corpus: Corpus, windows: Windows, batch_size: int
) -> list[Predictions]:
    device = next(heads[0].parameters()).device
    for head in heads:
        head.eval()
    stitchers = [Stitcher(corpus.lengths) for _ in heads]
    with torch.inference_mode():
        for batch in batches(corpus, windows, np.arange(len(windows)), batch_size, device):
            recording, frame = batch.recording.numpy(), batch.frame.numpy()
            for head, stitcher in zip(heads, stitchers, strict=True):
                seen = view(batch, head)
                out = head(seen.x, seen.present, seen.real).double().cpu().numpy()
                stitcher.add(recording, frame, out)
    return [dict(zip(corpus.recordings, s.result(), strict=True)) for s in stitchers]
