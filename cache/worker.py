"""What a process does that works for another one, here or on another machine: one job at a time, in its folder.

Small things travel alone: what came of a job, and what there was to log about it.
"""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from typing import Generic, TypeVar

from cache.errors import MissingData

T = TypeVar("T")
Logged = list[tuple[int, str]]  # level, text

log = logging.getLogger("affuse")
SHARED = "workers need the same paths: run on storage that all of them share"
_one_at_a_time = threading.Lock()  # encoders hold rows back; torch's settings and random numbers are the process's


@dataclass(frozen=True)
class Receipt(Generic[T]):
    """What a worker sends back: what came of its job, and what it had to log."""

    outcome: T
    logged: Logged = field(default_factory=list)

    def unpacked(self) -> T:
        """The outcome; what the worker had to log is logged here."""
        for level, text in self.logged:
            log.log(level, "%s", text)
        return self.outcome


@contextmanager
def at_work_in(folder: str) -> Iterator[Logged]:
    """A job, for whoever gave it in this folder; whatever it logs is in the list.

    Raises MissingData where the folder is not to be seen here.
    """
    with _one_at_a_time, _Kept() as kept:
        try:
            os.chdir(folder)
        except OSError as error:
            told = f"a worker on {os.uname().nodename} does not see the folder {folder}: {error.strerror}"
            raise MissingData(told, hint=SHARED) from error
        yield kept.logged


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes that are started in the block never hear Ctrl-C: it is for us, who end them."""
    resource_tracker.ensure_running()  # which unblocks the signals when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Kept(logging.Handler):
    """Keeps what is logged in its block, for whoever gave the order."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.logged: Logged = []

    def __enter__(self) -> "_Kept":
        log.setLevel(logging.INFO)
        log.addHandler(self)
        return self

    def __exit__(self, *_error: object) -> None:
        log.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.logged.append((record.levelno, record.getMessage()))
