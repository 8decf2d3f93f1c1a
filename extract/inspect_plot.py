"""One recording as a picture on one time axis: seen, heard, said, cached and labelled."""

import textwrap
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from cache.errors import UsageError
from extract import inspect_panels as panels
from extract.inspect import HOP_S, Shown

_STYLE: dict[str, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True}
_STYLE |= {"grid.color": "#e5e5e5", "axes.axisbelow": True, "figure.dpi": 140, "ytick.labelsize": 8}
_ABOVE_IN, _BETWEEN_IN, _BELOW_IN, _NOTE_IN = 0.62, 0.14, 0.5, 0.16
_NOTES, _NOTE_LETTERS, _TITLE_LETTERS = 6, 165, 90
_STEPS_S = (
    1,
    5,
    15,
    30,
    60,
    120,
    300,
    600,
    1200,
    1800,
    3600,
    7200,
    18000,
)  # between ticks, where they are minutes and seconds
_FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans Arabic", "Noto Sans Devanagari", "Unifont")
Panel = tuple[float, Callable[[Axes, Shown], None]]


def plot_recording(path: Path, shown: Shown) -> None:
    """Draw what there is; a panel that has nothing to show is left out, and the notes below say why.

    Raises UsageError for a file of a kind that is none of pictures.
    """
    figure = Figure()
    known = figure.canvas.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in known:
        raise UsageError(f"{path} is no name of a picture", hint=f"end it with one of .{', .'.join(sorted(known))}")
    with style.context(_STYLE | {"font.family": _fonts()}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # told below the picture
        figure = _drawn(shown)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def _fonts() -> list[str]:
    """The first, and those for other scripts that this machine has."""
    there = set(font_manager.get_font_names())
    return [name for name in _FONTS if name in there]


def _letters_missing(shown: Shown) -> set[str]:
    """Letters of words that no font here has."""
    paths = (font_manager.findfont(name) for name in _fonts())
    known = {code for path in paths for code in font_manager.get_font(path).get_charmap()}
    return {letter for unit in shown.words for letter in unit.text if ord(letter) not in known and not letter.isspace()}


def _drawn(shown: Shown) -> Figure:
    rows, told = _panels(shown), notes(shown)
    above = _ABOVE_IN + (0.1 if shown.pictures else 0)
    below = _BELOW_IN + _NOTE_IN * len(told)
    height = above + below + sum(h for h, _ in rows) + _BETWEEN_IN * (len(rows) - 1)
    figure = Figure(figsize=(panels.WIDTH_IN, height))
    top, first = height - above, None
    for row, (high, draw) in enumerate(rows):
        width = panels.WIDTH_IN
        box = (panels.LEFT_IN / width, (top - high) / height, panels.ACROSS_IN / width, high / height)
        ax = figure.add_axes(box, sharex=first)
        first = first or ax
        draw(ax, shown)
        if row < len(rows) - 1:
            ax.tick_params(bottom=False, labelbottom=False)
            ax.spines["bottom"].set_visible(False)
        top -= high + _BETWEEN_IN
    _time_axis(ax, shown)
    title = textwrap.shorten(shown.recording, _TITLE_LETTERS, placeholder="…")
    plain = {"parse_math": False, "va": "top"}
    figure.text(panels.MARGIN_IN / panels.WIDTH_IN, 1 - 0.1 / height, title, fontsize=12, weight="bold", **plain)
    figure.text(panels.MARGIN_IN / panels.WIDTH_IN, 1 - 0.33 / height, _about(shown), color=panels.GREY, **plain)
    small = {"fontsize": 8, "color": "#555555", "linespacing": 1.35}
    figure.text(panels.MARGIN_IN / panels.WIDTH_IN, (below - _BELOW_IN) / height, "\n".join(told), **small, **plain)
    return figure


def _time_axis(ax: Axes, shown: Shown) -> None:
    begin, end = float(shown.timeline.pts[0]), shown.timeline.end
    unit = "s"
    if panels.in_minutes(end):
        unit, step = "min:s", next((s for s in _STEPS_S if (end - begin) / s < 12), _STEPS_S[-1])
        ax.xaxis.set_major_formatter(lambda at, _: f"{int(at // 60)}:{at % 60:02.0f}")
        ax.xaxis.set_major_locator(MultipleLocator(step))
    ax.set_xlabel(f"time on the container's clock ({unit})" if shown.clock != "nominal" else f"time ({unit})")
    ax.set_xlim(begin, end)


def _panels(shown: Shown) -> list[Panel]:
    """Height in inches and drawing of every panel that has something to show."""
    there: list[Panel] = []
    for what, pictures in shown.pictures.items():
        there.append((panels.picture_height(pictures), partial(panels.draw_pictures, what=what)))
    if shown.level is not None:
        there.append((0.6, panels.draw_level))
    if shown.words:
        there.append((panels.words_height(shown), panels.draw_words))
    if shown.streams:
        there.append((0.23 * len(shown.streams), panels.draw_presence))
    if shown.labels:
        there.append((1.5, panels.draw_labels))
    if _uneven(shown) or not there:
        there.append((0.6, panels.draw_intervals))
    return there


def _about(shown: Shown) -> str:
    frames, seconds = len(shown.timeline), shown.timeline.end - float(shown.timeline.pts[0])
    rate = f"{frames / seconds:.2f} a second{' on average, unevenly' if _uneven(shown) else ''}" if frames > 1 else ""
    parts = [f"{frames} frame{'s' if frames > 1 else ''} in {seconds:.2f} s", rate, f"{shown.clock or 'unknown'} clock"]
    return "   ·   ".join(p for p in (shown.dataset, *parts) if p)


def notes(shown: Shown) -> list[str]:
    """Lines below the picture: what is missing, and what was thinned out because there is more than can be seen."""
    told = list(shown.missing)
    if (step := panels.level_step(shown)) > 1:
        told.append(f"thinned out: the level is of the loudest {HOP_S * 1000:.0f} ms in every {HOP_S * step:.2f} s")
    if shown.words and panels.too_many_words(shown):
        told.append(f"thinned out: {len(shown.words)} words are too many to write, so they are counted")
    elif lacking := len(_letters_missing(shown)):
        told.append(f"letters that no font here has, drawn as boxes: {lacking}; install one of {', '.join(_FONTS[1:])}")
    if len(shown.labels) > 1:
        told.append(f"there are labels of {', '.join(shown.labels)}: those of the first are drawn")
    masks = [key for key, (_, mask) in shown.streams.items() if mask is not None and panels.many_turns(mask)]
    if masks:
        told.append(f"thinned out: {', '.join(masks)}: the paler, the fewer frames are present")
    lines = [line for note in told for line in textwrap.wrap(note, _NOTE_LETTERS)]
    more = len(lines) - _NOTES
    return lines if more <= 0 else [*lines[: _NOTES - 1], f"and {more + 1} more lines"]


def _uneven(shown: Shown) -> bool:
    """Whether some frame is shown for another time than most: more than 2 % and 1.1 ms, a container's rounding."""
    gaps = panels.intervals(shown)
    middle = float(np.median(gaps))
    return bool(np.abs(gaps - middle).max() > max(0.02 * middle, 1.1))
