"""How both stages say how far they are: a live bar with the time left on a terminal, a few plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from cache.terminal import visible

_A_SECOND = 4  # so often a terminal is drawn anew
_BAR = 4  # columns, at the least


class Step(Protocol):
    """Called once per finished item. told: what is worth knowing by now, until the next says something else; part: of
    the whole, where items are not alike.
    """

    def __call__(self, told: str = "", part: float = 1.0) -> None: ...  # noqa: D102


@contextmanager
def progress(
    label: str,
    total: int,
    *,
    quiet: bool = False,
    whole: float | None = None,
    below: Callable[[int], list[str]] | None = None,
) -> Iterator[Step]:
    """Yields a function to call once per finished item. Writes to stderr only, so stdout stays for results.

    whole: the sum of all parts, where items are not alike; the time left goes by it. below: lines under the bar, given
    the columns there are; a thread of its own asks for them, on a terminal alone.
    """
    if quiet or not total:
        yield lambda told="", part=1.0: None
    elif sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown"):
        yield from _bar(_Count(label, total, whole or total), below)
    else:
        yield from _lines(_Count(label, total, whole or total))


class _Count:
    """How many of how many items, and when the rest will be done if it goes on like this. share: of the whole."""

    def __init__(self, label: str, total: int, whole: float) -> None:
        self.label, self.total, self.whole = label, total, whole
        self.done, self.share = 0, 0.0
        self.begun = time.monotonic()
        self.ends: float | None = None

    def step(self, part: float) -> None:
        """One more."""
        self.done += 1
        self.share = 1.0 if self.done == self.total else min(1.0, self.share + part / self.whole)
        now = time.monotonic()
        self.ends = now + (now - self.begun) * (1 / self.share - 1) if self.share else None

    @property
    def left(self) -> float | None:
        """Seconds; None where nothing can be said yet."""
        return None if self.ends is None else max(0.0, self.ends - time.monotonic())


def _bar(count: _Count, below: Callable[[int], list[str]] | None) -> Iterator[Step]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    console, known = Console(stderr=True), ""

    def line(text: str) -> Text:
        return Text(visible(text), no_wrap=True, overflow="ellipsis")

    def shown() -> Group:
        """On one line what has room there; what is known goes below before the bar gets too short."""
        ends = [f"{count.done}/{count.total} {_clock(count.left)}", known]
        room = console.width - len(f"{count.label}  {' '.join(ends)}") - 1
        if known and room < _BAR:
            ends, room = ends[:1], room + len(known) + 1
        row = Table.grid("", "", "", padding=(0, 1))
        row.add_row(line(count.label), ProgressBar(1.0, count.share, max(0, room)), line(" ".join(filter(None, ends))))
        under = [*([known] if len(ends) == 1 else []), *(below(console.width - 1) if below else [])]
        return Group(row, *map(line, under))

    def step(told: str = "", part: float = 1.0) -> None:
        nonlocal known
        count.step(part)
        known = told

    with Live(get_renderable=shown, console=console, refresh_per_second=_A_SECOND):
        yield step
        below = None  # it was of what was in hand


def _clock(seconds: float | None) -> str:
    """``left 01:30``, ``left 2:00:00``."""
    if seconds is None:
        return "left --:--"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"left {hours}:{m:02}:{s:02}" if hours else f"left {m:02}:{s:02}"


def _lines(count: _Count) -> Iterator[Step]:
    def step(told: str = "", part: float = 1.0) -> None:
        before = count.done
        count.step(part)
        if count.done == count.total or count.done * 4 // count.total > before * 4 // count.total:
            spent = time.monotonic() - count.begun
            left = "" if count.left is None else f", {count.left:.0f} s left"
            line = f"{count.label}: {count.done}/{count.total}, {spent:.0f} s{left}"
            print(f"{line}, {told}" if told else line, file=sys.stderr, flush=True)

    yield step
