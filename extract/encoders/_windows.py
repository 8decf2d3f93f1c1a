"""Overlapping windows over a sequence too long for one pass, each position read where it lies most centrally."""

from dataclasses import dataclass
from itertools import pairwise

from cache.errors import UsageError


@dataclass(frozen=True)
class Window:
    """Positions ``[start, stop)`` are seen together; ``[first, last)`` of them are read from this window."""

    start: int
    stop: int
    first: int
    last: int


def windows(total: int, size: int, stride: int) -> list[Window]:
    """Windows of ``size`` every ``stride`` positions, the last one flush with the end; one if ``total <= size``.

    All windows have the same length, so a batch of them needs no padding. Each position is in exactly one
    ``[first, last)``: that of the window whose centre is nearest.
    """
    if not 0 < stride <= size:
        raise UsageError(f"windows of {size} every {stride} leave gaps", hint="the stride must be 1 to the window size")
    if total <= size:
        return [Window(0, total, 0, total)] if total else []
    starts = [*range(0, total - size, stride), total - size]
    cuts = [0, *((a + b + size + 1) // 2 for a, b in pairwise(starts)), total]
    return [Window(s, s + size, a, b) for s, (a, b) in zip(starts, pairwise(cuts), strict=True)]
