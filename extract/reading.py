"""What it takes to read a corpus's media, beside what encoders take: once a recording, whatever streams share it."""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice

import numpy as np

from cache.records import Modality, Recording, Timeline
from extract.clock import NOMINAL_FPS
from extract.crops import crop_blocks
from extract.media import VideoFile
from extract.plan import Job
from extract.probe import first_readable
from extract.sizes import Size
from extract.sound import SoundFile, resampled
from extract.source import sound_file
from extract.streams import Wanted

_FRAMES, _AT_ONCE, _SOUND_S = 128, 8, 20.0
#: Of one recording: how many frames, or seconds of sound, each piece has that was read.
Reader = Callable[[Recording], Iterator[float]]


def reading_s(jobs: Iterable[Job], wanted: list[Wanted], sizes: dict[str, Size], timed: Callable[[str], bool]) -> float:
    """Seconds that decoding will take, from a short try of each kind of file.

    The keys of jobs are names of ``wanted``. timed(recording id) says whether its frame times are in the cache.
    """
    modality = {w.name: w.modality for w in wanted}
    decode = next((w.decode for w in wanted if w.modality == "visual"), "cpu")
    rates = sorted({w.encoder.rate for w in wanted if w.modality == "audio"})
    readers: dict[str, Reader] = {
        "crops": _crops,
        "pictures": partial(_pictures, decode=decode),
        "times": _times,
        "sound": partial(_sound, rates=rates),
        "sound's times": partial(_sound, rates=[]),
    }
    work: dict[str, list[Recording]] = {way: [] for way in readers}
    for job in jobs:
        if job.recording.id in sizes:
            for way in _ways(job.recording, {modality[k] for k in job.keys}, timed(job.recording.id)):
                work[way].append(job.recording)
    seconds = 0.0
    for way, recordings in work.items():
        extents = [sizes[r.id] for r in recordings]
        units = sum(s.seconds if "sound" in way else s.frames for s in extents)
        seconds += units * (first_readable(recordings, partial(_seconds_a_unit, readers[way])) or 0.0)
    return seconds


def _ways(recording: Recording, needed: set[Modality], timed: bool) -> Iterator[str]:
    """How a recording is read for streams of these modalities: as ``extract_recording`` does."""
    if "visual" in needed and recording.crops:
        yield "crops"
    elif "visual" in needed and recording.video:
        yield "pictures"
    if recording.video and not timed and ("visual" not in needed or recording.crops):
        yield "times"
    if not recording.video and not recording.crops and not timed:
        yield "sound's times"
    if "audio" in needed and sound_file(recording):
        yield "sound"


def _seconds_a_unit(reader: Reader, recording: Recording) -> float:
    start, units = time.perf_counter(), sum(reader(recording))
    return (time.perf_counter() - start) / units if units else 0.0


def _crops(recording: Recording) -> Iterator[float]:
    nominal = Timeline(np.arange(10 * _FRAMES) / NOMINAL_FPS, 10 * _FRAMES / NOMINAL_FPS)
    for block in islice(crop_blocks(recording.crops, nominal, _AT_ONCE), _FRAMES // _AT_ONCE):
        yield len(block.rgb)


def _pictures(recording: Recording, decode: str) -> Iterator[float]:
    for block in islice(VideoFile(recording.video, decode).blocks(_AT_ONCE), _FRAMES // _AT_ONCE):
        yield len(block.rgb)


def _times(recording: Recording) -> Iterator[float]:
    for _ in islice(VideoFile(recording.video).frames(), _FRAMES):
        yield 1


def _sound(recording: Recording, rates: list[int]) -> Iterator[float]:
    sound = SoundFile(sound_file(recording))
    seconds: list[float] = []

    def some() -> Iterator[np.ndarray]:
        for piece in sound.pieces():
            seconds.append(len(piece) / sound.rate)
            yield piece
            if sum(seconds) >= _SOUND_S:
                return

    for _ in resampled(some(), sound, rates):
        pass
    yield sum(seconds)
