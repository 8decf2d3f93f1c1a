"""Training without steps: a head whose weights are solved for sees every labelled frame once."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from fuse.batch import Batch
from fuse.data import Corpus
from fuse.heads._base import ClosedForm
from fuse.windows import Windows


def solve(head: ClosedForm, corpus: Corpus, windows: Windows, batch_size: int) -> None:
    """Give a head the weights that solve for every labelled frame of the corpus."""
    head.solve(_batches(corpus, windows, batch_size, next(head.parameters()).device))


def first_time(windows: Windows) -> npt.NDArray[np.bool_]:
    """bool[W,L], True where a frame comes for the first time: windows overlap, and a frame must count once."""
    wide = int(windows.frame.max()) + 1
    frames = np.where(windows.frame >= 0, windows.recording[:, None] * wide + windows.frame, -1)
    values, at = np.unique(frames.ravel(), return_index=True)
    first = np.zeros(frames.size, bool)
    first[at[values >= 0]] = True
    return first.reshape(frames.shape)


def _batches(corpus: Corpus, windows: Windows, batch_size: int, device: torch.device) -> Iterator[Batch]:
    first = first_time(windows)
    for start in range(0, len(windows), batch_size):
        rows = np.arange(start, min(start + batch_size, len(windows)))
        batch = corpus.batch(windows, rows, device)
        once = torch.from_numpy(first[rows]).to(device)
        yield dataclasses.replace(batch, labelled=batch.labelled & once)
