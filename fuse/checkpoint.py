"""Where training stands, on disk: all that a resumed run needs to go on as if it had never been killed.

Written to a file beside it and renamed, so that there is a whole one or none. Read without running pickled code.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cache.errors import CorruptCache
from fuse.heads import Head

Scheduler = torch.optim.lr_scheduler.LRScheduler


@dataclass
class Loop:
    """The moving parts of training.

    order: the epoch's windows, i64[W], of which ``done`` batches are trained on, with ``losses`` f32[done]; None
    between epochs. weights: those of the best epoch.
    """

    head: Head
    optimiser: torch.optim.Optimizer
    scheduler: Scheduler | None
    rng: np.random.Generator
    weights: dict[str, Tensor]
    history: list[dict[str, float]] = field(default_factory=list)
    best: float = -float("inf")
    best_epoch: int = 0
    order: npt.NDArray[np.int64] | None = None
    done: int = 0
    losses: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0

    def state(self) -> dict[str, Any]:
        """Plain data and tensors; with the state of every source of random numbers."""
        device = next(self.head.parameters()).device
        return {
            "head": self.head.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "rng": self.rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            "weights": self.weights,
            "history": self.history,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "order": None if self.order is None else torch.from_numpy(self.order),
            "done": self.done,
            "losses": torch.stack(self.losses).cpu() if self.losses else None,
            "seconds": self.seconds,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a ``state`` of the same recipe."""
        device = next(self.head.parameters()).device
        self.head.load_state_dict(state["head"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        self.rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])
        if device.type == "cuda" and state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], device)
        self.weights = {k: v.to(device) for k, v in state["weights"].items()}
        self.order = None if state["order"] is None else state["order"].numpy()
        self.losses = [] if state["losses"] is None else list(state["losses"].to(device))
        for name in ("history", "best", "best_epoch", "done", "seconds"):
            setattr(self, name, state[name])


def saver(path: Path | None, every_s: float) -> Callable[[Loop], None]:
    """A function that saves where training stands, at most once in ``every_s`` seconds; without a path, nothing."""
    last = time.monotonic()

    def save(loop: Loop) -> None:
        nonlocal last
        if path is None or time.monotonic() - last < every_s:
            return
        save_state(path, loop.state())
        last = time.monotonic()

    return save


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Atomic and durable."""
    part = path.with_name(f"{path.name}.part")
    with open(part, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def load_state(path: Path) -> dict[str, Any] | None:
    """What was saved, or None. Raises CorruptCache where the file is not one of these."""
    if not path.is_file():
        return None
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise CorruptCache(f"{path} is not a checkpoint of a run: {error}", hint="run without --resume") from error
