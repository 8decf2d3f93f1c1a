"""Stage two: what feeding a head costs against training it, many runs against one by one, memory against length."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
import zarr

from cache.records import Aligned, Labels, Partitions, StreamSpec, Timeline
from cache.store import FeatureCache
from fuse.feeding.batch import HeadInputs
from fuse.feeding.data import Corpus, open_partition
from fuse.feeding.feed import batches
from fuse.feeding.snapshot import take_snapshot
from fuse.feeding.streams import choose_streams
from fuse.feeding.windows import Windows, make_windows
from fuse.heads import HEADS
from fuse.many import run_many
from fuse.recipe import TrainRecipe

DIMS, BATCH, TOKENS, FRAMES = (1024, 768, 768), 16, 300, 4000
CPU = torch.device("cpu")
Paired = Callable[[Callable[[], object], Callable[[], object], int], float]
PEAK = """
import json, sys, time, torch
torch.manual_seed(0)
way, tokens = sys.argv[1], int(sys.argv[2])
from cache.records import StreamSpec
from fuse.feeding.batch import HeadInputs
from fuse.heads import HEADS
from fuse.heads._additive import additive_attention

def attention(t):
    q, k, h = (torch.randn(1, t, 256, requires_grad=True) for _ in range(3))
    v, keys = torch.randn(256, requires_grad=True), torch.ones(1, t, dtype=torch.bool)
    if way == "naive":
        scores = torch.tanh(q.unsqueeze(2) + k.unsqueeze(1)) @ v
        out = scores.softmax(-1) @ h
    else:
        out = additive_attention(q, k, v, h, keys)
    out.square().mean().backward()

def maven(t):
    streams = tuple(StreamSpec(n, n, 64) for n in ("visual", "audio", "text"))
    cls = HEADS.get("maven")
    head = cls(HeadInputs(streams, t), cls.Config(d=64, d_proj=64))
    x = {s.name: torch.randn(1, t, 64) for s in streams}
    seen = {s.name: torch.ones(1, t, dtype=torch.bool) for s in streams}
    head(x, seen, torch.ones(1, t, dtype=torch.bool)).square().mean().backward()

step = maven if way == "maven" else attention
def memory(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field))

