"""Ten to the five hours on a thousand workers: what of this program stands in the way, worked out from small pieces.

Measured here: processor time of a Dask scheduler and of the command for each job, with more and more workers that do
nothing; files and bytes that a recording leaves; seconds of opening caches of more and more recordings. The rest is
arithmetic, printed line by line. ``python benchmarks/scale.py``; figures are also saved as JSON.
"""

import asyncio
import json
import logging
import multiprocessing
import shutil
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
from distributed import Client, Scheduler, Worker

from cache.cluster import Work, answers
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.store import FeatureCache

TOP = Path(__file__).parent
HOURS, WORKERS, MINUTES, FPS, SPEED = 1e5, 1000, 2.0, 30, 20  # minutes a recording; times real time, of one worker
DIMS = {"swin": 1024, "hubert": 768, "roberta": 768}
JOBS = 2000


def nothing(job: int) -> int:
    """A job that costs its worker nothing."""
    return job


def _quiet() -> None:
    logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)


def _serve_scheduler(pipe: Connection) -> None:
    _quiet()

    async def serve() -> None:
        async with Scheduler(dashboard=False, port=0) as scheduler:
            pipe.send(scheduler.address)
            await asyncio.to_thread(pipe.recv)

    asyncio.run(serve())


def _serve_workers(pipe: Connection, address: str, count: int) -> None:
    _quiet()

    async def serve() -> None:
        workers = [Worker(address, nthreads=1, dashboard=False, memory_limit=0) for _ in range(count)]
        await asyncio.gather(*workers)
        pipe.send("up")
        await asyncio.to_thread(pipe.recv)
        await asyncio.gather(*(w.close() for w in workers))

    asyncio.run(serve())


def processor_ms(workers: int) -> tuple[float, float]:
    """Milliseconds of processor time for a job: of the scheduler, and of the command that hands jobs out."""
    spawn = multiprocessing.get_context("spawn")
    near, far = spawn.Pipe()
    scheduler = spawn.Process(target=_serve_scheduler, args=(far,), daemon=True)
    scheduler.start()
    address = near.recv()
    ours, theirs = spawn.Pipe()
    crowd = spawn.Process(target=_serve_workers, args=(theirs, address, workers), daemon=True)
    crowd.start()
    ours.recv()
    with Client(address, set_as_default=False) as client:
        spent = [psutil.Process(scheduler.pid), psutil.Process()]
        before = [sum(p.cpu_times()[:2]) for p in spent]
        made = sum(1 for _ in answers(client, Work(nothing, str, "nothing"), list(range(JOBS))))
        after = [sum(p.cpu_times()[:2]) for p in spent]
    ours.send("end")
    crowd.join()
    near.send("end")
    scheduler.join()
    own, command = ((b - a) / made * 1e3 for a, b in zip(before, after, strict=True))
    return own, command


def one_recording(root: Path) -> tuple[FeatureCache, int, int]:
    """A cache with one recording of three streams; its files, and its bytes beyond the features' own."""
    cache, frames = FeatureCache.create(root, "scale"), int(MINUTES * 60 * FPS)
    cache.timelines.write("r0", Timeline(np.arange(frames) / FPS, frames / FPS))
    for name, dim in DIMS.items():
        spec = cache.declare(name, "visual", dim, {"of": name}, {})
        cache.write(spec.key, "r0", Aligned(np.zeros((frames, dim), np.float32), np.ones(frames, bool)))
    frames_of = {"r0": Labels(np.zeros((frames, 2), np.float32), np.ones(frames, bool))}
    cache.labels.write("va", frames_of, Partitions({"r0": "train"}))
    files = [f for f in root.rglob("*") if f.is_file() and "r0" in f.parts]
    values = sum(frames * dim * 2 for dim in DIMS.values())
    return cache, len(files), sum(f.stat().st_size for f in files) - values


def opening_s(cache: FeatureCache, recordings: int, folder: Path) -> float:
    """Seconds of opening a cache of so many recordings and listing what each stream has."""
    root = folder / f"of{recordings}"
    shutil.copytree(cache.root, root)
    for stream in (root / "features").glob("*-*"):
        for number in range(1, recordings):
            shutil.copytree(stream / "r0", stream / f"r{number}", copy_function=_linked)
    begun = time.perf_counter()
    opened = FeatureCache(root)
    for key in opened.stream_keys():
        opened.recordings(key)
    spent = time.perf_counter() - begun
    shutil.rmtree(root)
    return spent


def _linked(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def main() -> None:
    """Measure, work it out, print, save."""
    _quiet()
    crowds = (10, 100, 300)
    costs = {n: processor_ms(n) for n in crowds}
    with tempfile.TemporaryDirectory() as folder:
        cache, files, extra = one_recording(Path(folder) / "one")
        sizes = (100, 1000, 4000)
        opened = {n: opening_s(cache, n, Path(folder)) for n in sizes}
    recordings, frames = HOURS * 60 / MINUTES, HOURS * 3600 * FPS
    rate = WORKERS * SPEED / (MINUTES * 60)
    slowest = max(costs[crowds[-1]])
    each = (opened[sizes[-1]] - opened[sizes[0]]) / (sizes[-1] - sizes[0])
    features = frames * 2 * sum(DIMS.values())
    jobs, total = f"{recordings:,.0f}", recordings / rate / 3600
    told = [
        *(f"{n} workers: scheduler {a:.2f}, command {b:.2f} ms of processor time a job" for n, (a, b) in costs.items()),
        *(f"opening a cache of {n:,} recordings: {s:.3f} s" for n, s in opened.items()),
        f"a recording of {MINUTES:g} min: {files} files, {extra / 1e3:.0f} kB beside its features",
        f"{HOURS:,.0f} h: {jobs} recordings, {frames:.2g} frames, {features / 1e12:,.0f} TB of float16",
        f"files: {jobs} x {files} = {recordings * files:.3g}; beside features {recordings * extra / 1e9:,.0f} GB",
        f"jobs: {WORKERS:,} workers x {SPEED:g} / {MINUTES * 60:g} s = {rate:.0f} a second, {total:.1f} h in all",
        f"of one core: {rate:.0f} a second x {slowest:.2f} ms = {rate * slowest / 1e3:.2f} (the busier of the two)",
        f"opening: {jobs} x {each * 1e6:.0f} us = {recordings * each:,.0f} s",
    ]
    print("\n".join(told))
    figures = {"processor_ms": costs, "files": files, "bytes": extra, "opening_s": opened, "jobs_a_second": rate}
    (TOP / "results" / "scale.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
