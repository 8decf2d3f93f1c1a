"""Batches one after the other, gathered while the last one is computed on where that is another device's work."""

import resource
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from cache.prefetch import prefetched
from fuse.feeding.batch import Batch
from fuse.feeding.data import Corpus
from fuse.feeding.room import Room
from fuse.feeding.windows import Windows


def batches(
    corpus: Corpus, windows: Windows, order: npt.NDArray[np.int64], size: int, device: torch.device
) -> Iterator[Batch]:
    """``order``: rows of windows; the last batch may be smaller. A batch holds until the next one is asked for."""
    ahead = ahead_on(device)
    rooms = [Room(device) for _ in range(ahead + 2 if ahead else 1)]

    def gathered() -> Iterator[Batch]:
        cold = True
        for number, start in enumerate(range(0, len(order), size)):
            if cold:
                corpus.expect(windows, order[start + size : start + 2 * size])
            before = _waits()
            batch = corpus.batch(windows, order[start : start + size], device, rooms[number % len(rooms)])
            cold = _waits() > before  # while features come from memory alone, nobody is asked to fetch any
            yield batch

    yield from prefetched(gathered(), ahead=ahead, what="features") if ahead else gathered()


def ahead_on(device: torch.device) -> int:
    """Batches that are gathered ahead. A processor that trains has no time to spare; that of a GPU has."""
    return 1 if device.type == "cuda" else 0


def _waits() -> int:
    """How often this process has waited for a disk."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt
