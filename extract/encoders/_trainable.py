"""The encoders that can be fitted to labels: what their network is fed at a time, and its rows with a gradient.

Extraction and training share both steps, so a checkpoint is fed what it was trained on.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from extract.encoders._base import Block
from extract.encoders._frozen import FrozenEncoder

if TYPE_CHECKING:
    import torch

Times = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


class TrainableEncoder(FrozenEncoder[Block]):
    """An encoder whose rows are each a function of one input of fixed shape."""

    @abstractmethod
    def inputs_at(self, block: Block, times: Times) -> "Iterator[tuple[Places, torch.Tensor]]":
        """Inputs of the rows that hold at ``times`` (seconds, increasing): (their places in ``times``, one input each).

        Times at which the block has no row are left out.
        """

    @abstractmethod
    def embed(self, inputs: "torch.Tensor") -> "torch.Tensor":
        """Inputs [B, ...] on the device -> rows f32[B,D], with a gradient where the caller lets it."""


def holding(spans: npt.NDArray[np.float64], times: Times) -> tuple[Places, Places]:
    """Which of ``times`` lie in one of the ``spans`` f64[N,2] (in order of time), and in which: (places, rows)."""
    row = np.searchsorted(spans[:, 0], times, "right") - 1
    inside = (row >= 0) & (times < spans[np.maximum(row, 0), 1]) if len(spans) else np.zeros(len(times), bool)
    return np.flatnonzero(inside), row[inside]
