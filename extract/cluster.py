"""Recordings over the workers of a Dask cluster, see ``cache.cluster``: each to one worker, tried again on others.

Workers see the corpus, the weights and the cache under the same paths.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cache.cluster import Died, Work, answers, open_cluster
from extract.bench import Order, work
from extract.outcome import Outcome, died
from extract.plan import Job
from extract.recipe import ExtractRecipe
from extract.workers import Run

if TYPE_CHECKING:
    from distributed import Client

_RETRIES = 2  # of what a worker raises: another one's disk may have room
_KEPT = "what is committed is kept: start it again, and run the same command to go on"


@contextmanager
def on_cluster(recipe: ExtractRecipe, order: Order) -> Iterator[Run]:
    """Workers that take jobs, see ``extract.executor``. At the end what they have in hand they finish, no more.

    Raises what ``open_cluster`` does, AffuseError where the scheduler goes away.
    """
    with open_cluster(recipe.scheduler, recipe.cluster, recipe.workers) as client:
        yield functools.partial(_run, client, order, recipe.device)


def _run(client: "Client", order: Order, device: str, jobs: list[Job]) -> Iterator[tuple[Job, Outcome | None]]:
    """Jobs with their outcomes, as they end."""
    asked = Work(functools.partial(work, order, device), lambda job: job.recording.id, _KEPT, _RETRIES)
    for job, answer in answers(client, asked, jobs):
        yield job, died(job.recording.id, answer.told) if isinstance(answer, Died) else answer.unpacked()
