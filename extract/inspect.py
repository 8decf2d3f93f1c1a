"""Everything that is known of one recording, gathered for one picture: from the cache, and from its media if there.

What is missing or cannot be read is said, and the rest is shown.
"""

import glob
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cache.errors import AffuseError, CacheError
from cache.ids import folder_of
from cache.reader import open_array
from cache.records import MODALITIES, Labels, Recording, Timeline
from cache.registry import suggest
from cache.store import FeatureCache
from extract import heard
from extract.blocks import TimedText
from extract.crops import crop_files, read_crop
from extract.datasets import Dataset
from extract.finding import READING
from extract.media import VideoFile
from extract.remarks import remarks
from extract.sound import SoundFile
from extract.source import sound_file
from extract.transcripts import read_transcript

THUMBNAILS = 12
HOP_S = 0.02
_QUIETEST_DB = -100.0
Picture = npt.NDArray[np.uint8]


@dataclass
class Shown:
    """One recording. All times in seconds on the container's clock.

    at: f64[P], times of P <= ``THUMBNAILS`` frames evenly over the recording. pictures: by what they show, u8[H,W,3]
    of each of these frames, None where there is none (no face). level: times f64[N] and dB of full scale f64[N], one a
    ``HOP_S``. heard_by: the recogniser of the words; empty for a transcript. streams: by key modality and present
    bool[T], None where the recording is not in it. labels: by protocol. missing: what there is not, and why.
    """

    recording: str
    dataset: str
    timeline: Timeline
    clock: str
    at: npt.NDArray[np.float64]
    pictures: dict[str, list[Picture | None]] = field(default_factory=dict)
    level: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None
    words: list[TimedText] = field(default_factory=list)
    heard_by: str = ""
    streams: dict[str, tuple[str, npt.NDArray[np.bool_] | None]] = field(default_factory=dict)
    labels: dict[str, Labels] = field(default_factory=dict)
    partitions: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def gather(cache: FeatureCache, recording: str, dataset: Dataset | None = None) -> Shown:
    """What the cache has of a recording, and its media where its corpus is given.

    Raises CacheError where the cache has no timeline of it.
    """
    info = cache.timelines.info(recording)
    if info is None:
        known = cache.timelines.recordings()
        some = f"it has {', '.join(map(repr, known[:5]))} and so on" if known else "it has none"
        raise CacheError(f"no recording {recording!r} in {cache.root}", hint=suggest(recording, known) or some)
    timeline = cache.timelines.read(recording)
    shown = Shown(recording, cache.dataset, timeline, str(info.get("clock", "")), _evenly(timeline))
    shown.missing += remarks(info, timeline).values()
    _streams(cache, shown)
    _labels(cache, shown)
    found = None
    if dataset is None:
        shown.missing.append("only what is cached: give --root DIR, where the corpus lies, to see and hear its media")
    elif (found := next((r for r in dataset.recordings() if r.id == recording), None)) is None:
        shown.missing.append(f"the corpus at {dataset.root} has no such recording: only what is cached is shown")
    if found is not None:
        _media(found, shown)
    if not shown.words:
        _recognised(cache, shown)
    if found is not None and not shown.words and found.transcript is None:
        shown.missing.append("no transcript, and no words that a recogniser heard")
    return shown


def _evenly(timeline: Timeline) -> npt.NDArray[np.float64]:
    """When the frames in the middle of ``THUMBNAILS`` equal parts, or less for few frames, begin to be shown."""
    edges = np.linspace(timeline.pts[0], timeline.end, min(THUMBNAILS, len(timeline)) + 1)
    return timeline.pts[np.searchsorted(timeline.pts, (edges[:-1] + edges[1:]) / 2, "right") - 1]


def _streams(cache: FeatureCache, shown: Shown) -> None:
    found = {}
    for key in cache.stream_keys():
        try:
            modality, present = cache.stream(key).modality, None
            if cache.has(key, shown.recording):
                present = open_array(cache.folder(key, shown.recording) / "present").copy()
            found[key] = (modality, present)
        except AffuseError as error:
            shown.missing.append(error.message)
    shown.streams = dict(sorted(found.items(), key=lambda item: MODALITIES.index(item[1][0])))


def _labels(cache: FeatureCache, shown: Shown) -> None:
    for protocol in cache.labels.protocols():
        if cache.labels.has(protocol, shown.recording):
            try:
                shown.labels[protocol] = cache.labels.read(protocol, shown.recording)
                shown.partitions[protocol] = cache.labels.partitions(protocol).of.get(shown.recording, "")
            except AffuseError as error:
                shown.missing.append(error.message)
    if not shown.labels:
        shown.missing.append("no labels")


def _media(recording: Recording, shown: Shown) -> None:
    """Pictures, sound and words; each on its own, so that one bad file does not hide the others."""
    reads: dict[str, Callable[[], None]] = {}
    if recording.video is not None:
        reads["frames"] = partial(_frames, recording.video, shown)
    if recording.crops is not None:
        reads["face crops"] = partial(_crops, recording.crops, shown)
    if (sound := sound_file(recording)) is not None:
        reads["sound"] = partial(_hear, sound, shown)
    if recording.transcript is not None:
        reads["words"] = partial(_read_words, recording.transcript, shown)
    for what, read in reads.items():
        try:
            read()
        except READING as error:
            shown.missing.append(f"no {what}: {' '.join(str(error).split())}")
    if sound is None:
        shown.missing.append("crops alone, and no file of sound")


def _frames(path: Path, shown: Shown) -> None:
    shown.pictures["frames"] = list(VideoFile(path).shown_at(shown.at))


def _crops(folder: Path, shown: Shown) -> None:
    """The crops of the frames at these times; None for a frame without a face."""
    files, frames = crop_files(folder), np.searchsorted(shown.timeline.pts, shown.at)
    shown.pictures["face crops"] = [read_crop(files[f]) if f in files else None for f in frames.tolist()]


def _read_words(path: Path, shown: Shown) -> None:
    shown.words = read_transcript(path)


def _recognised(cache: FeatureCache, shown: Shown) -> None:
    """The words that a recogniser heard, where the cache keeps some; of several the first by name, which is said."""
    found = sorted(cache.root.glob(f"{heard.FOLDER}/*/{glob.escape(folder_of(shown.recording))}.json"))
    if not found:
        return
    try:
        shown.words, shown.heard_by = read_transcript(found[0]), found[0].parent.name
    except READING as error:
        shown.missing.append(f"no recognised words: {' '.join(str(error).split())}")
    if len(found) > 1:
        others = ", ".join(path.parent.name for path in found[1:])
        shown.missing.append(f"words are those of {found[0].parent.name}; the cache also has those of {others}")


def _hear(path: Path, shown: Shown) -> None:
    """Mean power of every ``HOP_S``, from the sound piece by piece."""
    sound, powers, held, step = SoundFile(path), [], np.empty(0, np.float32), 1
    for piece in sound.pieces():
        step = max(1, round(sound.rate * HOP_S))
        held = np.concatenate([held, piece])
        whole = held[: len(held) // step * step].astype(np.float64)
        powers.append((whole.reshape(-1, step) ** 2).mean(axis=1))
        held = held[len(whole) :]
    power = np.concatenate(powers) if powers else np.empty(0)
    if not len(power):
        shown.missing.append(f"no sound in {path.name}")
        return
    times = sound.start + (np.arange(len(power)) + 0.5) * step / sound.rate
    shown.level = times, 10 * np.log10(np.maximum(power, 10 ** (_QUIETEST_DB / 10)))
