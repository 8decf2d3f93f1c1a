"""A trained head over whole recordings: every frame is predicted, overlapping windows are averaged."""

import numpy as np
import numpy.typing as npt
import torch

from fuse.data import Corpus
from fuse.heads import Head
from fuse.windows import Stitcher, Windows

Predictions = dict[str, npt.NDArray[np.float64]]


def predict(head: Head, corpus: Corpus, windows: Windows, batch_size: int) -> Predictions:
    """(valence, arousal) per frame, f64[T,2], of each recording of the corpus, raw."""
    head.eval()
    device = next(head.parameters()).device
    stitcher = Stitcher(corpus.lengths)
    with torch.inference_mode():
        for start in range(0, len(windows), batch_size):
            rows = np.arange(start, min(start + batch_size, len(windows)))
            batch = corpus.batch(windows, rows, device)
            out = head(batch.x, batch.present, batch.real).double().cpu().numpy()
            stitcher.add(windows.recording[rows], windows.frame[rows], out)
    return dict(zip(corpus.recordings, stitcher.result(), strict=True))
