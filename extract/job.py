"""One recording, from files to committed streams: decode once, encode, align, commit.

Whatever a recording lacks (sound, transcript, faces) gives a stream that is absent in every frame, never zeros that
look like data. Whatever is there but cannot be read is an error of this recording alone.
"""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache.align import align
from cache.errors import AffuseError, CacheError, DataError
from cache.records import Recording, StreamSpec, Timeline, Track
from cache.store import FeatureCache
from extract.clock import crops_timeline, nominal_fps, nominal_timeline
from extract.crops import crop_blocks
from extract.media import DECODER, VideoFile, read_waveform
from extract.remarks import remarks
from extract.streams import Stream
from extract.transcripts import read_transcript

log = logging.getLogger("affuse")
_TODO = {  # by stage, where an error itself does not say
    "media": "play the file, get it anew or re-encode it, then run the same command again",
    "audio": "play the file, get it anew or re-encode its sound, then run the same command again",
    "transcript": "mend or remove the transcript, then run the same command again",
    "labels": "mend the annotation, then: python cli.py index --dataset NAME --root DIR",
}


@dataclass(frozen=True)
class Failure:
    """What could not be done of a recording: at which stage (media, audio, transcript, labels), why, and what to do."""

    recording: str
    stage: str
    cause: str
    hint: str

    def __str__(self) -> str:
        return f"{self.recording}, {self.stage}: {self.cause}; {self.hint}"


def failure(recording: str, stage: str, error: Exception) -> Failure:
    """What an error means for a user, on one line."""
    told = error.message if isinstance(error, AffuseError) else f"{type(error).__name__}: {error}"
    hint = getattr(error, "hint", "") or _TODO[stage]
    return Failure(recording, stage, " ".join(told.split()), " ".join(hint.split()))


@dataclass
class Outcome:
    """What became of one recording: streams made, those of them absent in every frame, remarks, failures."""

    made: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def extract_recording(
    recording: Recording, streams: list[Stream], cache: FeatureCache, fps: float | None = None
) -> Outcome:
    """Commit the timeline of one recording and these streams of it, each as soon as it is made.

    A file that cannot be read costs the streams that need it, no others; without frame times there is nothing.
    """
    outcome = Outcome()
    with _noting(outcome, recording, "media"):
        known = cache.timelines.info(recording.id)
        if known is not None:
            _check_unchanged(recording, known)
    if outcome.failures:
        return outcome
    visual = [s for s in streams if s.spec.modality == "visual"]
    with _noting(outcome, recording, "media"):
        timeline, tracks = _see(recording, visual, cache, fps)
        for stream in visual:
            _commit(recording, stream, tracks[stream.spec.key], timeline, cache, outcome)
        outcome.remarks += _remarks(recording.id, cache)
    if cache.timelines.info(recording.id) is None:
        return outcome
    timeline = cache.timelines.read(recording.id)  # it may be there although the pictures are not
    for stream in streams:
        if stream.spec.modality == "audio":
            with _noting(outcome, recording, "audio"):
                _commit(recording, stream, _listen(recording, stream), timeline, cache, outcome)
        elif stream.spec.modality == "text":
            with _noting(outcome, recording, "transcript"):
                _commit(recording, stream, _read(recording, stream), timeline, cache, outcome)
    return outcome


@contextlib.contextmanager
def _noting(outcome: Outcome, recording: Recording, stage: str) -> Iterator[None]:
    """Turns what a bad file raises into a failure; a cache that cannot be written stops the run."""
    try:
        yield
    except CacheError:
        raise
    except Exception as error:
        log.debug("%s", recording.id, exc_info=error)
        outcome.failures.append(failure(recording.id, stage, error))


def _commit(
    recording: Recording, stream: Stream, track: Track, timeline: Timeline, cache: FeatureCache, outcome: Outcome
) -> None:
    aligned = align(track, timeline, stream.align)
    absent = int((~aligned.present).sum())
    info = {"rows": len(track), "absent_frames": absent, "source": source_of(recording, stream.spec.modality)}
    cache.write(stream.spec.key, recording.id, aligned, info, dtype=stream.dtype)
    outcome.made.append(stream.spec.key)
    if absent == len(timeline):
        outcome.absent.append(stream.spec.key)


def _remarks(recording: str, cache: FeatureCache) -> list[str]:
    info = cache.timelines.info(recording) or {}
    return [f"{recording}: {text}" for text in remarks(info, cache.timelines.read(recording)).values()]


def _see(
    recording: Recording, visual: list[Stream], cache: FeatureCache, fps: float | None
) -> tuple[Timeline, dict[str, Track]]:
    """The timeline (committed on the way) and the tracks of the visual streams, from one decode."""
    known = cache.timelines.info(recording.id)
    if recording.video is None:
        timeline = _nominal_clock(recording, cache, fps)
        return timeline, _look(visual, crop_blocks(recording.crops, timeline) if recording.crops else [])
    if known is not None and (recording.crops or not visual):
        timeline = cache.timelines.read(recording.id)
        return timeline, _look(visual, crop_blocks(recording.crops, timeline) if recording.crops else [])
    video = VideoFile(recording.video)
    if recording.crops or not visual:
        timeline = video.read_times()
        cache.timelines.write(recording.id, timeline, _about(recording.video, video))
        tracks = _look(visual, crop_blocks(recording.crops, timeline) if recording.crops else [])
    else:
        tracks = _look(visual, video.blocks())
        timeline = video.timeline
    cache.timelines.write(recording.id, timeline, _about(recording.video, video))
    return timeline, tracks


