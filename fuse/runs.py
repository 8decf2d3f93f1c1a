"""The run folder: everything needed to repeat a run and to check its numbers, the recipe written before the first step.

``recipe.json``, ``environment.json``, ``log.jsonl`` (a line an epoch, as it trains), ``history.csv``,
``best.safetensors``, ``normalisation.safetensors``, ``metrics.json``, ``predictions/<partition>/<recording>.csv``,
``statistics/<partition>.csv`` and ``test_evaluations.csv``, in which a repeated run goes on counting; ``.lock``
while a process is at work on it.
"""

import contextlib
import csv
import hashlib
import importlib.metadata
import json
import logging
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file as save_tensors
from torch import Tensor

from cache.errors import CacheError, MissingData
from cache.lease import lease, release
from cache.recipe import build, to_json, to_plain
from cache.records import StreamSpec
from cache.stats import Stats
from fuse.feeding.traits import Traits
from fuse.numbers.evaluate import Scored
from fuse.numbers.moments import save_moments
from fuse.prediction_files import save_predictions
from fuse.recipe import TrainRecipe

log = logging.getLogger("affuse")
_PACKAGES = ("affuse", "torch", "numpy", "zarr", "scikit-learn")


class RunFolder:
    """One run's files. Running the same recipe again writes the same folder anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        """Where training stands, while it goes on."""
        return self.path / "checkpoint.pt"

    def start(
        self,
        recipe: TrainRecipe,
        streams: tuple[StreamSpec, ...],
        plugins: tuple[Path, ...],
        trained_on: Traits,
        data: str,
        declared: dict[str, Any],
        *,
        keep_checkpoint: bool = False,
    ) -> None:
        """Write what the run is before it begins; numbers of an earlier run of this folder go away first.

        declared: of its streams, see ``fuse.feeding.streams.describe``.
        """
        for stale in (
            "metrics.json",
            "best.safetensors",
            "history.csv",
            *([] if keep_checkpoint else ["checkpoint.pt"]),
        ):
            (self.path / stale).unlink(missing_ok=True)
        for stale in ("predictions", "statistics"):
            shutil.rmtree(self.path / stale, ignore_errors=True)
        (self.path / "recipe.json").write_text(to_json(recipe), encoding="utf-8")
        environment = {
            "python": platform.python_version(),
            "machine": platform.platform(),
            "packages": packages(),
            "streams": [to_plain(s) for s in streams],
            "declared": declared,
            "trained_on": to_plain(trained_on),
            "data": data,
            "plugins": {p.name: hashlib.sha256(p.expanduser().read_bytes()).hexdigest() for p in plugins},
            "commit": _git_commit(),
        }
        (self.path / "environment.json").write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")

    def check_data(self, data: str) -> None:
        """Raises CacheError where the run that this folder holds began on other features or labels than these."""
        path = self.path / "environment.json"
        if path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("data") != data:
            raise CacheError(
                f"features or labels of the cache have changed since {self.path.name} began: it cannot go on",
                hint="run the same command without --resume",
            )

    def save_history(self, rows: list[dict[str, float]]) -> None:
        """A row an epoch."""
        with open(self.path / "history.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def save_weights(self, state: dict[str, Tensor], stats: dict[str, Stats]) -> None:
        """The best epoch's weights, and the normalisation they expect."""
        save_tensors({k: v.contiguous() for k, v in state.items()}, self.path / "best.safetensors")
        arrays = {f"{name}.{part}": getattr(s, part) for name, s in stats.items() for part in ("mean", "std")}
        save_arrays(arrays, self.path / "normalisation.safetensors")

    def save_metrics(self, metrics: dict[str, Any], name: str = "metrics.json") -> None:
        """Last of all: a run with ``metrics.json`` is complete."""
        part = self.path / f"{name}.part"
        part.write_text(to_json(metrics), encoding="utf-8")
        part.replace(self.path / name)
        self.checkpoint.unlink(missing_ok=True)

    @property
    def complete(self) -> bool:
        """Whether its run has ended."""
        return (self.path / "metrics.json").is_file()

    def save_scored(self, partition: str, pts: dict[str, npt.NDArray[np.float64]], scored: Scored) -> None:
        """Raw predictions, and what comparisons with other runs need: no label is opened for them again."""
        for recording, pred in scored.predictions.items():
            save_predictions(self.path / "predictions" / partition, recording, pts[recording], pred)
        save_moments(self.path / "statistics" / f"{partition}.csv", scored.kinds)


def recipe_of(folder: Path) -> TrainRecipe:
    """The settings that a run began with."""
    return build(TrainRecipe, json.loads((folder / "recipe.json").read_text(encoding="utf-8")))


def metrics_of(folder: Path) -> dict[str, Any]:
    """What a complete run measured. Raises MissingData where there is none."""
    path = folder / "metrics.json"
    if not path.is_file():
        hint = "give a run's folder, as train-fusion says; one that was interrupted goes on with --resume"
        raise MissingData(f"no complete run at {folder}", hint=hint)
    return dict(json.loads(path.read_text(encoding="utf-8")))


def packages() -> dict[str, str]:
    """Versions here of what makes a run's numbers."""
    return {p: importlib.metadata.version(p) for p in _PACKAGES}


@contextlib.contextmanager
def held(folders: Iterable[RunFolder]) -> Iterator[None]:
    """For the block nobody else is at work on these runs. Whoever is, such as a worker cut off, is waited for."""
    with contextlib.ExitStack() as locks:
        for path in sorted({folder.path / ".lock" for folder in folders}):
            locks.callback(release, path, _lock(path))
        yield


def _lock(path: Path) -> IO[str]:
    file = lease(path, wait=False)
    while file is None:
        log.info("another process is at work on %s: waiting until it is not", path.parent)
        file = lease(path, wait=True)
    return file


def _git_commit() -> str:
    """Commit of the code, with a plus where it was changed since; empty outside a checkout."""
    here = Path(__file__).parent
    if not (here.parent / ".git").exists():
        return ""
    try:
        commit = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            ["git", "-C", here, "status", "--porcelain"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")
