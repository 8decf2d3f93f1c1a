"""Curves of robustness: a panel for each modality and kind of corruption, a line for each run, its floor dashed."""

from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fuse.numbers.corrupt import UNITS
from fuse.numbers.robustness import Point, Robustness
from fuse.plots import STYLE

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")  # Okabe-Ito
MARKERS = (".", "^", "s", "x")


def plot_robustness(path: Path, found: Robustness) -> None:
    """``draw_robustness`` as a file."""
    with style.context(STYLE):
        draw_robustness(found).savefig(path)


def draw_robustness(found: Robustness) -> Figure:
    """Raw mean CCC over the level of corruption; bars are the standard deviation over patterns."""
    modalities, kinds = (list(dict.fromkeys(getattr(p, f) for p in found.points)) for f in ("modality", "kind"))
    runs = list(dict.fromkeys(p.run for p in found.points))
    looks = {run: (COLOURS[i % len(COLOURS)], MARKERS[i // len(COLOURS) % len(MARKERS)]) for i, run in enumerate(runs)}
    rows, columns = (1, len(modalities)) if len(kinds) == 1 else (len(modalities), len(kinds))
    with style.context(STYLE):
        size = (3.1 * columns + 0.6, 2.5 * rows + 0.25 * len(runs) + 0.8)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for at, (modality, kind) in enumerate((m, k) for m in modalities for k in kinds):
            _panel(axes[at], [p for p in found.points if (p.modality, p.kind) == (modality, kind)], looks)
            axes[at].set(xlabel=f"{modality}: {kind}, {UNITS[kind]}")
            if at % columns == 0:
                axes[at].set_ylabel("mean CCC, raw")
        handles: list[Any] = [
            Axes.plot(axes[0], [], [], color=c, marker=m, ms=4, label=r)[0] for r, (c, m) in looks.items()
        ]
        handles += Axes.plot(axes[0], [], [], color="#888888", ls="--", label="floor: the run with what remains")
        title = f"{found.dataset}, {found.partition}, {found.recordings} recordings"
        legend = figure.legend(handles=handles, loc="outside upper left", frameon=False, title=title)
        legend.set_alignment("left")
        return figure


def _panel(ax: Axes, points: list[Point], looks: dict[str, tuple[str, str]]) -> None:
    for run, (colour, marker) in looks.items():
        curve = [p for p in points if p.run == run]
        if not curve:
            continue
        level, mean, std = ([getattr(p, f) for p in curve] for f in ("level", "mean", "std"))
        ax.errorbar(level, mean, yerr=std, color=colour, marker=marker, ms=4, lw=1.3, capsize=2)
        if (floor := curve[0].floor) is not None:
            ax.axhline(floor, color="#888888", ls="--", lw=0.9)