def _about(path: Path, video: VideoFile) -> dict[str, Any]:
    return {"clock": "container", "decoder": DECODER, "source": _identity(path), **video.info}


def _look(visual: list[Stream], blocks: Any) -> dict[str, Track]:
    """Push every block to every visual encoder."""
    rows: dict[str, list[Track]] = {s.spec.key: [] for s in visual}
    try:
        for block in blocks:
            for stream in visual:
                rows[stream.spec.key].append(stream.ready().push(block))
    finally:  # a film that breaks off must not leave its frames to the next one
        for stream in visual if any(rows.values()) else ():
            rows[stream.spec.key].append(stream.ready().finish())
    return {s.spec.key: Track.concat(rows[s.spec.key], s.spec.dim) for s in visual}


def _listen(recording: Recording, stream: Stream) -> Track:
    encoder = stream.ready()
    path = sound_file(recording)
    waveform = read_waveform(path, encoder.rate) if path else None
    if waveform is None:
        return Track.concat([], stream.spec.dim)
    return Track.concat([encoder.push(waveform), encoder.finish()], stream.spec.dim)


def _read(recording: Recording, stream: Stream) -> Track:
    units = read_transcript(recording.transcript) if recording.transcript else []
    if not units:
        return Track.concat([], stream.spec.dim)
    encoder = stream.ready()
    return Track.concat([encoder.push(units), encoder.finish()], stream.spec.dim)


def sound_file(recording: Recording) -> Path | None:
    """The file its sound is in; None for crops alone."""
    return recording.audio or recording.video


def _nominal_clock(recording: Recording, cache: FeatureCache, fps: float | None) -> Timeline:
    """Frames of a recording without video: by the numbers of its crops, or over its sound. Its timeline says so."""
    known = cache.timelines.info(recording.id)
    if known is not None and known["clock"] != "nominal":
        return cache.timelines.read(recording.id)  # of a video that is gone since
    rate = nominal_fps(recording, known, fps)
    about = {"clock": "nominal", "fps": rate, "decoder": DECODER}
    if recording.crops is not None:
        timeline = crops_timeline(recording.crops, rate)
        about |= {"over": "crops", "source": _identity(recording.crops)}
    else:
        path = recording.audio
        sound = read_waveform(path, 16_000)
        if sound is None:
            raise DataError(f"{path} has neither picture nor sound")
        timeline = nominal_timeline(sound.start, len(sound.samples) / sound.rate, rate)
        about |= {"over": "sound", "source": _identity(path)}
    cache.timelines.write(recording.id, timeline, about)
    return timeline


def _identity(path: Path) -> dict[str, Any]:
    return {"name": path.name, "bytes": path.stat().st_size if path.is_file() else None}


def _check_unchanged(recording: Recording, known: dict[str, Any]) -> None:
    """Raises DataError where the frame times in the cache are another file's. A file that is gone is no change."""
    clock = recording.video or (recording.audio if recording.crops is None else None)
    now, source = _identity(clock) if clock else {"bytes": None}, known["source"]
    if now["bytes"] not in (None, source["bytes"]):
        size = f" with {source['bytes']}" if source["bytes"] is not None else f", at {known.get('fps', 25):g} a second"
        raise DataError(
            f"{now['name']} has {now['bytes']} bytes; the frame times of {recording.id!r} were read from "
            f"{source['name']}{size}",
            hint="its media changed: give the new media a new id, or extract into a fresh cache",
        )


def source_of(recording: Recording, modality: str) -> dict[str, Any]:
    """What a stream of that modality is made from: kind, file name and size; kept with the stream, without paths."""
    if modality == "text":
        return {"kind": "transcript", **_identity(recording.transcript)} if recording.transcript else {"kind": "none"}
    sound = sound_file(recording)
    if modality == "audio":
        return {"kind": "sound", **_identity(sound)} if sound else {"kind": "none"}
    if recording.crops:
        return {"kind": "crops", "name": recording.crops.name}
    return {"kind": "frames", **_identity(recording.video)} if recording.video else {"kind": "none"}


def changed_source(recording: Recording, stream: StreamSpec, cache: FeatureCache) -> Failure | None:
    """Where a committed stream was made from another file than the corpus has now. A file that is gone is no change."""
    old = cache.commit_record(stream.key, recording.id).get("source")
    new = source_of(recording, stream.modality)
    gone = new.get("bytes", 0) is None or (stream.modality == "audio" and new["kind"] == "none")
    if old is None or old == new or gone:
        return None
    cause = f"{stream.key} was made from {_named(old)}, and the corpus now has {_named(new)}"
    hint = "give the new media a new id, or extract into a fresh cache (--cache)"
    if new["kind"] != "frames":
        hint += f", or remove {cache.folder(stream.key, recording.id)} to make it anew"
    return Failure(recording.id, "media", cause, hint)


def _named(source: dict[str, Any]) -> str:
    size = f" ({source['bytes']} bytes)" if source.get("bytes") is not None else ""
    return " ".join([source["kind"], source.get("name", "")]).strip() + size
