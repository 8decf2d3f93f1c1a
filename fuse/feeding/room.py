"""Memory that batches are gathered into again and again.

A fresh batch of 16 x 300 tokens is 50 MB whose pages the system has to find and clear each time: longer than it takes
to fill them. What lies in a room holds until the next batch is gathered into it.
"""

import math
import warnings

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

with warnings.catch_warnings():  # torch says once that what it views cannot be written to: it is only read
    warnings.simplefilter("ignore")
    torch.from_numpy(np.frombuffer(b"\0", np.uint8))


class Room:
    """Named buffers of one batch, for a device: pinned where that is a GPU, so that copies to it run by themselves."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._held: dict[str, Tensor] = {}
        self._sent: torch.cuda.Event | None = None

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """A buffer of that shape, its values as they were left; the same memory as long as it is large enough."""
        size = math.prod(shape)
        held = self._held.get(name)
        if held is None or held.numel() < size or held.dtype != dtype:
            held = self._held[name] = torch.empty(size, dtype=dtype, pin_memory=self.device.type == "cuda")
        return held[:size].view(shape)

    def send(self, tensor: Tensor) -> Tensor:
        """A tensor of this room on its device; on a GPU the copy may still be under way, in order with its work."""
        return tensor.to(self.device, non_blocking=True)

    def sent(self) -> None:
        """Told after the last ``send`` of a batch."""
        if self.device.type == "cuda":
            self._sent = torch.cuda.Event()
            self._sent.record(torch.cuda.current_stream(self.device))

    def wait(self) -> None:
        """Until what was sent from here has left, so that it may be overwritten."""
        if self._sent is not None:
            self._sent.synchronize()


def as_tensor(values: npt.NDArray[np.generic]) -> Tensor:
    """A view, not to be written to; numpy's bfloat16 as torch's."""
    if values.dtype.kind == "V":  # of numpy's types that a cache holds only bfloat16 is
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values)
