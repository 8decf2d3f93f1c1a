"""The alignment receipt: a small JSON that a lab can publish, and against which another can hold its own cache.

Of every recording: the clock, the decoder, a hash of its frame times, when they begin, how long they last and how even
they are, and a hash of its labels by protocol. Of every stream: its key with all settings, and of each recording how
many frames are present and eight numbers (``cache.care.sketch`` says what they tell and what not). It names recordings
by their ids; it holds no feature, no label, no path and of the frame times the first alone.

A receipt that is read was written by others: it is checked whole before anything of it is used.
"""

import hashlib
import math
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from cache.care.sketch import NUMBERS, sketch
from cache.check import undamaged
from cache.errors import DataError, MissingData, UsageError
from cache.fingerprint import canonical, stream_key
from cache.ids import as_text
from cache.layout import write_file
from cache.progress import progress
from cache.reader import StreamReader
from cache.recipe import to_plain
from cache.records import Modality, Timeline
from cache.store import FeatureCache

FORMAT = 1
_LARGEST = 1 << 28  # bytes of a receipt; ten streams of 10,000 recordings take 15 MB
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Splits = dict[str, dict[str, str]]  # partition by recording, by protocol
Numbers = Annotated[tuple[float, ...], Field(min_length=NUMBERS, max_length=NUMBERS)]


@dataclass(frozen=True)
class LabelReceipt:
    """sha256 of va f32[T,2] and labelled u8[T] (little endian, one after the other); how many frames are labelled."""

    sha256: Hash
    labelled: Count
    partition: str

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT


@dataclass(frozen=True)
class TimelineReceipt:
    """sha256 of pts and end as f64 (little endian). start: when the first frame begins; seconds: from then to the end.

    fps: of the straight line that fits the frame times best; drift_ms: how far a frame time is off that line at most.
    """

    clock: str
    decoder: str
    sha256: Hash
    frames: Count
    start: float
    seconds: float
    fps: float
    drift_ms: float
    labels: dict[str, LabelReceipt]

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT


@dataclass(frozen=True)
class FeatureReceipt:
    """Of a stream's recording: frames that are present, and its sketch."""

    present: Count
    sketch: Numbers

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT


@dataclass(frozen=True)
class StreamReceipt:
    """A stream: what it is, every setting in its fingerprint, and its recordings."""

    name: str
    modality: Modality
    dim: Annotated[int, Field(ge=1)]
    settings: dict[str, Any]
    recordings: dict[str, FeatureReceipt]

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT


@dataclass(frozen=True)
class Receipt:
    """A whole cache. streams: by key."""

    affuse_receipt: int
    dataset: str
    recordings: dict[str, TimelineReceipt]
    streams: dict[str, StreamReceipt]

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT


def make_receipt(root: Path | str, *, quiet: bool = False) -> Receipt:
    """Of everything that is committed. Raises CorruptCache where a part cannot be read."""
    cache = FeatureCache(root)
    splits = partitions_of(cache)
    recordings = {as_text(r): timeline_receipt(cache, r, splits) for r in cache.timelines.recordings()}
    keys = {k: cache.recordings(k) for k in cache.stream_keys()}
    streams = {}
    with progress("receipt", sum(map(len, keys.values())), quiet=quiet) as step:
        for key, names in keys.items():
            about, made = cache.about(key), {}
            for recording in names:
                made[as_text(recording)] = feature_receipt(cache, key, recording, key)
                step()
            streams[key] = StreamReceipt(about["name"], about["modality"], about["dim"], about["settings"], made)
    return Receipt(FORMAT, cache.dataset, recordings, streams)


def partitions_of(cache: FeatureCache) -> Splits:
    """Each protocol's partitions, read once: they are of all recordings. Raises CorruptCache for damaged ones."""
    return {p: cache.labels.partitions(p).of for p in cache.labels.protocols()}


def timeline_receipt(cache: FeatureCache, recording: str, splits: Splits) -> TimelineReceipt:
    """Of one recording's frame times and labels. splits: ``partitions_of`` the cache."""
    timeline, info = cache.timelines.read(recording), cache.timelines.info(recording) or {}
    fps, drift = evenness(timeline)
    return TimelineReceipt(
        clock=str(info.get("clock", "")),
        decoder=str(info.get("decoder", "")),
        sha256=hashlib.sha256(timeline.edges.astype("<f8").tobytes()).hexdigest(),
        frames=len(timeline),
        start=round(float(timeline.pts[0]), 6),
        seconds=round(timeline.end - float(timeline.pts[0]), 6),
        fps=round(fps, 6),
        drift_ms=round(drift, 3),
        labels={p: r for p, split in splits.items() if (r := label_receipt(cache, p, recording, split))},
    )


