"""How both stages say how far they are: a live bar with the time left on a terminal, a few plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Step(Protocol):
    """Called once per finished item. told: what is worth knowing by now, until the next says something else."""

    def __call__(self, told: str = "") -> None: ...  # noqa: D102


@contextmanager
def progress(label: str, total: int, *, quiet: bool = False) -> Iterator[Step]:
    """Yields a function to call once per finished item. Writes to stderr only, so stdout stays for results."""
    if quiet or not total:
        yield lambda told="": None
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
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[told]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(label, total=total, told="")
        yield lambda told="": bars.update(task, advance=1, told=told)


def _lines(label: str, total: int) -> Iterator[Step]:
    start, done = time.monotonic(), 0

    def step(told: str = "") -> None:
        nonlocal done
        done += 1
        if done == total or done * 4 // total > (done - 1) * 4 // total:
            spent = time.monotonic() - start
            left = spent / done * (total - done)
            line = f"{label}: {done}/{total}, {spent:.0f} s, {left:.0f} s left"
            print(f"{line}, {told}" if told else line, file=sys.stderr, flush=True)

    yield step
