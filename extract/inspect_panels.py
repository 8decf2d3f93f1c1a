"""The panels of a picture of one recording, each drawn on axes of its own. A modality has the same colour in all."""

import textwrap
from unicodedata import east_asian_width

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.transforms import blended_transform_factory

from extract.blocks import TimedText
from extract.inspect import HOP_S, Shown

VALENCE, AROUSAL, INK, PALE = "#0072B2", "#D55E00", "#222222", "#eeeeee"  # Okabe-Ito: told apart by everyone
MODALITY = {"visual": "#009E73", "audio": "#CC79A7", "text": "#E69F00"}
GREY, SMALL = "#777777", 7.5  # of what is told beside the data, and its size in points
WIDTH_IN, LEFT_IN, RIGHT_IN, MARGIN_IN = 11.0, 1.95, 0.5, 0.09  # of the picture, beside the axes, and of all text
ACROSS_IN = WIDTH_IN - LEFT_IN - RIGHT_IN
_COLUMNS = 598  # two pixels each: as many differences as are seen from left to right
_LANES, _FONT, _LETTER = 4, 8.0, 0.6  # rows of words at most, their size in points, the width of a letter in sizes
_STRIP = 0.35  # height of the row of words without room for their text, in lanes
_KEY_LETTERS, _NAME_LETTERS = 26, 22
_FLOOR_DB = -80
_CLOCK_FROM_S = 180.0  # recordings that last until later have minutes
Runs = list[tuple[float, float]]


def name_panel(ax: Axes, text: str, at: float = 0.5) -> None:
    """What a panel shows, at the left edge of the picture; at: how high, in heights of the panel."""
    place = {"xy": (MARGIN_IN / WIDTH_IN, at), "xycoords": ("figure fraction", "axes fraction"), "va": "center"}
    lines = [line for told in text.split("\n") for line in textwrap.wrap(told, _NAME_LETTERS)]
    ax.annotate("\n".join(lines), **place, parse_math=False, linespacing=1.3)


def in_minutes(end: float) -> bool:
    """Whether the times of a recording that ends then (s) are told in minutes."""
    return end > _CLOCK_FROM_S


def clock(time: float, end: float) -> str:
    """A time of a recording that ends at ``end`` (s), in words."""
    return f"{int(time // 60)}:{time % 60:05.2f}" if in_minutes(end) else f"{time:.2f} s"


def _runs(mask: npt.NDArray[np.bool_], edges: npt.NDArray[np.float64]) -> Runs:
    """(start, length) in seconds of the frames that are set, neighbours joined."""
    turns = np.flatnonzero(np.diff(np.r_[False, mask, False].astype(np.int8))).reshape(-1, 2)
    return [(float(edges[a]), float(edges[b] - edges[a])) for a, b in turns]


def draw_pictures(ax: Axes, shown: Shown, what: str) -> None:
    """Thumbnails side by side, each over the part of the recording it is from, with its time."""
    begin, end, parts = float(shown.timeline.pts[0]), shown.timeline.end, len(shown.at)
    cell = (end - begin) / parts
    high = ax.get_position().height * ax.get_figure().get_size_inches()[1]  # inches
    for i, (time, picture) in enumerate(zip(shown.at, shown.pictures[what], strict=False)):
        middle = begin + (i + 0.5) * cell
        if picture is None:
            ax.text(middle, 0.5, "no face", ha="center", va="center", color=GREY, fontsize=SMALL)
            continue
        wide = high * picture.shape[1] / picture.shape[0] / (ACROSS_IN / parts)  # in cells, if as high as it may
        scale = min(1.0, 0.95 / wide)
        half = wide * scale * cell / 2
        extent = (middle - half, middle + half, 0.5 - scale / 2, 0.5 + scale / 2)
        ax.imshow(_small(picture), extent=extent, aspect="auto", interpolation="antialiased")
        said = clock(time, end) if what == next(iter(shown.pictures)) else ""
        ax.text(middle, 0.5 + scale / 2, said, ha="center", va="bottom", color=GREY, fontsize=6.5)
    ax.set(ylim=(0, 1), yticks=[])
    ax.grid(False)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.tick_params(bottom=False)
    name_panel(ax, what)


