"""An ablation as bars, in percent of a line's width: a page lays them out at any width, in its own colours."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fuse.tables.summary import RowResult


@dataclass(frozen=True)
class Bar:
    """One row. left, width: of the bar; low, high: of its interval, None without; seeds: where each seed lies."""

    label: str
    text: str
    control: bool
    left: float
    width: float
    low: float | None
    high: float | None
    seeds: list[float]


@dataclass(frozen=True)
class Bars:
    """Best first. ticks: places and what they say; zero: the place of a CCC of 0."""

    bars: list[Bar]
    ticks: list[tuple[float, str]]
    zero: float


def bars_of(rows: Sequence[RowResult]) -> Bars:
    """Raw mean CCC of each row, with its interval over recordings, on one axis that holds 0."""
    values = [0.0]
    for row in rows:
        over = row.intervals["raw"]
        values += [*row.raw["mean"].values, *([over.mean.low, over.mean.high] if over else [])]
    step = 0.1 if max(values) - min(values) < 0.85 else 0.2
    low, high = math.floor(min(values) / step), max(math.ceil(max(values) / step), 1)

    def at(value: float) -> float:
        return round(100 * (value / step - low) / (high - low), 3)

    ranked = sorted(rows, key=lambda r: (r.control, -r.raw["mean"].mean))
    ticks = [(at(i * step), f"{i * step:.1f}") for i in range(low, high + 1)]
    return Bars([_bar(row, at) for row in ranked], ticks, at(0))


def _bar(row: RowResult, at: Callable[[float], float]) -> Bar:
    found, over = row.raw["mean"], row.intervals["raw"]
    ends = sorted((at(0), at(found.mean)))
    return Bar(
        label=row.label,
        text=f"{found.mean:.3f}",
        control=row.control,
        left=ends[0],
        width=round(ends[1] - ends[0], 3),
        low=at(over.mean.low) if over else None,
        high=at(over.mean.high) if over else None,
        seeds=[at(v) for v in found.values] if len(found.values) > 1 else [],
    )
