"""What a GPU is for, measured on one: ``make bench-gpu``. With ``--small`` on any machine, to see that it runs.

Extraction from films and from JPEG crops against the bare forward passes; a cache of Aff-Wild2's size whose features
stay on the GPU; five seeds against one. Figures go to ``benchmarks/results``, in a file that names the device.
"""

import argparse
import dataclasses
import datetime
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from stage_one import write_film
from stage_two import write_cache

from cache.records import Recording
from cache.store import FeatureCache
from extract.device import torch_device
from extract.encoders._precision import computing
from extract.job import extract_recording
from extract.streams import declare, want
from fuse.many import run_many
from fuse.recipe import TrainRecipe

TOP = Path(__file__).parent
TARGETS = {"mp4": 0.8, "JPEG": 0.9, "sound": 0.9, "text": 0.9}
BATCH = {"swin": 128, "i3d": 16, "hubert": 4, "roberta": 16}


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Of the second of two calls, with all that the device has to do."""
    for _ in range(2):
        begun = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def material(root: Path, frames: int) -> dict[str, Recording]:
    """A film with sound, the same as JPEG crops of 112 x 112, and a transcript with three words a second."""
    film = write_film(root / "film.mkv", frames // 25, (640, 360), noise=1.0)
    crops = root / "crops"
    crops.mkdir()
    for i in range(frames):
        rng = np.random.default_rng(i)
        Image.fromarray(rng.integers(0, 256, (112, 112, 3), np.uint8)).save(crops / f"{i + 1:05d}.jpg", quality=90)
    times = [(i // 180, i / 3 % 60) for i in range(3 * frames // 25)]
    lines = [f"{n}\n00:{m:02d}:{s:06.3f} --> 00:{m:02d}:{s + 0.3:06.3f}\nwell\n" for n, (m, s) in enumerate(times)]
    (root / "film.srt").write_text("\n".join(lines).replace(".", ","))
    return {
        "mp4": Recording("film", video=film),
        "JPEG": Recording("crops", video=film, crops=crops),
        "sound": Recording("sound", video=film),
        "text": Recording("text", video=film, transcript=root / "film.srt"),
    }


def bare(encoder: Any, frames: int, device: torch.device) -> Callable[[], None]:
    """The forward passes that so many frames at 25 a second cost, on inputs that lie on the device."""
    net, size = encoder.net, encoder.cfg.batch_size
    if encoder.modality == "text":
        length = net.config.max_position_embeddings - 2
        x, passes = torch.ones((size, length), dtype=torch.long, device=device), 3 * frames / 25 / length
    elif encoder.modality == "audio":
        x, passes = torch.rand((size, 16_000 * 30), device=device), frames / 25 / 30
    else:
        clip = (encoder.cfg.clip,) if hasattr(encoder.cfg, "clip") else ()
        side, net = encoder.preprocess.size, encoder.embed if clip else encoder.net
        x, passes = torch.rand((size, 3, *clip, side, side), device=device), frames

    def forward() -> None:
        with computing(encoder.cfg.precision, device):
            for _ in range(max(1, round(passes / size))):
                net(x)

    return forward


def extracted(one: Recording, stream: Any, cache: FeatureCache) -> Callable[[], None]:
    """A call that extracts a recording under a new name each time."""
    count = itertools.count()

    def run() -> None:
        made = extract_recording(dataclasses.replace(one, id=f"{one.id}{next(count)}"), [stream], cache)
        if made.failures:
            raise SystemExit(str(made.failures[0]))

    return run


def extraction(root: Path, frames: int, device: torch.device, size: str) -> dict[str, tuple[float, float]]:
    """Bare forward / extraction, with its target, of each encoder and kind of media."""
    found = {}
    kinds = (("swin", "visual", ("mp4", "JPEG")), ("i3d", "visual", ("mp4", "JPEG")))
    kinds += (("hubert", "audio", ("sound",)), ("roberta", "text", ("text",)))
    recordings = material(root, frames)
    for name, modality, media in kinds:
        options = {"weights": "random:0", "size": size, "precision": "bf16", "batch_size": BATCH[name]}
        for kind in media:
            cache = FeatureCache.create(root / f"{name}-{kind}", "bench")
            stream = declare(cache, want(name, modality, options, align="overlap", dtype="float16"), str(device))
            floor = seconds(bare(stream.ready(), frames, device), device)
            whole = seconds(extracted(recordings[kind], stream, cache), device)
            found[f"{name} from {kind}: bare forward / extraction"] = (floor / whole, TARGETS[kind])
            del stream
    return found


def fusion(root: Path, recordings: int, frames: int, device: torch.device) -> dict[str, tuple[float, float | None]]:
    """One MAVEN epoch from features on the device, in seconds, and five seeds over one."""
    cache = write_cache(root / "wide", recordings, frames)
    asked = {"epochs": 1, "device": str(device), "resident": True, "amp": True}

    def runs(seeds: int, name: str) -> list[TrainRecipe]:
        return [TrainRecipe("maven", cache.root, root / name, seed=s, **asked) for s in range(seeds)]

    begun = time.perf_counter()
    run_many(runs(1, "one"))
    one = time.perf_counter() - begun
    begun = time.perf_counter()
    run_many(runs(5, "five"))
    five = time.perf_counter() - begun
    name = f"MAVEN, an epoch of {recordings * frames:,} frames and its scores, seconds"
    return {name: (one, None), "five seeds / one": (five / one, 2.0)}


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="tiny networks and little data, on any device")
    small = parser.parse_args().small
    if not small and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU; python benchmarks/gpu.py --small shows that it runs")
    device, frames = torch_device("auto"), 100 if small else 6000
    with tempfile.TemporaryDirectory() as folder:
        values = extraction(Path(folder), frames, device, "micro" if small else "base")
        values |= fusion(Path(folder), 4 if small else 545, 400 if small else 5137, device)
    results = []
    for name, (value, target) in values.items():
        better = "lower" if "five" in name or target is None else "higher"
        met = None if target is None else bool(value >= target if better == "higher" else value <= target)
        results.append({"name": name, "value": round(value, 3), "target": target, "better": better, "met": met})
        print(f"{name:<68}{value:>9.2f}   {'' if target is None else f'target {target}'}")
    if not small:
        told = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "results": results}
        (TOP / "results" / f"{datetime.date.today()}-gpu.json").write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