def evenness(timeline: Timeline) -> tuple[float, float]:
    """Frames a second of the line through the frame times (least squares), and the largest distance to it in ms."""
    frames = len(timeline)
    if frames == 1:
        return 1 / (timeline.end - float(timeline.pts[0])), 0.0
    number = np.arange(frames) - (frames - 1) / 2
    centred = timeline.pts - timeline.pts.mean()
    step = float(number @ centred) / float(number @ number)
    return 1 / step, 1000 * float(np.abs(centred - step * number).max())


def label_receipt(
    cache: FeatureCache, protocol: str, recording: str, partition_of: dict[str, str]
) -> LabelReceipt | None:
    """Of one recording's labels; None where it has none."""
    if not cache.labels.has(protocol, recording):
        return None
    labels = cache.labels.read(protocol, recording)
    data = labels.va.astype("<f4").tobytes() + labels.labelled.astype(np.uint8).tobytes()
    partition = partition_of.get(recording, "")
    return LabelReceipt(hashlib.sha256(data).hexdigest(), int(labels.labelled.sum()), partition)


def feature_receipt(cache: FeatureCache, key: str, recording: str, signs_of: str) -> FeatureReceipt:
    """Of one recording of a stream, with the signs that belong to the key ``signs_of``.

    Raises CorruptCache where any of its bytes is damaged: nobody should vouch for those.
    """
    folder = undamaged(cache.folder(key, recording))
    values, present = StreamReader({recording: folder}).recording(recording)
    return FeatureReceipt(int(present.sum()), sketch(values, present, signs_of, recording))


def read_receipt(path: Path) -> Receipt:
    """A receipt of others, checked. Raises MissingData where there is none, DataError where it is not a sound one."""
    if not path.is_file():
        raise MissingData(f"no receipt at {path}", hint="make one with: python cli.py cache receipt --out FILE")
    if path.stat().st_size > _LARGEST:
        raise DataError(f"{path} has {path.stat().st_size} bytes; a receipt has at most {_LARGEST}")
    try:
        receipt = TypeAdapter(Receipt).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(repr(p)[:80] for p in first["loc"])
        raise DataError(f"{path} is not a receipt: {where or 'as a whole'}: {first['msg'].lower()}") from error
    if receipt.affuse_receipt != FORMAT:
        raise DataError(f"{path} is a receipt of format {receipt.affuse_receipt}; this program reads {FORMAT}")
    for key, stream in receipt.streams.items():
        _check(path, key, stream, receipt)
    return receipt


def _check(path: Path, key: str, stream: StreamReceipt, receipt: Receipt) -> None:
    """A stream has the key of its settings, and its recordings have timelines and finite sketches."""
    try:
        wanted = stream_key(stream.name, stream.settings)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a receipt: the settings of {key!r} are no plain data") from error
    if key != wanted:
        raise DataError(f"{path} contradicts itself: stream {key!r} has the settings of {wanted!r}")
    for recording, made in stream.recordings.items():
        timeline = receipt.recordings.get(recording)
        if timeline is None or made.present > timeline.frames:
            raise DataError(f"{path} contradicts itself: {key!r} has frames of {recording!r} that its timeline lacks")
        if not all(map(math.isfinite, made.sketch)) or min(made.sketch[:2]) < 0:
            raise DataError(f"{path} is not a receipt: the sketch of {recording!r} in {key!r} has no such numbers")


def receipt_text(receipt: Receipt) -> str:
    """The file: canonical JSON (sorted keys, no spaces) and a newline, so that equal caches give equal receipts."""
    return canonical(to_plain(receipt)) + "\n"


def check_out(path: Path) -> None:
    """Raises UsageError where a receipt cannot be written to that path, before there is one."""
    if (path.exists() and not path.is_file()) or not path.parent.is_dir():
        what = f"{path} is no file" if path.exists() else f"there is no folder {path.parent}"
        raise UsageError(f"no receipt can be written: {what}", hint="give --out a file in a folder that is there")


def save_receipt(path: Path, text: str) -> int:
    """Write the file in one step; returns its bytes. Raises UsageError where it cannot be written."""
    path, data = path.resolve(), text.encode()
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        write_file(draft, data)
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UsageError(f"cannot write {path}: {error.strerror}", hint="give --out another file") from error
    return len(data)
