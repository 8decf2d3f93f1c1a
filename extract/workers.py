"""Worker processes of this machine: one recording each at a time; a worker that dies costs no other's work.

Each has a pipe of its own, whose end tells of its death at once. (A pool of ``concurrent.futures`` takes all its
workers down with one.) Which recording a worker had in hand is known, so blame for its death is exact.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from cache.errors import AffuseError
from cache.worker import Receipt, without_interrupts
from extract.bench import Order, work
from extract.outcome import Outcome, died
from extract.plan import Job

log = logging.getLogger("affuse")
Run = Callable[[list[Job]], Iterator[tuple[Job, Outcome | None]]]
_DEATHS = 2  # of workers, in whose hands a recording was, until it is given up
_PATIENCE_S = 10.0  # for a worker that is asked to drop what it has in hand


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    job: Job | None = None


class _Pool:
    """Workers by their number; they are started when there is a recording for them."""

    def __init__(self, count: int, order: Order, device: str) -> None:
        self.count, self.order, self.device = count, order, device
        self.workers: dict[int, _Worker] = {}
        self.deaths: Counter[str] = Counter()

    def run(self, jobs: list[Job]) -> Iterator[tuple[Job, Outcome | None]]:
        """Jobs with their outcomes, as they end; see ``extract.executor``."""
        left = deque(jobs)
        self._hand_out(left)
        while at_work := {w.pipe: i for i, w in self.workers.items() if w.job}:
            for pipe in connection.wait([*at_work]):
                ended = self._take(at_work[pipe], left)
                self._hand_out(left)
                if ended:
                    yield ended

    def _take(self, number: int, left: deque[Job]) -> tuple[Job, Outcome | None] | None:
        """A job with its outcome; None where its worker died and it is ``left`` for another one."""
        worker = self.workers[number]
        job, worker.job = worker.job, None
        try:
            answer = worker.pipe.recv()
        except (EOFError, OSError):
            del self.workers[number]
            worker.process.join()
            outcome = self._died(job.recording.id, _how(worker.process.exitcode or 0))
            if outcome is None:
                left.append(job)
            return (job, outcome) if outcome else None
        if isinstance(answer, Exception):
            raise answer
        return job, answer.unpacked()

    def _died(self, recording: str, told: str) -> Outcome | None:
        """What the death of a worker makes of its recording: None where that is tried again."""
        self.deaths[recording] += 1
        if self.deaths[recording] >= _DEATHS:
            return died(recording, f"{_DEATHS} workers died with it in hand, the last one {told}")
        log.warning("%s: its worker %s; another one tries again", recording, told)
        return None

    def _hand_out(self, left: deque[Job]) -> None:
        """A recording for every worker that has none."""
        for number in range(self.count):
            worker = self.workers.get(number)
            if not left:
                return
            if worker is not None and worker.job:
                continue
            if worker is None or not worker.process.is_alive():
                worker = self.workers[number] = self._start(number)
            worker.job = left.popleft()
            with contextlib.suppress(BrokenPipeError):  # dead already: its pipe tells
                worker.pipe.send(worker.job)

    def _start(self, number: int) -> _Worker:
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        device = f"auto:{number}" if self.device == "auto" else self.device
        process = spawn.Process(target=_serve, args=(theirs, self.order, device, threads_each(self.count)), daemon=True)
        with without_interrupts():
            process.start()
        theirs.close()  # so that the worker's death closes the pipe
        return _Worker(process, ours)

    def stop(self) -> None:
        """End all workers; what one has in hand is dropped, so that nothing of it is left behind."""
        for worker in self.workers.values():
            worker.pipe.close()
            if worker.job:
                worker.process.terminate()
        for worker in self.workers.values():
            worker.process.join(_PATIENCE_S)
            worker.process.kill()
            worker.process.join()


@contextmanager
def local_workers(count: int, order: Order, device: str) -> Iterator[Run]:
    """So many processes that take jobs, see ``extract.executor``; they are gone at the end of the block."""
    pool = _Pool(count, order, device)
    try:
        yield pool.run
    finally:
        pool.stop()


def _serve(pipe: Connection, order: Order, device: str, threads: int) -> None:
    """The life of a worker: ends with whoever started it, or by SIGTERM, which drops what is in hand."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is first imported
    try:
        while True:
            job = pipe.recv()
            try:
                answer: Receipt[Outcome | None] | Exception = work(order, device, job)
            except Exception as error:
                if not isinstance(error, AffuseError):
                    error.add_note(f"in a worker, at {job.recording.id}:\n{traceback.format_exc()}")
                answer = error
            pipe.send(answer)
    except (EOFError, BrokenPipeError):
        return
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)


def threads_each(count: int) -> int:
    """A worker's share of the cores that this process may use, and no more threads than were asked for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores // count, int(asked) if asked.isdecimal() and int(asked) else cores))


def _how(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL: the system does so where memory runs out)"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
