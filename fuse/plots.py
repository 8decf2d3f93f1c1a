"""Pictures of runs: predicted against annotated traces, the circumplex, an ablation as bars."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.patches
import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cache.records import Labels
from fuse.numbers.metrics import ccc_va
from fuse.prediction_files import F64, prediction_file, read_predictions
from fuse.tables.summary import RowResult

ANNOTATED, PREDICTED, SECOND = "#222222", "#0072B2", "#D55E00"  # Okabe-Ito: told apart by everyone
STYLE: dict[str, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True}
STYLE |= {"grid.color": "#e5e5e5", "axes.axisbelow": True, "figure.dpi": 140}
STYLE |= {"text.parse_math": False}  # a name with dollars is no formula


def predicted_by(run: Path, partition: str, recording: str) -> tuple[F64, F64]:
    """Times f64[T] in seconds and raw predictions f64[T,2] that a run saved."""
    return read_predictions(prediction_file(run / "predictions" / partition, recording))


def plot_traces(path: Path, recording: str, run: Path, partition: str, labels: Labels) -> None:
    """Valence and arousal of one recording over time, annotation and prediction."""
    times, pred = predicted_by(run, partition, recording)
    scores = ccc_va(pred, labels.va, labels.labelled)
    truth = np.where(labels.labelled[:, None], labels.va, np.nan)
    with style.context(STYLE):
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        axes = figure.subplots(2, 1, sharex=True)
        for row, (name, score) in enumerate((("valence", scores.valence), ("arousal", scores.arousal))):
            axes[row].plot(times, truth[:, row], color=ANNOTATED, lw=1.4, label="annotated")
            axes[row].plot(times, pred[:, row], color=PREDICTED, lw=1.2, label="predicted, raw")
            axes[row].set(ylabel=name, ylim=(-1.05, 1.05), title=f"{name}, CCC of this recording {score:.2f}")
            axes[row].title.set(fontsize=9, ha="left", x=0.0)
        axes[1].set_xlabel("time in the video (s)")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
        figure.suptitle(f"{recording} ({partition}), {run.name}", fontsize=10, x=0.01, ha="left")
        figure.savefig(path)


def plot_circumplex(path: Path, run: Path, partition: str, labels: dict[str, Labels]) -> None:
    """All labelled frames of a partition in the plane of valence and arousal: annotated beside predicted."""
    with style.context(STYLE):
        figure = Figure(figsize=(8, 4.6), layout="constrained")
        axes = figure.subplots(1, 2, sharex=True, sharey=True)
        for recording, label in labels.items():
            _, pred = predicted_by(run, partition, recording)
            for ax, va, colour in ((axes[0], label.va, ANNOTATED), (axes[1], pred, PREDICTED)):
                ax.plot(*va[label.labelled].T, ".", ms=2, alpha=0.35, color=colour)
        for ax, title in zip(axes, ("annotated", "predicted, raw"), strict=True):
            _circumplex_axes(ax, title)
        figure.suptitle(f"{partition}, {run.name}", fontsize=10, x=0.01, ha="left")
        figure.savefig(path)


def _circumplex_axes(ax: Axes, title: str) -> None:
    angle = np.linspace(0, 2 * np.pi, 200)
    ax.plot(np.cos(angle), np.sin(angle), color="#bbbbbb", lw=0.8)
    ax.axhline(0, color="#bbbbbb", lw=0.8)
    ax.axvline(0, color="#bbbbbb", lw=0.8)
    ticks = (-1, -0.5, 0, 0.5, 1)
    ax.set(xlabel="valence", ylabel="arousal", xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), xticks=ticks, yticks=ticks)
    ax.set_title(title, fontsize=9)
    ax.set_box_aspect(1)


def plot_ablation(path: Path, rows: Sequence[RowResult], partition: str) -> None:
    """Mean CCC of each row as a bar, raw and smoothed, every seed as a dot."""
    with style.context(STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(8, 0.55 * len(rows) + 1.3), layout="constrained")
        ax = figure.subplots()
        for at, row in enumerate(rows):
            for shift, kind, colour in ((-0.18, row.raw, PREDICTED), (0.18, row.smoothed, SECOND)):
                ax.barh(at + shift, kind["mean"].mean, height=0.34, color=colour, alpha=0.45 if row.control else 0.9)
                seeds = kind["mean"].values
                ax.plot(seeds, np.full(len(seeds), at + shift), ".", color=ANNOTATED, ms=4)
        ax.set_yticks(range(len(rows)), [r.label for r in rows])
        ax.invert_yaxis()
        ax.axvline(0, color=ANNOTATED, lw=0.8)
        ax.set_xlabel(f"mean CCC of valence and arousal on {partition}; dots are seeds")
        handles = [matplotlib.patches.Patch(color=c, label=n) for c, n in ((PREDICTED, "raw"), (SECOND, "smoothed"))]
        figure.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False)
        figure.savefig(path)
