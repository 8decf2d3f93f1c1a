"""Stage one against its floor, the bare forward pass, and against the usual way; and its memory against length."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import count
from pathlib import Path
from statistics import median

import av
import numpy as np
import torch
from torchvision import transforms

from cache.records import Recording
from cache.store import FeatureCache
from extract.encoders._base import batches
from extract.encoders._precision import computing
from extract.job import extract_recording
from extract.media import VideoFile
from extract.streams import Stream, declare, want

SECONDS, BATCH, SEGMENT = 2, 8, 16
CLI = Path(__file__).parents[1] / "cli.py"
MICRO = {"size": "micro", "weights": "random:0"}
Paired = Callable[[Callable[[], object], Callable[[], object], int], float]
CHILD = """
import json, resource, sys
from pathlib import Path
from extract.recipe import extract_recipe
from extract.run import run_extract

root = Path(sys.argv[1])
micro = {"size": "micro", "weights": "random:0"}
given = {"dataset": "manifest", "root": root / "manifest.csv", "cache": root / "cache", "text": []}
result = run_extract(extract_recipe({**given, "swin": micro, "hubert": micro, "spectrogram": micro,
                                     "audio": ["hubert", "spectrogram"]}), quiet=True)
assert result.made == 3, result
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


def write_film(path: Path, seconds: int, size: tuple[int, int], noise: float) -> Path:
    """mpeg4 and 44.1 kHz sound, 25 frames a second."""
    rng, (w, h) = np.random.default_rng(0), size
    still = rng.integers(0, 200, (h, w, 3))
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = w, h, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=44_100, layout="mono")
        for i in range(seconds * 25):
            moved = np.roll(still, i, axis=1) + noise * rng.integers(0, 55)
            frame = av.VideoFrame.from_ndarray(moved.astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(video.encode(frame))
            sound = av.AudioFrame.from_ndarray(rng.integers(-3000, 3000, (1, 1764), np.int16), "s16", "mono")
            sound.sample_rate, sound.pts = 44_100, i * 1764
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return path


def swin(cache: FeatureCache, precision: str) -> Stream:
    """Swin-B with random weights, loaded."""
    options = {"weights": "random:0", "precision": precision, "batch_size": BATCH}
    stream = declare(cache, want("swin", "visual", options, align="overlap", dtype="float16"), "cpu")
    stream.ready()
    return stream


def throughput(folder: Path, paired: Paired) -> dict[str, float]:
    """Swin-B over a film: from file to committed stream, against the forward pass alone and the published way."""
    film = write_film(folder / "film.mkv", SECONDS, (640, 360), noise=1.0)
    cache, names = FeatureCache.create(folder / "extraction", "bench"), count()
    half, whole = swin(cache, "bf16"), swin(cache, "float32")
    frames = [frame for block in VideoFile(film).blocks() for frame in block.rgb]
    pixels = half.encoder.preprocess(frames, torch.device("cpu"))

    def extraction() -> None:
        made = extract_recording(Recording(f"r{next(names)}", video=film), [half], cache)
        assert made.made == [half.spec.key], made.failures

    def forward() -> None:
        with computing("bf16", torch.device("cpu")):
            for some in batches(pixels, BATCH):
                half.encoder.net(some)

    def published_way() -> None:
        """Each segment: frames as PIL images through torchvision's transforms, float32, one file a segment."""
        steps = [transforms.Resize(248, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(224)]
        scale = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        prepare = transforms.Compose([*steps, transforms.ToTensor(), scale])
        with av.open(str(film)) as container:
            images = [frame.to_image() for frame in container.decode(video=0)]
        for i in range(0, len(images), SEGMENT):
            with torch.no_grad():
                x = torch.stack([prepare(image) for image in images[i : i + SEGMENT]])
                torch.save(whole.encoder.net(x), folder / f"segment{i}.pt")

    return {
        "Swin-B bf16: bare forward / extraction": 1 / paired(extraction, forward, 5),
        "Swin-B: PIL loop in float32 / extraction in bf16": 1 / paired(extraction, published_way, 3),
    }


def memory(folder: Path) -> dict[str, float]:
    """Peak memory of a process that extracts 30 minutes (Swin, HuBERT, spectrogram; micro), over that of 3."""
    peaks = {}
    for minutes in (3, 30):
        root = folder / f"{minutes}min"
        root.mkdir()
        film = write_film(root / "film.mkv", minutes * 60, (160, 120), noise=0.0)
        (root / "manifest.csv").write_text(f"id,video\na,{film}\n")
        made = subprocess.run([sys.executable, "-c", CHILD, str(root)], check=True, capture_output=True, text=True)
        peaks[minutes] = json.loads(made.stdout)
    return {"peak memory of 30 minutes / of 3": peaks[30] / peaks[3]}


def no_op(folder: Path) -> dict[str, float]:
    """Seconds of a whole process of `extract` over 545 recordings x 3 streams that has nothing to do."""
    root = folder / "wide"
    root.mkdir()
    film = write_film(root / "film.mkv", 1, (64, 48), noise=0.0)
    rows = []
    for i in range(545):
        (root / f"{i}.mkv").hardlink_to(film)
        (root / f"{i}.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nwell\n")
        rows.append(f"{i},{i}.mkv,{i}.srt")
    (root / "manifest.csv").write_text("\n".join(["id,video,transcript", *rows]) + "\n")
    micro = [f"{name}.{k}={v}" for name in ("swin", "hubert", "roberta") for k, v in MICRO.items()]
    command = [sys.executable, str(CLI), "extract", "--dataset", "manifest", "--root", str(root), "--quiet"]
    command += ["--cache", str(folder / "wide-cache"), "--visual", "swin", "--audio", "hubert", "--text", "roberta"]
    command += [part for setting in micro for part in ("--set", setting)]
    subprocess.run(command, check=True, capture_output=True)
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - begun)
    return {"no-op extract of 545 x 3, seconds": median(times)}
