"""Where training stands, on disk: all that a resumed run needs to go on as if it had never been killed.

Written to a file beside it and renamed, so that there is a whole one or none. Read without running pickled code.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cache.errors import CorruptCache
from fuse.heads import Head

Scheduler = torch.optim.lr_scheduler.LRScheduler


_FORM = 2  # of what is saved


class Draws:
    """torch's random numbers of one run: taken up where they were left, whatever else drew some in between."""

    def __init__(self, device: torch.device) -> None:
        """As torch's own stand now. Of a GPU, those of that device too."""
        self._device = device
        self._leave()

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Inside, torch draws this run's numbers."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self._device)
        yield
        self._leave()

    def _leave(self) -> None:
        self.cpu = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None


@dataclass
class Loop:
    """The moving parts of training.

    done: batches of this epoch that are trained on, with ``losses`` f32[done]. weights: those of the best epoch.
    rng: of what happens to batches; draws: of what heads draw.
    """

    head: Head
    optimiser: torch.optim.Optimizer
    scheduler: Scheduler | None
    rng: np.random.Generator
    draws: Draws
    weights: dict[str, Tensor]
    history: list[dict[str, float]] = field(default_factory=list)
    best: float = -float("inf")
    best_epoch: int = 0
    done: int = 0
    losses: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0

    def state(self) -> dict[str, Any]:
        """Plain data and tensors; with the state of every source of random numbers."""
        return {
            "form": _FORM,
            "head": self.head.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "rng": self.rng.bit_generator.state,
            "torch_rng": self.draws.cpu,
            "cuda_rng": self.draws.cuda,
            "weights": self.weights,
            "history": self.history,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "done": self.done,
            "losses": torch.stack(self.losses).cpu() if self.losses else None,
            "seconds": self.seconds,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a ``state`` of the same recipe. Raises CorruptCache where another version wrote it."""
        if state.get("form") != _FORM:
            raise CorruptCache("the checkpoint is of another version of Affuse", hint="run without --resume")
        device = next(self.head.parameters()).device
        self.head.load_state_dict(state["head"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        self.rng.bit_generator.state = state["rng"]
        self.draws.cpu = state["torch_rng"]
        if device.type == "cuda" and state["cuda_rng"] is not None:
            self.draws.cuda = state["cuda_rng"]
        self.weights = {k: v.to(device) for k, v in state["weights"].items()}
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
