"""A report's pictures: lines and text as SVG where nothing of a single frame is in them, pixels where there is."""

import base64
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from cache.terminal import visible
from fuse.elsewhere import F64
from fuse.numbers.metrics import Scores
from fuse.page.findings import RING, Bin, Region
from fuse.page.look import Seen
from fuse.plots import ANNOTATED, PREDICTED, SECOND, STYLE

COLOURS = {"valence": PREDICTED, "arousal": SECOND}
_SVG: dict[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": "affuse", "font.family": "sans-serif"}
_DPI = 150
_AXIS = ((-1.05, 1.05), (-1, -0.5, 0, 0.5, 1))  # limits, ticks
_PLANE: dict[str, Any] = dict(zip(("xlim", "xticks", "ylim", "yticks"), _AXIS * 2, strict=True))
_BLUES = ListedColormap(colormaps["Blues"](np.linspace(0.2, 1, 200)))


def svg(figure: Figure, name: str, told: str) -> Markup:
    """An inline SVG; its text stays text. name: begins its ids, so that no two pictures share one; told: instead."""
    file = io.StringIO()
    with style.context(_SVG):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    root = ET.fromstring(file.getvalue())
    for about in [c for c in root if c.tag.endswith("metadata")]:
        root.remove(about)
    own = f"{name}-"
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, own + value)
            elif key.endswith("href"):
                element.set(key, value.replace("#", f"#{own}", 1))
            elif "url(#" in value:
                element.set(key, value.replace("url(#", f"url(#{own}"))
    width = re.sub("pt$", "", root.attrib.pop("width"))
    root.attrib.pop("height")
    root.set("style", f"width: {float(width) / 0.75:.0f}px")
    root.set("role", "img")
    root.set("aria-label", visible(told))
    ET.register_namespace("", "http://www.w3.org/2000/svg")
    ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    return Markup(ET.tostring(root, encoding="unicode"))


def png(figure: Figure) -> str:
    """A data URL."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def trace_picture(seen: Seen, scores: Scores) -> str:
    """Both dimensions of one recording over time, annotation and raw prediction."""
    truth = np.where(seen.labels.labelled[:, None], seen.labels.va, np.nan)
    with style.context(STYLE):
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        axes = figure.subplots(2, 1, sharex=True)
        for i, (name, score) in enumerate((("valence", scores.valence), ("arousal", scores.arousal))):
            axes[i].plot(seen.times, truth[:, i], color=ANNOTATED, lw=1.3, label="annotated")
            axes[i].plot(seen.times, seen.pred[:, i], color=COLOURS[name], lw=1.2, label=f"{name}, predicted")
            axes[i].set(ylabel=f"{name}\nCCC {score:.2f}", ylim=(-1.05, 1.05), yticks=(-1, 0, 1))
            axes[i].margins(x=0.01)
            axes[i].legend(*axes[i].get_legend_handles_labels(), loc="lower left", bbox_to_anchor=(0, 0.97), ncols=2,
                           frameon=False, borderaxespad=0)  # fmt: skip
        axes[1].set_xlabel("time in the video (s)")
        return png(figure)


def scatter_picture(pred: F64, true: F64) -> str:
    """Prediction against annotation, both f64[N,2], frames counted in hexagons; the diagonal is a perfect model."""
    with style.context(STYLE):
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for i, name in enumerate(COLOURS):
            found = axes[i].hexbin(true[:, i], pred[:, i], gridsize=36, extent=(-1, 1, -1, 1), mincnt=1, bins="log",
                                   cmap=_BLUES, linewidths=0.1)  # fmt: skip
            axes[i].plot((-1, 1), (-1, 1), color=ANNOTATED, lw=0.9, ls="--")
            axes[i].set(xlabel=f"annotated {name}", **_PLANE)
            axes[i].set_box_aspect(1)
            figure.colorbar(found, ax=axes[i], label="frames", shrink=0.8, format="%d")
        axes[0].set_ylabel("predicted")
        return png(figure)


def calibration_picture(bins: dict[str, list[Bin]]) -> Markup:
    """By dimension, the mean prediction in each bin of the annotation, its quartiles as bars."""
    with style.context(STYLE):
        figure = Figure(figsize=(8, 3.7), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for ax, (name, found) in zip(axes, bins.items(), strict=True):
            _calibration(ax, name, found)
        axes[0].set_ylabel("predicted, mean and quartiles")
        return svg(
            figure, "calibration", "mean prediction over the annotated value; the numbers are in the table below"
        )


def _calibration(ax: Axes, name: str, bins: Sequence[Bin]) -> None:
    told = [(b, b.mean, b.quartiles) for b in bins if b.mean is not None and b.quartiles is not None]
    centre = [(b.low + b.high) / 2 for b, _, _ in told]
    ax.plot((-1, 1), (-1, 1), color=ANNOTATED, lw=0.9, ls="--")
    ax.vlines(centre, [q[0] for _, _, q in told], [q[1] for _, _, q in told], color=COLOURS[name], lw=5, alpha=0.3)
    ax.plot(centre, [m for _, m, _ in told], color=COLOURS[name], marker="o", ms=4, lw=1.3)
    ax.set(xlabel=f"annotated {name}", **_PLANE)
    ax.set_box_aspect(1)


def region_picture(found: Sequence[Region]) -> Markup:
    """The circumplex in sectors and two rings: the darker, the larger the error; too few frames are left white."""
    half = len(found) // 2
    errors = [r.error for r in found if r.error is not None]
    low, high = (min(errors), max(errors)) if errors else (0.0, 1.0)
    with style.context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(5.2, 4.4), layout="constrained")
        ax = figure.subplots(subplot_kw={"projection": "polar"})
        for i, region in enumerate(found):
            centre, bottom = i % half * 2 * np.pi / half, RING * region.outer
            share = 0.0 if region.error is None else (region.error - low) / max(high - low, 1e-9)
            colour = "#ffffff" if region.error is None else _BLUES(share)
            ax.bar(centre, RING, width=2 * np.pi / half, bottom=bottom, color=colour, edgecolor="#888888", lw=0.6)
            if region.error is not None:
                ink = "white" if share > 0.45 else "black"
                at = bottom + RING * (0.55 if region.outer else 0.62)
                ax.text(centre, at, f"{region.error:.2f}", ha="center", va="center", color=ink, fontsize=8)
        names = [r.sector for r in found[:half]]
        ax.set_xticks(np.arange(half) * 2 * np.pi / half, names, fontsize=8)
        ax.tick_params(pad=13)
        ax.set(yticks=(), ylim=(0, 2 * RING))
        ax.spines["polar"].set_visible(False)
        return svg(figure, "regions", "mean absolute error by region of the circumplex; the numbers are in the table")
