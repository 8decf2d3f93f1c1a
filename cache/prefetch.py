"""Work ahead in a thread: what comes next is read while the consumer computes.

The queue is bounded, so a fast reader waits and memory stays small. A reader that gives nothing for ``stall_s`` is an
error of its file, not the end of the run.
"""

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from cache.errors import DataError

T = TypeVar("T")
AHEAD = 2
STALL_S = 300.0
LEAVE_S = 5.0
_TICK_S = 0.1
_END = object()


def prefetched(items: Iterable[T], *, ahead: int = AHEAD, stall_s: float = STALL_S, what: str = "") -> Iterator[T]:
    """The same items in order, up to ``ahead`` of them read before they are asked for.

    An exception of the reader comes out where its item would have; one of the consumer ends the reader. Raises
    DataError where nothing comes for ``stall_s`` seconds; ``what`` says of which file.
    """
    ready: queue.Queue[Any] = queue.Queue(ahead)
    unwanted = threading.Event()
    reader = threading.Thread(target=_read, args=(items, ready, unwanted), daemon=True, name="affuse-reader")
    reader.start()
    stalled = False
    try:
        while True:
            try:
                item, error = ready.get(timeout=stall_s)
            except queue.Empty:
                stalled = True
                raise DataError(f"{what}: nothing could be read for {stall_s:g} s", hint="re-encode the file") from None
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        unwanted.set()
        if not stalled:  # a reader that hangs is left behind after a moment; it ends with the process
            reader.join(LEAVE_S)


def _read(items: Iterable[Any], ready: "queue.Queue[Any]", unwanted: threading.Event) -> None:
    try:
        for item in items:
            if not _put(ready, (item, None), unwanted):
                return
        _put(ready, (_END, None), unwanted)
    except BaseException as error:
        _put(ready, (None, error), unwanted)


def _put(ready: "queue.Queue[Any]", item: Any, unwanted: threading.Event) -> bool:
    while not unwanted.is_set():
        try:
            ready.put(item, timeout=_TICK_S)
            return True
        except queue.Full:
            continue
    return False


def within(items: Iterable[T], until: float, what: str) -> Iterator[T]:
    """The same items; DataError where one is asked for after ``until`` (of ``time.monotonic``)."""
    for item in items:
        if time.monotonic() > until:
            raise DataError(
                f"{what} was given up: its deadline has passed",
                hint="look at the file, or give more time: --set deadline_s=SECONDS",
            )
        yield item
