"""What the n-th ablation costs: encoders run once, or frozen but in the loop of every epoch. Measured, then drawn.

Both ways train the same head for the same epochs; the usual one computes the same frozen features again each time.
"""

import itertools
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from stage_one import swin, write_film
from stage_two import write_cache

from cache.records import Recording
from cache.store import FeatureCache
from extract.job import extract_recording
from fuse.many import run_many
from fuse.plots import STYLE
from fuse.recipe import TrainRecipe

RESULTS = Path(__file__).parent / "results"
HOURS, FPS, EPOCHS, RUNS = 1, 25, 20, 10


def rates() -> tuple[float, float]:
    """Seconds a frame: of extraction (Swin-B, bf16, from a film), and of one epoch of JCA with its validation."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        film = write_film(root / "film.mkv", 4, (640, 360), noise=1.0)
        cache, names = FeatureCache.create(root / "extraction", "bench"), itertools.count()
        stream, times = swin(cache, "bf16"), []
        for _ in range(3):
            begun = time.perf_counter()
            extract_recording(Recording(f"r{next(names)}", video=film), [stream], cache)
            times.append((time.perf_counter() - begun) / (4 * FPS))
        features = write_cache(root / "features")
        result = run_many([TrainRecipe("jca", features.root, root / "runs", epochs=3, device="cpu")])[0]
        frames = sum(result.data[p].frames for p in ("train", "validation"))
        return min(times), result.seconds / result.epochs / frames


def draw(path: Path, extraction: float, epoch: float) -> None:
    """Hours spent after each of ten ablations on one hour of video."""
    frames, runs = HOURS * 3600 * FPS, np.arange(1, RUNS + 1)
    usual = runs * EPOCHS * frames * (extraction + epoch) / 3600
    ours = (frames * extraction + runs * EPOCHS * frames * epoch) / 3600
    with style.context([STYLE, {"svg.fonttype": "none", "font.family": "sans-serif"}]):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        ax = figure.subplots()
        ax.plot(runs, usual, color="#D55E00", marker="o", ms=4)
        ax.plot(runs, ours, color="#0072B2", marker="o", ms=4)
        ax.set(yscale="log", xlabel="ablations", ylabel="hours", xticks=runs, ylim=(1, 2 * usual[-1]))
        ax.yaxis.set_major_formatter("{x:,.0f}")
        ax.set_title(f"{HOURS} h of video, JCA, {EPOCHS} epochs each, on two cores", fontsize=10)
        ax.annotate("frozen Swin-B in every epoch", (runs[-1], usual[-1]), (0, -24), textcoords="offset points",
                    ha="right", color="#D55E00")  # fmt: skip
        ax.annotate("extract once, fuse many", (runs[-1], ours[-1]), (0, -24), textcoords="offset points",
                    ha="right", color="#0072B2")  # fmt: skip
        figure.savefig(path)


def main() -> None:
    """Measure, draw, save the rates."""
    extraction, epoch = rates()
    told = {"extraction_s_per_frame": round(extraction, 6), "epoch_s_per_frame": round(epoch, 8)}
    (RESULTS / "cost.json").write_text(json.dumps(told, indent=2) + "\n")
    draw(RESULTS / "cost.svg", extraction, epoch)
    print(f"an epoch costs {extraction / epoch:,.0f} times less than the features it reads; drawn in cost.svg")


if __name__ == "__main__":
    main()
