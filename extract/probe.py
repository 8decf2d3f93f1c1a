"""A short try of one encoder on the corpus's own media: seconds a frame (or a second of sound), and peak memory."""

import ctypes
import gc
import resource
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from cache.errors import AffuseError
from cache.records import Recording, Timeline
from extract.blocks import FrameBlock, TimedText, Waveform
from extract.crops import crop_blocks
from extract.encoders import Encoder
from extract.faces import FaceBoxes, FaceCrops
from extract.media import VideoFile
from extract.sound import SoundFile, resampled
from extract.source import sound_file
from extract.streams import torch_device
from extract.transcripts import read_transcript

_FRAMES, _SOUND_S, _WARM_S = 32, 20.0, 3.0
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Cost:
    """cost_s: seconds of work a frame (visual) or a second of the recording (audio, text). memory_mb: peak."""

    cost_s: float
    memory_mb: float


def probe(
    encoder: Encoder[Any], recordings: list[Recording], device: str, faces: FaceCrops | None = None
) -> Cost | None:
    """Load a fresh copy of the encoder and time it on the first recordings that have what it reads; None if none has.

    Memory is the device's where that is CUDA, else the whole process's. With ``faces`` an encoder is timed on crops,
    and finding them is the cost of ``face-box``.
    """
    prepare = {"visual": partial(_frames, faces=faces), "audio": _sound, "text": _words}[encoder.modality]
    sample = prepare(encoder, recordings)
    if sample is None:
        return None
    peak = _peak_memory(device)
    encoder.load(torch_device(device))
    cost = sample()
    return Cost(cost, peak())


def at_precision(encoder: Encoder[Any], precision: str) -> Encoder[Any]:
    """The same encoder, not loaded, at another precision ("" for one without a choice)."""
    return type(encoder)(replace(encoder.cfg, precision=precision) if precision else encoder.cfg)


def _peak_memory(device: str) -> Callable[[], float]:
    """Begin to watch; the function says the peak since then in MB."""
    if torch_device(device).type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return lambda: torch.cuda.max_memory_allocated() / 1e6
    if not _STATUS.exists():  # not Linux: the peak of the whole process so far
        unit = 1e6 if sys.platform == "darwin" else 1e3
        return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # what the encoder before has left is not this one's
    if trim:
        trim(0)
    _RESET.write_text("5", encoding="utf-8")
    return lambda: (
        next(int(s.split()[1]) for s in _STATUS.read_text(encoding="utf-8").splitlines() if s.startswith("VmHWM")) / 1e3
    )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def first_readable(items: Iterable[Any], read: Callable[[Any], Any]) -> Any:
    """The first that can be read and has something."""
    for item in items:
        try:
            found = read(item)
        except AffuseError:
            continue
        if found:
            return found
    return None


def _frames(encoder: Encoder[Any], recordings: list[Recording], faces: FaceCrops | None) -> Callable[[], float] | None:
    crop = faces.blocks if faces else list[FrameBlock]
    finding = isinstance(encoder, FaceBoxes)
    size = getattr(encoder.cfg, "batch_size", 1)
    count = max(_FRAMES, 2 * size)

    def read(recording: Recording) -> list[FrameBlock]:
        if recording.crops:
            nominal = Timeline(np.arange(10 * count) / 25, 10 * count / 25)
            return list(islice(crop_blocks(recording.crops, nominal, size), count // size))
        blocks = VideoFile(recording.video).blocks(size) if recording.video else iter(())
        some = list(islice(blocks, count // size))
        return some if finding else [b for b in crop(some) if b.rgb]

    blocks = first_readable((r for r in recordings if r.crops or r.video), read)
    if blocks is None:
        return None

    def push(some: list[FrameBlock]) -> None:
        for block in crop(some) if finding else some:
            encoder.push(block)
        encoder.finish()

    def cost() -> float:
        push(blocks[:1])
        return _seconds(lambda: push(blocks)) / sum(len(b.rgb) for b in blocks)

    return cost


def _sound(encoder: Encoder[Any], recordings: list[Recording]) -> Callable[[], float] | None:
    def read(recording: Recording) -> list[Waveform]:
        sound, have, pieces = SoundFile(sound_file(recording)), 0, []
        for _, piece in resampled(sound.pieces(), sound, [encoder.rate]):
            pieces.append(piece)
            have += len(piece)
            if have >= _SOUND_S * encoder.rate:
                break
        samples = np.concatenate(pieces)[: round(_SOUND_S * encoder.rate)] if pieces else ()
        return [Waveform(samples, encoder.rate, 0.0)] if len(samples) else []

    found = first_readable((r for r in recordings if r.audio or r.video), read)
    if found is None:
        return None
    (sound,) = found

    def cost() -> float:
        encoder.push(Waveform(sound.samples[: round(_WARM_S * encoder.rate)], encoder.rate, 0.0))
        return _seconds(lambda: list(encoder.tracks(sound))) / (len(sound.samples) / encoder.rate)

    return cost


def _words(encoder: Encoder[Any], recordings: list[Recording]) -> Callable[[], float] | None:
    units: list[TimedText] | None = first_readable(
        (r for r in recordings if r.transcript), lambda r: read_transcript(r.transcript)
    )
    if units is None:
        return None

    def cost() -> float:
        encoder.push(units[:10])
        return _seconds(lambda: list(encoder.tracks(units))) / max(units[-1].end - units[0].start, 1e-3)

    return cost
