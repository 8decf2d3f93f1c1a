"""Curves of robustness: a panel for each modality and kind of corruption, a line for each run, its floor dashed."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fuse.corrupt import UNITS
from fuse.plots import STYLE
from fuse.robustness import Point, Robustness

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")  # Okabe-Ito


def plot_robustness(path: Path, found: Robustness) -> None:
    """Raw mean CCC over the level of corruption; bars are the standard deviation over patterns."""
    modalities, kinds = (list(dict.fromkeys(getattr(p, f) for p in found.points)) for f in ("modality", "kind"))
    runs = list(dict.fromkeys(p.run for p in found.points))
    colours = {run: COLOURS[i % len(COLOURS)] for i, run in enumerate(runs)}
    with style.context(STYLE):
        size = (3.1 * len(kinds) + 0.6, 2.5 * len(modalities) + 0.35 * len(runs) + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        axes = np.atleast_2d(figure.subplots(len(modalities), len(kinds), sharey=True, squeeze=False))
        for row, modality in enumerate(modalities):
            for column, kind in enumerate(kinds):
                panel = [p for p in found.points if (p.modality, p.kind) == (modality, kind)]
                _panel(axes[row, column], panel, colours)
                axes[row, column].set(xlabel=f"{modality}: {kind}, {UNITS[kind]}")
            axes[row, 0].set_ylabel("mean CCC, raw")
        handles: list[Any] = [
            Axes.plot(axes[0, 0], [], [], color=c, marker=".", label=r)[0] for r, c in colours.items()
        ]
        handles += Axes.plot(axes[0, 0], [], [], color="#888888", ls="--", label="floor: the run with what remains")
        figure.legend(handles=handles, loc="outside upper left", frameon=False)
        figure.suptitle(f"{found.dataset}, {found.partition}, {found.recordings} recordings", fontsize=10)
        figure.savefig(path)


def _panel(ax: Axes, points: list[Point], colours: dict[str, str]) -> None:
    for run, colour in colours.items():
        curve = [p for p in points if p.run == run]
        if not curve:
            continue
        level, mean, std = ([getattr(p, f) for p in curve] for f in ("level", "mean", "std"))
        ax.errorbar(level, mean, yerr=std, color=colour, marker=".", lw=1.3, capsize=2)
        if (floor := curve[0].floor) is not None:
            ax.axhline(floor, color="#888888", ls="--", lw=0.9)
