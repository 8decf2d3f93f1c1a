"""What is known of a model's published weights, and what was found of them."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cache.errors import WeightsNotFound

FILE = "model.safetensors"
CONFIG = "config.json"
CONVERSION_TITLE = "Adding `safetensors` variant of this model"  # of the hub's own converter
PICKLES = ("pytorch_model.bin", "*.pt", "*.pth", "*.ckpt")
DRY_RUN = "or use weights = random:0 for a dry run"


class NoSafetensors(WeightsNotFound):
    """A repository that has its weights in another format."""


class NoSuchFile(WeightsNotFound):
    """A repository that lacks a file beside the weights."""


@dataclass(frozen=True)
class Published:
    """How a model is published: repo ids (the current one first, or none) and the files beside that it needs."""

    name: str
    repos: tuple[str, ...]
    beside: tuple[str, ...] = ()
    either: tuple[str, ...] = ()  # more files beside, read from local folders only
    maybe: tuple[str, ...] = ()  # files beside that are read where there are any
    pickle: str = ""  # where the weights are published as a pickle, if no repository has them


@dataclass(frozen=True)
class Found:
    """Weights that can be had now: a seed, or files by their published name (the weights under ``FILE``)."""

    spec: str
    seed: int | None
    files: dict[str, Path]

    def signature(self, *libraries: str) -> list[Any]:
        """``[spec, [name, size, mtime_ns], ...]``; with a seed the versions of the libraries that draw the numbers."""
        drawn = [] if self.seed is None else [[name, version(name)] for name in ("torch", *libraries)]
        stats = [(name, path.stat()) for name, path in sorted(self.files.items())]
        return [self.spec, *drawn, *([name, s.st_size, s.st_mtime_ns] for name, s in stats)]


def converting(pickle: str) -> str:
    """What to run once, in the folder of a pickle (given by name, path or address), to get ``FILE`` beside it."""
    return (
        'convert it once: python -c "import torch, safetensors.torch as s; s.save_file({k: v.clone().contiguous() for '
        f"k, v in torch.load('{pickle.rpartition('/')[2]}', weights_only=True).items()}}, '{FILE}')\""
    )