def _small(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Every n-th pixel, still more than are drawn."""
    step = max(1, min(picture.shape[:2]) // 300)
    return picture[::step, ::step]


def picture_height(pictures: list[npt.NDArray[np.uint8] | None]) -> float:
    """Inches that the widest of them needs to fill its part of the axis."""
    aspects = [p.shape[0] / p.shape[1] for p in pictures if p is not None]
    return float(np.clip(0.95 * ACROSS_IN / len(pictures) * max(aspects, default=0.3), 0.25, 1.2))


def level_step(shown: Shown) -> int:
    """How many hops share one column of the picture."""
    hops = len(shown.level[0]) if shown.level else 0
    return -(-hops // _COLUMNS) if hops > 2 * _COLUMNS else 1


def draw_level(ax: Axes, shown: Shown) -> None:
    """Level of the sound; where there is more than can be seen, the loudest of each column."""
    times, level = shown.level if shown.level else (np.empty(0), np.empty(0))
    step = level_step(shown)
    starts = np.arange(0, len(level), step)
    loudest = np.maximum(np.maximum.reduceat(level, starts), _FLOOR_DB)
    edges = np.append(times[starts], times[-1] + HOP_S) - HOP_S / 2
    ax.stairs(loudest, edges, baseline=_FLOOR_DB, fill=True, color=MODALITY["audio"], lw=0)
    ax.set(ylim=(_FLOOR_DB, 0), yticks=[-80, -40, 0])
    name_panel(ax, "sound level\ndB of full scale")


def place_words(shown: Shown) -> tuple[list[tuple[TimedText, str, int]], int]:
    """Words with the text and lane they get, -1 for no room; and how many lanes are used."""
    begin, end = float(shown.timeline.pts[0]), shown.timeline.end
    letter = _LETTER * _FONT / 72 / ACROSS_IN * (end - begin)  # seconds that a letter takes
    free, placed = [-np.inf] * _LANES, []
    for unit in shown.words:
        text = textwrap.shorten(unit.text, max(36, int((unit.end - unit.start) / letter)), placeholder="…")
        wide = letter * (sum(2 if east_asian_width(c) in "WF" else 1 for c in text) + 1)
        lane = next((i for i, until in enumerate(free) if until <= unit.start), -1)
        if unit.start + wide > end + letter * 6 or unit.start < begin:
            lane = -1
        if lane >= 0:
            free[lane] = max(unit.start + wide, unit.end)
        placed.append((unit, text, lane))
    return placed, max((lane + 1 for *_, lane in placed), default=1) or 1


def too_many_words(shown: Shown) -> bool:
    """Whether there is room for the text of less than half of the words."""
    placed, _ = place_words(shown)
    return sum(lane >= 0 for *_, lane in placed) < len(placed) / 2 and len(placed) > 50


def draw_words(ax: Axes, shown: Shown) -> None:
    """Every unit as a bar while it is spoken, with its text; where there are too many, how many a minute."""
    by = f"\nheard by {shown.heard_by}" if shown.heard_by else ""
    if too_many_words(shown):
        edges = np.linspace(shown.timeline.pts[0], shown.timeline.end, 121)
        counts, _ = np.histogram([(u.start + u.end) / 2 for u in shown.words], edges)
        ax.stairs(counts * 60 / np.diff(edges), edges, fill=True, color=MODALITY["text"], lw=0)
        ax.set_ylim(0, None)
        name_panel(ax, f"{len(shown.words)} words\nhow many a minute{by}")
        return
    placed, lanes = place_words(shown)
    for unit, text, lane in placed:
        top, high = (lane + 0.06, 0.88) if lane >= 0 else (lanes + 0.05, _STRIP)
        ax.broken_barh([(unit.start, unit.end - unit.start)], (top, high), color=MODALITY["text"], alpha=0.35, lw=0)
        ax.plot([unit.start] * 2, (top, top + high), color=MODALITY["text"], lw=1.4)
        if lane >= 0:
            ax.text(unit.start, lane + 0.53, f" {text}", fontsize=_FONT, va="center", color=INK, parse_math=False)
    ax.set(ylim=(lanes + 0.1 + _STRIP, 0), yticks=[])
    ax.spines["left"].set_visible(False)
    dropped = sum(lane < 0 for *_, lane in placed)
    name_panel(ax, f"{len(placed)} words{by}" + (f"\n({dropped} without room,\nlowest row)" if dropped else ""))


def words_height(shown: Shown) -> float:
    """Inches that the words need."""
    return 0.6 if too_many_words(shown) else max(0.19 * (place_words(shown)[1] + _STRIP), 0.4)


def draw_presence(ax: Axes, shown: Shown) -> None:
    """A row a stream: coloured where its features are present, pale where not."""
    edges = shown.timeline.edges
    for row, (modality, present) in enumerate(shown.streams.values()):
        if present is None or len(present) != len(shown.timeline):
            what = (
                f"{len(present)} frames, not {len(shown.timeline)}: damaged" if present is not None else "not extracted"
            )
            ax.text(float(edges[0]), row, f" {what}", va="center", fontsize=SMALL, color=GREY)
            continue
        ax.broken_barh([(edges[0], edges[-1] - edges[0])], (row - 0.34, 0.68), color=PALE, lw=0)
        colour = MODALITY.get(modality, INK)
        if many_turns(present):
            extent = (float(edges[0]), float(edges[-1]), row - 0.34, row + 0.34)
            ax.imshow(
                _shaded(present, edges, colour), extent=extent, aspect="auto", interpolation="antialiased", zorder=2
            )
        else:
            ax.broken_barh(_runs(present, edges), (row - 0.34, 0.68), color=colour, lw=0)
        ax.annotate(
            f"{_share(present)}",
            (1, row),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=SMALL,
            xytext=(4, 0),
            textcoords="offset points",
        )
    names = [k if len(k) <= _KEY_LETTERS else f"{k[: _KEY_LETTERS - 9]}…{k[-8:]}" for k in shown.streams]
    ax.set_yticks(range(len(names)), names, parse_math=False, ha="left", fontsize=8)
    ax.tick_params(axis="y", length=0, pad=(LEFT_IN - MARGIN_IN) * 72)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.spines["left"].set_visible(False)


def many_turns(mask: npt.NDArray[np.bool_]) -> bool:
    """Whether frames come and go more often than can be seen."""
    return int(np.count_nonzero(np.diff(mask.astype(np.int8)))) > _COLUMNS


def _shaded(mask: npt.NDArray[np.bool_], edges: npt.NDArray[np.float64], colour: str) -> npt.NDArray[np.float64]:
    """f64[1,columns,3]: the more frames of a column are present, the less pale it is."""
    turns = np.linspace(edges[0], edges[-1], _COLUMNS + 1)
    first = np.clip(np.searchsorted(edges, turns, "right") - 1, 0, len(mask) - 1)
    count = np.append(0, np.cumsum(mask))
    last = np.maximum(first[1:], first[:-1] + 1)
    share = (count[last] - count[first[:-1]]) / (last - first[:-1])
    return (share[:, None] * to_rgb(colour) + (1 - share[:, None]) * to_rgb(PALE))[None]


def _share(mask: npt.NDArray[np.bool_]) -> str:
    """A share in per cent that says 100 and 0 of nothing but all and none."""
    percent = 100 * float(mask.mean())
    return f"{percent:.0f} %" if percent in (0, 100) else f"{min(max(percent, 0.1), 99.9):.1f} %"


def draw_labels(ax: Axes, shown: Shown) -> None:
    """Valence and arousal of the first protocol; grey where frames are not labelled."""
    protocol, labels = next(iter(shown.labels.items()))
    va = np.where(labels.labelled[:, None], labels.va, np.nan)
    steps = np.append(va, va[-1:], axis=0)  # a label holds while its frame is shown
    if gaps := _runs(~labels.labelled, shown.timeline.edges):
        ax.broken_barh(gaps, (-1.05, 2.1), color="#dddddd", lw=0, label="not labelled")
    ax.axhline(0, color="#999999", lw=0.8)
    for row, (name, colour, dash) in enumerate((("valence", VALENCE, "-"), ("arousal", AROUSAL, (0, (4, 1.2))))):
        ax.step(shown.timeline.edges, steps[:, row], where="post", color=colour, ls=dash, lw=1.5, label=name)
    ax.set(ylim=(-1.05, 1.05), yticks=[-1, -0.5, 0, 0.5, 1])
    part = f"{shown.partitions[protocol]}\n" if shown.partitions.get(protocol) else ""
    name_panel(ax, f"labels: {protocol}\n{part}{_share(labels.labelled)} labelled", 0.76)
    place = blended_transform_factory(ax.get_figure().transFigure, ax.transAxes)
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(MARGIN_IN / WIDTH_IN, 0),
        bbox_transform=place,
        frameon=False,
        borderaxespad=0,
        borderpad=0,
        fontsize=8,
    )


def intervals(shown: Shown) -> npt.NDArray[np.float64]:
    """How long each frame is shown, in ms."""
    return np.diff(shown.timeline.edges) * 1000


def draw_intervals(ax: Axes, shown: Shown) -> None:
    """How long each frame is shown."""
    gaps = intervals(shown)
    ax.stairs(gaps, shown.timeline.edges, color=INK, lw=0.9, baseline=None)
    ax.set_ylim(0, float(gaps.max()) * 1.15)
    name_panel(ax, "each frame\nis shown for (ms)")
