"""How training went, in characters: one line while it runs, two small curves after it."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

HEIGHT, WIDEST = 7, 80  # of the drawn curves: lines, and columns of both
_MARGIN, _BESIDE = 8, 60  # columns of the numbers on the left; from so many on the curves are side by side
_CURVES = {"mean": "validation CCC by epoch", "loss": "training loss by epoch"}
_LEVELS = "▁▂▃▄▅▆▇█"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille character, by row and column


def spark(values: Sequence[float], width: int) -> str:
    """``▁▂▅▇█  0.102 to 0.681``: a character a value, the mean of several where there are more than fit the width.

    "" for no value, and where one is no number.
    """
    if not values or not np.isfinite(values).all():
        return ""
    told = f"  {min(values):.3f} to {max(values):.3f}"
    room = max(1, min(len(values), width - len(told)))
    means = np.array([np.mean(part) for part in np.array_split(values, room)])
    span = np.ptp(means)
    levels = np.round((means - means.min()) / (span or 1.0) * (len(_LEVELS) - 1)).astype(int)
    return ("".join(_LEVELS[i] for i in levels) + told)[:width]


def curve_lines(history: Sequence[dict[str, float]], width: int) -> list[str]:
    """Validation CCC and training loss by epoch, without the one that is not all numbers.

    history: a row an epoch, with ``loss`` and ``mean``; a single one is no curve.
    """
    if len(history) < 2 or width < 2 * _MARGIN:
        return []
    columns = min(width, WIDEST) // 2 - 1 if width >= _BESIDE else width
    curves = {title: [row[name] for row in history] for name, title in _CURVES.items()}
    drawn = [_drawn(values, title, columns) for title, values in curves.items() if np.isfinite(values).all()]
    if width < _BESIDE or len(drawn) < 2:
        return [line for lines in drawn for line in lines]
    return [f"{left:<{columns + 2}}{right}".rstrip() for left, right in zip(*drawn, strict=True)]


def _drawn(values: list[float], title: str, width: int) -> list[str]:
    """A title, the curve, and its epochs, from 1 on."""
    columns = width - _MARGIN
    low, high = min(values), max(values)
    edges = {0: f"{high:.3f}", HEIGHT - 1: f"{low:.3f}"}
    rows = [f"{edges.get(i, ''):>{_MARGIN - 2}} │{line}".rstrip() for i, line in enumerate(_dots(values, columns))]
    ends = f"1{len(values):>{columns - 1}}"
    return [f"{'':{_MARGIN}}{title}", *rows, f"{'':{_MARGIN - 1}}└{'─' * columns}", f"{'':{_MARGIN}}{ends}"]


def _dots(values: list[float], columns: int) -> list[str]:
    """The values joined by lines, in braille characters of 2 x 4 dots; every value lies on the line."""
    wide, tall = 2 * columns, 4 * HEIGHT
    low, high = min(values), max(values)
    at = np.unique(np.concatenate([np.arange(len(values)), np.linspace(0, len(values) - 1, wide)]))
    x = np.round(at / (len(values) - 1) * (wide - 1)).astype(int)
    y = np.round((high - np.interp(at, np.arange(len(values)), values)) / ((high - low) or 1.0) * (tall - 1)).astype(
        int
    )
    cells = np.zeros((HEIGHT, columns), int)
    for (a, b), c in zip(zip(y, [*y[1:], y[-1]], strict=True), x, strict=True):
        for row in range(min(a, b), max(a, b) + 1):
            cells[row // 4, c // 2] |= _DOTS[row % 4][c % 2]
    return ["".join(chr(0x2800 + cell) if cell else " " for cell in row) for row in cells]


def read_history(run: Path) -> list[dict[str, float]]:
    """A run's ``history.csv``: a row an epoch."""
    with open(run / "history.csv", newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
