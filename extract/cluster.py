"""Workers of a Dask cluster, one that is there or one that Slurm starts: a recording each, tried again on others.

The cluster schedules; nothing here does. No more recordings are handed in than there are workers, so that the death of
one hardly touches a recording that only waits. Workers see the corpus, the weights and the cache under the same paths;
start them with one thread each, and one for every GPU (dask-cuda does), since a process makes one recording at a time.
"""

import functools
import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.errors import AffuseError, ConfigError, UsageError
from cache.recipe import load_toml
from extract.bench import Order, Receipt, work
from extract.outcome import Outcome, died
from extract.plan import Job
from extract.recipe import ExtractRecipe
from extract.workers import Run

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger("affuse")
_LOOK_S = 5.0  # between looks at how many workers there are
_ANSWER_S = 10.0  # so long a scheduler has to answer
_RETRIES = 2  # of what a worker raises: another one's disk may have room


@contextmanager
def on_cluster(recipe: ExtractRecipe, order: Order) -> Iterator[Run]:
    """Workers that take jobs, see ``extract.executor``. At the end what they have in hand they finish, no more.

    Raises UsageError where Dask is not installed or no scheduler answers, ConfigError for a cluster that cannot be,
    AffuseError where the scheduler goes away.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(f"a cluster needs Dask: {error}", hint="pip install 'affuse[dask]'") from error
    with _quiet(), slurm(recipe.cluster, recipe.workers) if recipe.cluster else nullcontext(recipe.scheduler) as there:
        try:
            client = Client(there, timeout=_ANSWER_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            hint = "start one: dask scheduler; and workers of it: dask worker ADDRESS --nthreads 1"
            raise UsageError(f"no Dask scheduler answers at {recipe.scheduler}: {error}", hint=hint) from error
        try:
            log.info("%d workers at %s, dashboard: %s", len(client.nthreads()), _at(client), client.dashboard_link)
            yield functools.partial(_run, client, order, recipe.device)
        finally:
            with suppress(TimeoutError):
                client.close(timeout=_LOOK_S)


def _run(client: "Client", order: Order, device: str, jobs: list[Job]) -> Iterator[tuple[Job, Outcome | None]]:
    """Jobs with their outcomes, as they end.

    Dask counts a death against whatever its worker held. So those that it gives up come last, one at a time: then
    nothing else is to blame.
    """
    from distributed import KilledWorker

    suspects = []
    for job, answer in _answers(client, order, device, jobs):
        if isinstance(answer, KilledWorker):
            log.warning("%s: several workers died with it in hand; it is tried again alone", job.recording.id)
            suspects.append(job)
        else:
            yield job, _received(answer)
    for suspect in suspects:
        for job, answer in _answers(client, order, device, [suspect]):
            killed = isinstance(answer, KilledWorker)
            yield job, died(job.recording.id, _cause(answer)) if killed else _received(answer)


def _cause(error: Any) -> str:
    return f"{error.allowed_failures + 1} workers died with it alone in hand, the last one {error.last_worker.address}"


def _received(answer: Receipt | Exception) -> Outcome | None:
    if isinstance(answer, ModuleNotFoundError):
        told = f"a worker cannot import {answer.name!r}"
        raise UsageError(told, hint="install this program where the workers are") from answer
    if isinstance(answer, Exception):
        raise answer
    return answer.unpacked()


def _answers(client: "Client", order: Order, device: str, jobs: list[Job]) -> Iterator[tuple[Job, Receipt | Exception]]:
    """Receipts of jobs, as they come; an exception is the worker's."""
    left, going, told = deque(jobs), dict["Future", Job](), False
    while left or going:
        with _while_there(client):
            workers = len(client.nthreads())
            if not workers and not told:
                log.warning("no worker is there; waiting for one: dask worker %s --nthreads 1", _at(client))
            told = not workers
            while left and len(going) < max(1, workers):
                job = left.popleft()
                going[client.submit(work, order, device, job, pure=False, retries=_RETRIES)] = job
            ended = [(going.pop(f), f.exception() or f.result()) for f in _done([*going])]
        yield from ended


def _done(going: list["Future"]) -> list["Future"]:
    """Those that have ended, when one has; none where that takes long."""
    from distributed import wait

    try:
        return [*wait(going, timeout=_LOOK_S, return_when="FIRST_COMPLETED").done]
    except TimeoutError:
        return []


@contextmanager
def _while_there(client: "Client") -> Iterator[None]:
    """Says in one line that the scheduler went away."""
    try:
        with client.as_current():
            yield
    except (CancelledError, OSError, TimeoutError) as error:
        hint = "what is committed is kept: start it again, and run the same command to go on"
        raise AffuseError(f"the Dask scheduler at {_at(client)} is gone", hint=hint) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Dask's own tracebacks of connections that broke: what they mean is said in a line."""
    levels = {name: logging.getLogger(name).level for name in ("distributed", "distributed.client", "distributed.core")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _at(client: "Client") -> str:
    return client.scheduler.address if client.scheduler else "its address"


def slurm(cluster: str, jobs: int) -> AbstractContextManager[Any]:
    """A cluster of so many Slurm jobs, from ``slurm:FILE.toml`` whose keys are those of dask_jobqueue.SLURMCluster.

    Raises ConfigError for another kind of cluster and for settings that it does not take, UsageError where the library
    is not installed.
    """
    kind, _, path = cluster.partition(":")
    if kind != "slurm" or not path:
        raise ConfigError(f"there is no cluster {cluster!r}", hint="give slurm:FILE.toml, or --scheduler ADDRESS")
    settings = load_toml(Path(path))
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise UsageError(f"Slurm needs dask-jobqueue: {error}", hint="pip install 'affuse[slurm]'") from error
    try:
        started = SLURMCluster(**settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}", hint="its keys are those of dask_jobqueue.SLURMCluster") from error
    started.scale(jobs=max(1, jobs))
    return started