step(8)
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
before, begun = memory("VmRSS"), time.perf_counter()
step(tokens)
print(json.dumps([memory("VmHWM") - before, time.perf_counter() - begun]))
"""


def write_cache(root: Path, recordings: int = 6, frames: int = FRAMES, dims: tuple[int, ...] = DIMS) -> FeatureCache:
    """Random features and labels of recordings at 25 frames a second; the last is test, the one before validation."""
    cache, rng = FeatureCache.create(root, "bench"), np.random.default_rng(0)
    modalities = ("visual", "audio", "text")
    specs = [cache.declare(f"s{i}", modalities[i % 3], d, {"i": i}, {}) for i, d in enumerate(dims)]
    timeline, present = Timeline(np.arange(frames) / 25, frames / 25), np.ones(frames, bool)
    names = [f"r{i}" for i in range(recordings)]
    for name in names:
        cache.timelines.write(name, timeline)
        for spec in specs:
            cache.write(spec.key, name, Aligned(rng.standard_normal((frames, spec.dim), np.float32), present))
    va = {n: Labels(rng.uniform(-1, 1, (frames, 2)).astype(np.float32), present) for n in names}
    kinds = ["train"] * (recordings - 2) + ["validation", "test"]
    cache.labels.write("va", va, Partitions(dict(zip(names, kinds, strict=True))))
    return cache


def opened(cache: FeatureCache) -> tuple[Corpus, Windows]:
    """The training partition and its windows."""
    corpus = open_partition(take_snapshot(cache, choose_streams(cache, ()), "va"), "train")
    return corpus, make_windows(corpus.lengths, TOKENS, 1, 50)


class _Chunks(torch.utils.data.Dataset):
    """The usual way: a window is three slices of Zarr arrays, normalised and converted by itself."""

    def __init__(self, cache: FeatureCache, corpus: Corpus, windows: Windows) -> None:
        self.folders = [cache.reader(k).folders for k in cache.stream_keys()]
        self.stats, self.names, self.windows = list(corpus.stats.values()), corpus.recordings, windows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, row: int) -> list[torch.Tensor]:
        name, frames = self.names[self.windows.recording[row]], self.windows.frame[row]
        out = []
        for folders, stats in zip(self.folders, self.stats, strict=True):
            values = zarr.open_array(folders[name] / "values", mode="r")[int(frames[0]) : int(frames[-1]) + 1]
            out.append(torch.from_numpy((values.astype(np.float32) - stats.mean) / stats.std))
        return out


def feeding(cache: FeatureCache, paired: Paired) -> dict[str, float]:
    """Batches of 16 x 300 frames of three streams, against a DataLoader over Zarr, and against a training step."""
    corpus, windows = opened(cache)
    order = np.random.default_rng(0).permutation(len(windows))
    loader = torch.utils.data.DataLoader(_Chunks(cache, corpus, windows), BATCH, shuffle=True, num_workers=2)

    def ours() -> None:
        for _ in batches(corpus, windows, order, BATCH, CPU):
            pass

    def usual() -> None:
        for _ in loader:
            pass

    return {
        "DataLoader over zarr / batches from maps": 1 / paired(ours, usual, 3),
        "share of data in a step of concat, bf16": share(corpus, windows, "concat"),
        "share of data in a step of linear, bf16": share(corpus, windows, "linear"),
    }


def share(corpus: Corpus, windows: Windows, name: str) -> float:
    """Of the time of a training step of a head, gathering included, that gathering takes."""
    streams = tuple(StreamSpec(n, "visual", len(s.mean)) for n, s in corpus.stats.items())
    torch.manual_seed(0)
    cls = HEADS.get(name)
    head = cls(HeadInputs(streams, TOKENS), cls.Config())
    optimiser = torch.optim.AdamW(head.parameters())
    order, gather, step, begun = np.arange(len(windows)), [], [], time.perf_counter()
    for batch in batches(corpus, windows, order, BATCH, CPU):
        gather.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            out = head(batch.x, batch.present, batch.real)
        optimiser.zero_grad(set_to_none=True)
        (out.float() - batch.va).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        step.append(time.perf_counter() - begun)
        begun = time.perf_counter()
    return median(gather) / (median(gather) + median(step))


def many(cache: FeatureCache, folder: Path) -> dict[str, float]:
    """Twenty runs (4 heads x 5 seeds, an epoch): in one pass, by two processes, one by one."""

    def runs(name: str) -> list[TrainRecipe]:
        heads = ("linear", "concat", "late", "can")
        return [
            TrainRecipe(h, cache.root, folder / name, epochs=1, seed=s, device="cpu") for s in range(5) for h in heads
        ]

    times = {}
    for name, go in {
        "alone": lambda: [run_many([r])[0] for r in runs("alone")],
        "one pass": lambda: run_many(runs("one pass")),
        "two processes": lambda: run_many(runs("two processes"), workers=2),
    }.items():
        begun = time.perf_counter()
        results = go()
        times[name] = time.perf_counter() - begun
        if name == "alone":
            expected = [r.evaluations["test"].raw for r in results]
        elif name == "one pass" and [r.evaluations["test"].raw for r in results] != expected:
            raise SystemExit("runs in one pass have other numbers than alone")
    return {
        "20 runs in one pass / one by one": times["one pass"] / times["alone"],
        "20 runs, two processes / one by one": times["two processes"] / times["alone"],
    }


def attention() -> dict[str, float]:
    """Additive attention at T = 1500, width 256, forward and backward, against the equations written plainly."""

    def peak(way: str, tokens: int) -> tuple[float, float]:
        made = subprocess.run(
            [sys.executable, "-c", PEAK, way, str(tokens)], check=True, capture_output=True, text=True
        )
        memory, seconds = json.loads(made.stdout)
        return memory, seconds

    (less, quick), (more, slow) = peak("chunked", 1500), peak("naive", 1500)
    return {
        "additive attention, T 1500: naive / peak memory": more / less,
        "additive attention, T 1500: time / naive": quick / slow,
        "MAVEN: peak memory at T 2000 / at 1000": peak("maven", 2000)[0] / peak("maven", 1000)[0],
    }


def growth() -> dict[str, float]:
    """Time of a window where there are 100,000 of them, over that where there are 1,000."""
    costs = {}
    for recordings, frames in ((3, 1250), (52, 2000)):
        with tempfile.TemporaryDirectory() as folder:
            corpus, _ = opened(write_cache(Path(folder) / "cache", recordings, frames, (32,)))
            windows = make_windows(corpus.lengths, 16, 1, 1)
            order = np.random.default_rng(0).permutation(len(windows))[:1000]
            times = []
            for _ in range(5):
                begun = time.perf_counter()
                for _ in batches(corpus, windows, order, BATCH, CPU):
                    pass
                times.append((time.perf_counter() - begun) / len(order))
            costs[len(windows)] = median(times)
    few, lots = (costs[n] for n in sorted(costs))
    return {"a window of 100,000 / of 1,000": lots / few}
