"""The encoders that can be fitted to labels: what their network is fed at a time, and its rows with a gradient.

Extraction and training share both steps, so a checkpoint is fed what it was trained on.
"""

import json
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cache.errors import DataError
from cache.fingerprint import canonical, differing, spelled
from extract.encoders._base import Block
from extract.encoders._frozen import FrozenEncoder
from extract.encoders._published import FILE

if TYPE_CHECKING:
    import torch

Times = npt.NDArray[np.float64]
TRAINED = "affuse"  # the key of safetensors' metadata that holds ``input_settings``
Places = npt.NDArray[np.intp]


class TrainableEncoder(FrozenEncoder[Block]):
    """An encoder whose rows are each a function of one input of fixed shape."""

    def input_settings(self) -> dict[str, Any]:
        """What decides what the network is fed and how its rows are made of it: kept with trained weights."""
        settings = {**self.settings(), **({"model": model} if (model := self.model_settings()) else {})}
        return dict(json.loads(canonical({k: v for k, v in settings.items() if k != "precision"})))

    def load(self, device: "torch.device") -> None:
        """Build, fill, hash, freeze and move. Raises DataError also for weights that were trained on other inputs."""
        super().load(device)
        found = self.find()
        trained = _trained_on(found.files[FILE]) if found.seed is None else None
        apart = differing(trained, self.input_settings()) if trained else {}
        if apart:
            told = ", ".join(f"{name} = {spelled(was)}, not {spelled(now)}" for name, (was, now) in apart.items())
            raise DataError(
                f"the weights in {found.files[FILE]} were trained with {told}",
                hint="extract with the options that they were trained with, as train-encoder printed them",
            )

    @abstractmethod
    def inputs_at(self, block: Block, times: Times) -> "Iterator[tuple[Places, torch.Tensor]]":
        """Inputs of the rows that hold at ``times`` (seconds, increasing): (their places in ``times``, one input each).

        Times at which the block has no row are left out.
        """

    @abstractmethod
    def embed(self, inputs: "torch.Tensor") -> "torch.Tensor":
        """Inputs [B, ...] on the device -> rows f32[B,D], with a gradient where the caller lets it."""


def _trained_on(weights: Path) -> dict[str, Any] | None:
    """``input_settings`` as kept by a training of ours; None for other weights."""
    from safetensors import safe_open

    with safe_open(weights, framework="np") as file:
        kept = (file.metadata() or {}).get(TRAINED)
    return json.loads(kept) if kept else None


def holding(spans: npt.NDArray[np.float64], times: Times) -> tuple[Places, Places]:
    """Which of ``times`` lie in one of the ``spans`` f64[N,2] (in order of time), and in which: (places, rows)."""
    row = np.searchsorted(spans[:, 0], times, "right") - 1
    inside = (row >= 0) & (times < spans[np.maximum(row, 0), 1]) if len(spans) else np.zeros(len(times), bool)
    return np.flatnonzero(inside), row[inside]
