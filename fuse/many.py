"""Many runs: those that see the same batches go through the cache side by side, the rest over processes or a cluster.

A run's numbers do not depend on what it went with: bit for bit those it has alone, on a CPU, with as many threads.
"""

import functools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import torch

from cache.cluster import check_workers, open_cluster
from cache.errors import AffuseError, UsageError
from cache.registry import load_plugin
from cache.worker import without_interrupts
from fuse.cluster import train_on
from fuse.recipe import TrainRecipe, protocol_of
from fuse.train import RunResult, run_together

Train = Callable[[list[list[int]]], Iterator[tuple[Sequence[int], list[RunResult]]]]
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
    scheduler: str = "",
    cluster: str = "",
    resume: bool = False,
    told: Callable[[], None] = lambda: None,
) -> list[RunResult]:
    """Train all of them; results in their order. told: called after each.

    workers: processes, one thread each, since small heads gain nothing from threads; 1 is this process. scheduler: the
    address of a Dask cluster that trains instead; cluster: one of so many workers to start, see ``cache.cluster``.
    Raises what a run raises; what is complete by then is kept.
    """
    if workers < 1:
        raise UsageError(f"{workers} workers are asked for", hint="give 1, which is this process, or more")
    check_workers(workers if workers > 1 else 0, scheduler, cluster)
    results: dict[int, RunResult] = {}
    with _engine(recipes, workers, scheduler, cluster, resume) as (count, train):
        for group, found in train(shared(recipes, len(recipes) if count == 1 else -(-len(recipes) // (2 * count)))):
            for index, result in zip(group, found, strict=True):
                results[index] = result
                told()
    return [results[i] for i in range(len(recipes))]


@contextmanager
def _engine(
    recipes: list[TrainRecipe], workers: int, scheduler: str, cluster: str, resume: bool
) -> Iterator[tuple[int, Train]]:
    """How many work at once, and what trains groups of runs, given by their indices."""
    if scheduler or cluster:
        with open_cluster(scheduler, cluster, min(workers, len(recipes))) as client:
            yield max(workers, len(client.nthreads())), functools.partial(train_on, client, recipes, resume)
    elif workers > 1:
        yield workers, functools.partial(_train_apart, recipes, workers, resume)
    else:
        yield 1, lambda groups: ((g, run_together([recipes[i] for i in g], resume=resume, quiet=True)) for g in groups)


def _train_apart(
    recipes: list[TrainRecipe], workers: int, resume: bool, groups: list[list[int]]
) -> Iterator[tuple[list[int], list[RunResult]]]:
    """In so many processes of this machine, no more than there are groups: each imports torch.

    Raises AffuseError where one of them dies.
    """
    context, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    with ProcessPoolExecutor(min(workers, len(groups)), context, torch.set_num_threads, (1,)) as pool:
        try:
            run = functools.partial(run_together, resume=resume, quiet=True)
            with without_interrupts():
                futures = {pool.submit(run, [recipes[i] for i in group]): group for group in groups}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            hint = "the same command with --resume goes on; with fewer workers, if memory ran out"
            raise AffuseError("a process that trained was killed, and the others ended with it", hint=hint) from error
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, KeyboardInterrupt | GeneratorExit):  # else what is in hand is finished
                for process in set(multiprocessing.active_children()) - others:
                    process.terminate()
            raise


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
