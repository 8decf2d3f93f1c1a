"""How both stages say how far they are: a live bar with the time left on a terminal, a few plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Step = Callable[[], None]


@contextmanager
def progress(label: str, total: int, *, quiet: bool = False) -> Iterator[Step]:
    """Yields a function to call once per finished item. Writes to stderr only, so stdout stays for results."""
    if quiet or not total:
        yield lambda: None
    elif sys.stderr.isatty():
        yield from _bar(label, total)
    else:
        yield from _lines(label, total)


def _bar(label: str, total: int) -> Iterator[Step]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(label, total=total)
        yield lambda: bars.advance(task)


def _lines(label: str, total: int) -> Iterator[Step]:
    start, done = time.monotonic(), 0

    def step() -> None:
        nonlocal done
        done += 1
        if done == total or done * 4 // total > (done - 1) * 4 // total:
            spent = time.monotonic() - start
            left = spent / done * (total - done)
            print(f"{label}: {done}/{total}, {spent:.0f} s, {left:.0f} s left", file=sys.stderr, flush=True)

    yield step
