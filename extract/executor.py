"""Where recordings are made: in this process, in some of this machine, or on a Dask cluster; by one job function.

An engine takes jobs and gives each back with its outcome, in the order they end. It never decides what is left to do:
that is the cache's to say, so a run that ends anywhere, by whatever, goes on with the same command.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

from extract.bench import Bench, Order
from extract.cluster import on_cluster
from extract.outcome import Outcome
from extract.plan import Job
from extract.recipe import ExtractRecipe
from extract.workers import Run, local_workers

log = logging.getLogger("affuse")
_LOOK_S = 0.5  # between looks, when all that is left is in the hands of other processes


def extracted(jobs: list[Job], recipe: ExtractRecipe, bench: Bench) -> Iterator[tuple[str, Outcome]]:
    """What became of each recording. What another process is at work on is left for last, and by then usually done."""
    with _engine(recipe, bench) if jobs else nullcontext() as engine:
        while jobs:
            busy = []
            for job, outcome in engine(jobs):
                if outcome is None:
                    busy.append(job)
                    continue
                for failure in outcome.failures:
                    log.warning("%s", failure)
                yield job.recording.id, outcome
            if len(busy) == len(jobs):
                time.sleep(_LOOK_S)
            jobs = busy


def _engine(recipe: ExtractRecipe, bench: Bench) -> AbstractContextManager[Run]:
    """The recipe's; whatever it has started is gone at the end of the block."""
    order = Order.of(recipe, bench.streams)
    if recipe.scheduler or recipe.cluster:
        return on_cluster(recipe, order)
    if recipe.workers:
        return local_workers(recipe.workers, order, recipe.device)
    return nullcontext(lambda jobs: ((job, bench.make(job)) for job in jobs))
