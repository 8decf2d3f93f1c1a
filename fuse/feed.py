"""Batches one after the other, gathered while the last one is computed on where that is another device's work."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from cache.prefetch import prefetched
from fuse.batch import Batch
from fuse.data import Corpus
from fuse.room import Room
from fuse.windows import Windows

_AHEAD = 1


def batches(
    corpus: Corpus, windows: Windows, order: npt.NDArray[np.int64], size: int, device: torch.device
) -> Iterator[Batch]:
    """``order``: rows of windows; the last batch may be smaller. A batch holds until the next one is asked for."""
    ahead = _AHEAD if device.type == "cuda" else 0  # the processor has no time to spare while it trains itself
    rooms = [Room(device) for _ in range(ahead + 2 if ahead else 1)]

    def gathered() -> Iterator[Batch]:
        for number, start in enumerate(range(0, len(order), size)):
            yield corpus.batch(windows, order[start : start + size], device, rooms[number % len(rooms)])

    yield from prefetched(gathered(), ahead=ahead, what="features") if ahead else gathered()
