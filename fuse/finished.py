"""A finished run taken up again: its head with the best weights, on its own cache or on another one."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file as load_tensors

from cache.errors import CacheError
from cache.records import StreamSpec
from cache.registry import load_plugin
from cache.stats import Stats
from cache.store import FeatureCache
from fuse.feeding.data import Corpus, open_partition, open_test
from fuse.feeding.folds import cut
from fuse.feeding.locked import LOCKED
from fuse.feeding.snapshot import take_snapshot
from fuse.feeding.streams import describe
from fuse.heads import Head
from fuse.heads._base import Protocol
from fuse.recipe import TrainRecipe, make_head, protocol_of
from fuse.runs import metrics_of, recipe_of

log = logging.getLogger("affuse")


@dataclass(frozen=True)
class Finished:
    """A run's head with its best weights, on the CPU, and all it expects. width: of its smoothing, in frames.

    record: what its ``environment.json`` holds.
    """

    folder: Path
    recipe: TrainRecipe
    protocol: Protocol
    streams: tuple[StreamSpec, ...]
    head: Head
    stats: dict[str, Stats]
    width: int
    record: dict[str, Any]

    @property
    def dataset(self) -> str:
        """Name of the corpus it was trained on."""
        return self.folder.resolve().parent.name


def load_run(folder: Path) -> Finished:
    """Read a run folder. Raises MissingData where it is none, or is not complete."""
    metrics, recipe = metrics_of(folder), recipe_of(folder)
    record = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    for plugin in recipe.plugins:
        load_plugin(plugin)
    streams = tuple(StreamSpec(**s) for s in record["streams"])
    protocol = protocol_of(recipe)
    head = make_head(recipe, protocol, streams)
    head.load_state_dict(load_tensors(folder / "best.safetensors"))
    arrays = load_arrays(folder / "normalisation.safetensors")
    stats = {s.name: Stats(arrays[f"{s.name}.mean"], arrays[f"{s.name}.std"]) for s in streams}
    width = metrics["evaluations"]["validation"]["smooth"]
    return Finished(folder, recipe, protocol, streams, head, stats, width, record)


def declared(run: Finished) -> dict[str, Any]:
    """How the run's streams were made, by key; of a run that does not say so, from the cache it was trained on.

    Raises CacheError where that one is gone, too.
    """
    kept = run.record.get("declared")
    if kept is not None:
        return dict(kept)
    try:
        return describe(FeatureCache(run.recipe.cache), run.streams)
    except CacheError as error:
        told = f"{run.folder} does not say how its streams were made, and its cache does not either: {error.message}"
        raise CacheError(told, hint=f"train it again, or bring back the cache at {run.recipe.cache}") from error


def open_for(run: Finished, cache: FeatureCache, partition: str, what: str) -> Corpus:
    """A partition of a cache as the run's head wants it: its streams by key, normalised as it was trained.

    On the corpus it was trained on, a run of a fold sees the partitions of its fold. ``test`` is opened for ``what``,
    and counted in the run's folder. Raises CacheError where the cache lacks a stream by its key: a namesake made with
    other settings is another feature.
    """
    check_streams(run, cache)
    snapshot = take_snapshot(cache, run.streams, run.recipe.labels)
    if cache.dataset == run.dataset:
        snapshot = cut(snapshot, run.recipe.folds, run.recipe.fold, run.recipe.fold_by)
    skip = run.recipe.skip_incomplete
    if partition == LOCKED:
        return open_test(snapshot, run.folder, what, run.stats, skip_incomplete=skip)
    return open_partition(snapshot, partition, run.stats, skip_incomplete=skip)


def check_streams(run: Finished, cache: FeatureCache) -> None:
    """Raises CacheError where the cache lacks a stream of the run by its key, with the namesakes that it has."""
    for spec in run.streams:
        if spec.key not in cache.stream_keys():
            namesakes = [k for k in cache.stream_keys() if k.rpartition("-")[0] == spec.name]
            raise CacheError(
                f"the run was trained on stream {spec.key}; {cache.where} holds "
                + (f"{', '.join(namesakes)}, made with other settings" if namesakes else "no such stream"),
                hint="extract it there with the settings of: python cli.py cache why " + spec.key,
            )
