"""Workers of a Dask cluster, one that is there or one that Slurm starts: a job each, tried again on others.

The cluster schedules; nothing here does. No more jobs are handed in than there are workers, so that the death of one
hardly touches a job that only waits. Workers see the same paths; start them with one thread each, and one for every GPU
(dask-cuda does), since a process works on one job at a time.
"""

import functools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cache.errors import AffuseError, ConfigError, UsageError
from cache.recipe import load_toml

if TYPE_CHECKING:
    from distributed import Client, Future

J = TypeVar("J")
A = TypeVar("A")

log = logging.getLogger("affuse")
_LOOK_S = 5.0  # between looks at how many workers there are
_ANSWER_S = 10.0  # so long a scheduler has to answer


@dataclass(frozen=True)
class Died:
    """In place of an answer: workers died with that job alone in hand. told: how many."""

    told: str


@dataclass(frozen=True)
class Work(Generic[J, A]):
    """What workers do with a job. do: travels to them by its name. named: for whoever reads of a job.

    retries: of what ``do`` raises. kept: what is not lost where the scheduler goes away. apart: a job that killed
    workers, in the parts in which it is tried again.
    """

    do: Callable[[J], A]
    named: Callable[[J], str]
    kept: str
    retries: int = 0
    apart: Callable[[J], list[J]] = lambda job: [job]


def check_workers(workers: int, scheduler: str, cluster: str) -> None:
    """Raises ConfigError where a scheduler, whose workers are there, and workers to start are given."""
    if scheduler and (workers or cluster):
        others = "a cluster" if cluster else f"{workers} workers"
        raise ConfigError(f"a scheduler, whose workers are there, and {others} to start are given", hint="give one")


@contextmanager
def open_cluster(scheduler: str, cluster: str, jobs: int) -> Iterator["Client"]:
    """The cluster at that address, or one that is started with so many jobs. What is in hand at the end is finished.

    Raises UsageError where Dask is not installed or no scheduler answers, ConfigError for a cluster that cannot be.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(f"a cluster needs Dask: {error}", hint="pip install 'affuse[dask]'") from error
    with _quiet(), slurm(cluster, jobs) if cluster else nullcontext(scheduler) as there:
        try:
            client = Client(there, timeout=_ANSWER_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            hint = "start one: dask scheduler; and workers of it: dask worker ADDRESS --nthreads 1"
            raise UsageError(f"no Dask scheduler answers at {scheduler}: {error}", hint=hint) from error
        try:
            log.info("%d workers at %s, dashboard: %s", len(client.nthreads()), _at(client), client.dashboard_link)
            yield client
        finally:
            with suppress(TimeoutError):
                client.close(timeout=_LOOK_S)


def answers(client: "Client", work: Work[J, A], jobs: list[J]) -> Iterator[tuple[J, A | Died]]:
    """Jobs with what came of them, as they end. Raises what a worker does, AffuseError where the scheduler goes away.

    Dask counts a death against whatever its worker held. So those that it gives up come last, one at a time: then
    nothing else is to blame.
    """
    from distributed import KilledWorker

    suspects = []
    for job, answer in _answers(client, work, jobs):
        if isinstance(answer, KilledWorker):
            log.warning("%s: several workers died with it in hand; it is tried again alone", work.named(job))
            suspects += work.apart(job)
        else:
            yield job, _received(answer)
    for suspect in suspects:
        for job, answer in _answers(client, work, [suspect]):
            yield job, Died(_cause(answer)) if isinstance(answer, KilledWorker) else _received(answer)


def _cause(error: Any) -> str:
    return f"{error.allowed_failures + 1} workers died with it alone in hand, the last one {error.last_worker.address}"


def _received(answer: A | Exception) -> A:
    if isinstance(answer, ModuleNotFoundError):
        told = f"a worker cannot import {answer.name!r}"
        raise UsageError(told, hint="install this program where the workers are") from answer
    if isinstance(answer, Exception):
        raise answer
    return answer


def _answers(client: "Client", work: Work[J, A], jobs: list[J]) -> Iterator[tuple[J, A | Exception]]:
    """Answers to jobs, as they come; an exception is the worker's."""
    left, going, ended = deque(jobs), dict["Future", J](), SimpleQueue["Future"]()
    submit = functools.partial(client.submit, work.do, pure=False, retries=work.retries)
    workers, looked = 0, 0.0
    while left or going:
        with _while_there(client, work.kept):
            if not workers or time.monotonic() > looked + _LOOK_S:
                before, workers, looked = workers, len(client.nthreads()), time.monotonic()
                if not workers and (before or not going):
                    log.warning("no worker is there; waiting for one: dask worker %s --nthreads 1", _at(client))
            while left and len(going) < max(1, workers):
                future = submit(job := left.popleft())
                going[future] = job
                future.add_done_callback(ended.put)
            some = _next(ended)
            answered = zip(some, _fetched(client, some), strict=True)
            made = [(going.pop(f), answer) for f, answer in answered]
        yield from made


def _next(ended: SimpleQueue["Future"]) -> list["Future"]:
    """Those that have ended, when one has; none where that takes long."""
    some = []
    with suppress(Empty):
        some.append(ended.get(timeout=_LOOK_S))
        while True:
            some.append(ended.get_nowait())
    return some


def _fetched(client: "Client", some: list["Future"]) -> list[Any]:
    """What they made, in one question to the scheduler; of those that failed, the exception."""
    failed = {f: f.exception() for f in some if f.status != "finished"}
    made = iter(client.gather([f for f in some if f not in failed]))
    return [failed[f] if f in failed else next(made) for f in some]


@contextmanager
def _while_there(client: "Client", kept: str) -> Iterator[None]:
    """Says in one line that the scheduler went away."""
    try:
        with client.as_current():
            yield
    except (CancelledError, OSError, TimeoutError) as error:
        raise AffuseError(f"the Dask scheduler at {_at(client)} is gone", hint=kept) from error


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
    return str(client.scheduler.address) if client.scheduler else "its address"


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
