"""Batches as large as asked, or as the device has memory for: halved where it ends, and kept at what fitted.

A batch size changes no number beyond rounding, so a run on a smaller GPU gives the same stream. Nothing here waits
for the device: what a step returns may still be under way, and is fetched for many batches at once.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from cache.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

log = logging.getLogger("affuse")
Made = TypeVar("Made")


class Fitting:
    """size: of the next batch."""

    def __init__(self, size: int, what: str) -> None:
        self.size, self.what = size, what

    def each(self, items: "Sequence[Any]", step: Callable[[Any], Made]) -> Iterator[tuple[Any, Made]]:
        """Pieces of ``items`` in order, each with what ``step`` made of it; a step may be repeated on less.

        Raises DataError where a single item is too large.
        """
        import torch

        at = 0
        while at < len(items):
            some = items[at : at + self.size]
            try:
                made = step(some)
            except torch.OutOfMemoryError as error:
                self._halve(len(some), error)
                continue
            yield some, made
            at += len(some)

    def joined(self, items: "Sequence[Any]", step: "Callable[[Any], torch.Tensor]") -> "torch.Tensor":
        """What ``step`` makes of all of them, one after the other along the first axis."""
        import torch

        return torch.cat([made for _, made in self.each(items, step)])

    def _halve(self, tried: int, error: Exception) -> None:
        import torch

        if tried < 2:
            raise DataError(
                f"{self.what}: the device has no memory for a single item: {str(error).splitlines()[0]}",
                hint="free it of other work, or take another one: --device cpu",
            ) from error
        self.size = tried // 2
        log.warning("%s: no memory for a batch of %d; going on with %d", self.what, tried, self.size)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def upload(values: "npt.NDArray[Any]", device: "torch.device") -> "torch.Tensor":
    """On the device; to a GPU from pinned memory, without waiting."""
    import torch

    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
