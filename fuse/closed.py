"""Training without steps: a head whose weights are solved for sees every labelled frame once."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from fuse.feeding.batch import Batch, narrowed
from fuse.feeding.data import Corpus
from fuse.feeding.feed import batches
from fuse.feeding.windows import Windows
from fuse.heads._base import ClosedForm


def solve(head: ClosedForm, corpus: Corpus, windows: Windows, batch_size: int) -> None:
    """Give a head the weights that solve for every labelled frame of the corpus, whose streams go by key."""
    batches = _batches(corpus, windows, batch_size, next(head.parameters()).device)
    head.solve(narrowed(batch, head.inputs.streams) for batch in batches)


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
    done = 0
    for batch in batches(corpus, windows, np.arange(len(windows)), batch_size, device):
        once = torch.from_numpy(first[done : done + len(batch.real)]).to(device)
        done += len(batch.real)
        yield dataclasses.replace(batch, labelled=batch.labelled & once)
