"""Ratios of two things side by side in one run; ``make bench``. Figures are also saved as JSON.

Absolute times mean little on shared machines, so every line pairs ours with a floor or with the usual way, in turns,
and prints the ratio of medians. Results: ``benchmarks/results/latest.json`` and a dated file beside it.
"""

import datetime
import json
import os
import platform
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
from cluster import workers
from stage_one import memory, no_op, throughput
from stage_two import attention, feeding, growth, many, write_cache

from cache.records import Aligned, StreamSpec, Timeline
from cache.store import FeatureCache
from fuse.feeding.batch import HeadInputs
from fuse.feeding.resident import gather
from fuse.heads import HEADS

TOP = Path(__file__).parent
DIMS, WINDOW, FRAMES = (1024, 768, 768), 300, 4000


def paired(ours: Callable[[], object], other: Callable[[], object], rounds: int = 9) -> float:
    """Median time of ours over median time of other, run in turns after one warm-up each."""
    ours(), other()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for slot, call in zip(times, (ours, other), strict=True):
            start = time.perf_counter()
            call()
            slot.append(time.perf_counter() - start)
    return median(times[0]) / median(times[1])


def read_windows(cache: FeatureCache) -> dict[str, float]:
    """Warm random windows of three streams, against a copy from RAM and against zarr's own slicing."""
    readers = [cache.reader(k) for k in cache.stream_keys()]
    ram = [{r: reader.recording(r)[0].copy() for r in reader.folders} for reader in readers]
    arrays = [{r: zarr.open_array(f / "values", mode="r") for r, f in reader.folders.items()} for reader in readers]
    rng = np.random.default_rng(1)
    picks = [(f"r{rng.integers(6)}", int(rng.integers(FRAMES - WINDOW))) for _ in range(100)]
    buffers = [np.empty((WINDOW, reader.recording("r0")[0].shape[1]), np.float16) for reader in readers]

    def copy_each(window: Callable[[int, str, slice], np.ndarray], count: int) -> None:
        for recording, start in picks[:count]:
            for i, buffer in enumerate(buffers):
                buffer[:] = window(i, recording, slice(start, start + WINDOW))

    def ours(count: int) -> None:
        copy_each(lambda i, r, s: readers[i].window(r, s), count)

    held = [torch.from_numpy(np.concatenate([*arrays.values()])) for arrays in ram]
    at = [torch.arange(start, start + WINDOW).unsqueeze(0) + int(r[1:]) * FRAMES for r, start in picks]
    rows = [torch.from_numpy(buffer) for buffer in buffers]

    def resident() -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as many as the copy has
        for frames in at:
            for values, out in zip(held, rows, strict=True):
                gather(values, frames, out)
        torch.set_num_threads(threads)

    return {
        "warm random window / RAM copy": paired(
            lambda: ours(100), lambda: copy_each(lambda i, r, s: ram[i][r][s], 100)
        ),
        "resident window / RAM copy": paired(resident, lambda: copy_each(lambda i, r, s: ram[i][r][s], 100)),
        "zarr slicing / warm random window": 1
        / paired(lambda: ours(20), lambda: copy_each(lambda i, r, s: arrays[i][r][s], 20)),
    }


def opening(root: Path) -> dict[str, float]:
    """Opening a cache of 545 recordings x 4 streams, to the first window of each stream, against reading its JSON."""
    sync, os.fsync = os.fsync, lambda fd: None  # only while it is written: what is measured is reading
    try:
        cache = FeatureCache.create(root, "wide")
        specs = [cache.declare(f"s{i}", "visual", 8, {"i": i}, {}) for i in range(4)]
        for recording in map(str, range(545)):
            cache.timelines.write(recording, Timeline(np.arange(300) / 25, 12))
            for spec in specs:
                cache.write(spec.key, recording, Aligned(np.ones((300, 8), np.float32), np.ones(300, bool)))
    finally:
        os.fsync = sync

    def ours() -> None:
        opened = FeatureCache(root)
        for key in opened.stream_keys():
            opened.reader(key).window("7", slice(0, WINDOW))

    def plain() -> None:
        for path in root.glob("features/*/*/zarr.json"):
            json.loads(path.read_bytes())

    start = time.perf_counter()
    ours()
    print(f"opening 545 recordings x 4 streams: {time.perf_counter() - start:.2f} s")
    return {"opening 545 x 4 / reading its JSON": paired(ours, plain, rounds=5)}


def commit(cache: FeatureCache, root: Path) -> dict[str, float]:
    """Committing a recording of 10 minutes against converting it and writing and syncing one raw file."""
    frames = 15_000
    values = np.random.default_rng(2).standard_normal((frames, 1024), np.float32)
    present = np.ones(frames, bool)
    counter = iter(range(10_000))
    cache.timelines.write("long", Timeline(np.arange(frames) / 25, frames / 25))

    def ours() -> None:
        spec = cache.declare("c", "visual", 1024, {"n": next(counter)}, {})
        cache.write(spec.key, "long", Aligned(values, present))

    def raw() -> None:
        with open(root / f"raw{next(counter)}", "wb") as file:
            file.write(values.astype(np.float16).data)
            file.flush()
            os.fsync(file.fileno())

    return {"raw write with fsync / commit of a recording": 1 / paired(ours, raw, rounds=5)}


