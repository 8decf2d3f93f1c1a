"""Many runs: those that see the same batches go through the cache side by side, the rest over processes.

A run's numbers do not depend on what it went with: bit for bit those it has alone, on a CPU, with as many threads.
"""

import concurrent.futures
import functools
import multiprocessing
from collections.abc import Callable

import torch

from cache.registry import load_plugin
from fuse.recipe import TrainRecipe, protocol_of
from fuse.train import RunResult, run_together

_SAME = (
    "cache",
    "labels",
    "seed",  # it decides the order of windows
    "device",
    "resident",
    "permute_labels",
    "delay_valence",
    "delay_arousal",
    "folds",
    "fold",
    "fold_by",
    "skip_incomplete",
)


def run_many(
    recipes: list[TrainRecipe],
    workers: int = 1,
    *,
    resume: bool = False,
    told: Callable[[], None] = lambda: None,
) -> list[RunResult]:
    """Train all of them; results in their order. told: called after each.

    workers: processes, one thread each, since small heads gain nothing from threads; 1 is this process.
    """
    results: dict[int, RunResult] = {}
    groups = shared(recipes, len(recipes) if workers == 1 else -(-len(recipes) // (2 * workers)))
    run = functools.partial(run_together, resume=resume, quiet=True)

    def keep(group: list[int], found: list[RunResult]) -> None:
        for index, result in zip(group, found, strict=True):
            results[index] = result
            told()

    if workers == 1:
        for group in groups:
            keep(group, run([recipes[i] for i in group]))
    else:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_one_thread) as pool:
            try:
                futures = {pool.submit(run, [recipes[i] for i in group]): group for group in groups}
                for future in concurrent.futures.as_completed(futures):
                    keep(futures[future], future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return [results[i] for i in range(len(recipes))]


def shared(recipes: list[TrainRecipe], most: int) -> list[list[int]]:
    """Indices of runs that may share their batches, up to ``most`` of them together.

    Same cache, labels, folds, seed and device; same windows in batches of the same size. Where recordings that lack a
    stream are left out, the same streams.
    """
    groups: dict[str, list[int]] = {}
    for index, recipe in enumerate(recipes):
        for plugin in recipe.plugins:
            load_plugin(plugin)
        protocol = protocol_of(recipe)
        windows = (protocol.tokens, protocol.stride, protocol.hop, protocol.batch_size)
        streams = (recipe.streams, recipe.without) if recipe.skip_incomplete else ()
        groups.setdefault(repr((*(getattr(recipe, f) for f in _SAME), windows, streams)), []).append(index)
    return [group[i : i + most] for group in groups.values() for i in range(0, len(group), most)]


def _one_thread() -> None:
    torch.set_num_threads(1)