def jca_step() -> dict[str, float]:
    """One training step of JCA (B 64, L 8, two streams of 512) against the equations looped over samples."""
    streams = (StreamSpec("v", "visual", 512), StreamSpec("a", "audio", 512))
    cls = HEADS.get("jca")
    head = cls(HeadInputs(streams, 8), cls.Config())
    x = {s.name: torch.randn(64, 8, 512) for s in streams}
    present = {s.name: torch.ones(64, 8, dtype=torch.bool) for s in streams}
    real = torch.ones(64, 8, dtype=torch.bool)

    def step(batches: list[slice]) -> None:
        head.zero_grad(set_to_none=True)
        outs = [head({m: v[b] for m, v in x.items()}, {m: v[b] for m, v in present.items()}, real[b]) for b in batches]
        torch.cat(outs).square().mean().backward()

    each = [slice(i, i + 1) for i in range(64)]
    return {"JCA per-sample loop / batched step": 1 / paired(lambda: step([slice(None)]), lambda: step(each))}


def no_op_start() -> dict[str, float]:
    """Whole processes: ``--help`` against a bare interpreter that imports nothing."""
    cli = [sys.executable, str(TOP.parent / "cli.py"), "--help"]
    bare = [sys.executable, "-c", "pass"]

    def run(command: list[str]) -> None:
        subprocess.run(command, check=True, capture_output=True)

    return {"cli.py --help / bare interpreter": paired(lambda: run(cli), lambda: run(bare))}


#: name: (target, which side is better). None where no target is set.
TARGETS: dict[str, tuple[float | None, str]] = {
    "warm random window / RAM copy": (1.2, "lower"),
    "zarr slicing / warm random window": (15.0, "higher"),
    "resident window / RAM copy": (1.1, "lower"),
    "opening 545 x 4 / reading its JSON": (None, "lower"),
    "raw write with fsync / commit of a recording": (0.8, "higher"),
    "JCA per-sample loop / batched step": (4.0, "higher"),
    "Swin-B bf16: bare forward / extraction": (0.95, "higher"),
    "Swin-B: PIL loop in float32 / extraction in bf16": (3.0, "higher"),
    "peak memory of 30 minutes / of 3": (1.1, "lower"),
    "cli.py --help / bare interpreter": (None, "lower"),
    "DataLoader over zarr / batches from maps": (20.0, "higher"),
    "share of data in a step of concat, bf16": (0.1, "lower"),
    "share of data in a step of linear, bf16": (0.1, "lower"),
    "20 runs in one pass / one by one": (0.75, "lower"),
    "20 runs, two processes / one by one": (None, "lower"),
    "additive attention, T 1500: naive / peak memory": (16.0, "higher"),
    "additive attention, T 1500: time / naive": (0.6, "lower"),
    "MAVEN: peak memory at T 2000 / at 1000": (2.2, "lower"),
    "a window of 100,000 / of 1,000": (1.2, "lower"),
    "no-op extract of 545 x 3, seconds": (2.0, "lower"),
    "1 worker / 2 workers": (1.8, "higher"),
    "processor time of 2 workers / of 1": (None, "lower"),
}


def main() -> None:
    """Run everything, print each figure as it comes, save them."""
    results: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        cache = write_cache(root / "cache")
        steps: list[Callable[[], dict[str, float]]] = [
            lambda: read_windows(cache),
            lambda: opening(root / "wide-read"),
            lambda: commit(write_cache(root / "committed", 3, 300), root),
            jca_step,
            no_op_start,
            lambda: feeding(cache, paired),
            lambda: many(cache, root),
            attention,
            growth,
            lambda: throughput(root, paired),
            lambda: memory(root),
            lambda: no_op(root),
            lambda: workers(root, paired),
        ]
        for step in steps:
            results += [judged(name, value) for name, value in step().items()]
            save(results)


def judged(name: str, value: float) -> dict[str, object]:
    """A figure beside its target; also printed."""
    target, better = TARGETS[name]
    met = None if target is None else value <= target if better == "lower" else value >= target
    goal = (
        "" if target is None else f"target {'<=' if better == 'lower' else '>='} {target}: {'' if met else 'not '}met"
    )
    print(f"{name:<50}{value:>8.2f}   {goal}", flush=True)
    return {"name": name, "value": round(value, 3), "target": target, "better": better, "met": met}


def save(results: list[dict[str, object]]) -> None:
    """Write latest.json and a dated file that names the machine."""
    out = TOP / "results"
    out.mkdir(exist_ok=True)
    (out / "latest.json").write_text(json.dumps(results, indent=2) + "\n")
    machine = {"system": platform.platform(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    dated = {"date": datetime.date.today().isoformat(), "machine": machine, "results": results}
    (out / f"{dated['date']}-cpu.json").write_text(json.dumps(dated, indent=2) + "\n")


if __name__ == "__main__":
    main()
