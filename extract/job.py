"""One recording, from files to committed streams: decode once, encode, align, commit.

Whatever a recording lacks (sound, transcript, faces) gives a stream that is absent in every frame, never zeros that
look like data. Whatever is there but cannot be read is an error of this recording alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache.align import align
from cache.errors import DataError
from cache.records import Recording, Timeline, Track
from cache.store import FeatureCache
from extract.blocks import Waveform
from extract.crops import crop_blocks
from extract.media import DECODER, VideoFile, read_waveform
from extract.streams import Stream
from extract.transcripts import read_transcript

NOMINAL_FPS = 25.0  # the clock of a recording without video


@dataclass(frozen=True)
class Outcome:
    """What a user should know of one recording: remarks on its media, and the streams that are absent throughout."""

    remarks: list[str]
    absent: list[str]


def extract_recording(recording: Recording, streams: list[Stream], cache: FeatureCache) -> Outcome:
    """Commit the timeline of one recording and these streams of it."""
    visual = [s for s in streams if s.spec.modality == "visual"]
    timeline, tracks = _see(recording, visual, cache)
    for stream in streams:
        if stream.spec.modality == "audio":
            tracks[stream.spec.key] = _listen(recording, stream)
        elif stream.spec.modality == "text":
            tracks[stream.spec.key] = _read(recording, stream)
    absent = []
    for stream in streams:
        track = tracks[stream.spec.key]
        aligned = align(track, timeline, stream.align)
        info = {"rows": len(track), "absent_frames": int((~aligned.present).sum())}
        cache.write(stream.spec.key, recording.id, aligned, info, dtype=stream.dtype)
        absent += [] if aligned.present.any() else [stream.spec.key]
    return Outcome(_remarks(recording.id, cache), absent)


def _remarks(recording: str, cache: FeatureCache) -> list[str]:
    info = cache.timeline_info(recording) or {}
    remarks = {
        "damaged_packets": "damaged packets were skipped",
        "repaired_times": "frame times did not increase and were moved by a microsecond",
    }
    found = [f"{recording}: {info[k]} {what}" for k, what in remarks.items() if info.get(k)]
    return found + ([f"{recording}: no video, so its frames are nominal"] if info.get("clock") == "nominal" else [])


def _see(recording: Recording, visual: list[Stream], cache: FeatureCache) -> tuple[Timeline, dict[str, Track]]:
    """The timeline (committed on the way) and the tracks of the visual streams, from one decode."""
    known = cache.timeline_info(recording.id)
    if known is not None:
        _check_unchanged(recording, known)
    if recording.video is None:
        return _clock_of_sound(recording, cache), {s.spec.key: Track.concat([], s.spec.dim) for s in visual}
    if known is not None and (recording.crops or not visual):
        timeline = cache.timeline(recording.id)
        return timeline, _look(visual, crop_blocks(recording.crops, timeline) if recording.crops else [])
    video = VideoFile(recording.video)
    if recording.crops or not visual:
        timeline = video.read_times()
        tracks = _look(visual, crop_blocks(recording.crops, timeline) if recording.crops else [])
    else:
        tracks = _look(visual, video.blocks())
        timeline = video.timeline
    info = {"clock": "container", "decoder": DECODER, "source": _identity(recording.video), **video.info}
    cache.write_timeline(recording.id, timeline, info)
    return timeline, tracks


def _look(visual: list[Stream], blocks: Any) -> dict[str, Track]:
    """Push every block to every visual encoder."""
    rows: dict[str, list[Track]] = {s.spec.key: [] for s in visual}
    for block in blocks:
        for stream in visual:
            rows[stream.spec.key].append(stream.ready().push(block))
    for stream in visual if any(rows.values()) else ():
        rows[stream.spec.key].append(stream.ready().finish())
    return {s.spec.key: Track.concat(rows[s.spec.key], s.spec.dim) for s in visual}


def _listen(recording: Recording, stream: Stream) -> Track:
    encoder = stream.ready()
    waveform = read_waveform(_sound(recording), encoder.rate)
    if waveform is None:
        return Track.concat([], stream.spec.dim)
    return Track.concat([encoder.push(waveform), encoder.finish()], stream.spec.dim)


def _read(recording: Recording, stream: Stream) -> Track:
    units = read_transcript(recording.transcript) if recording.transcript else []
    if not units:
        return Track.concat([], stream.spec.dim)
    encoder = stream.ready()
    return Track.concat([encoder.push(units), encoder.finish()], stream.spec.dim)


def _sound(recording: Recording) -> Path:
    path = recording.audio or recording.video
    if path is None:
        raise DataError(f"recording {recording.id!r} has no media")
    return path


def _clock_of_sound(recording: Recording, cache: FeatureCache) -> Timeline:
    """A recording without video gets nominal frames over its sound, and its timeline says so."""
    path = _sound(recording)
    sound = read_waveform(path, 16_000)
    if sound is None:
        raise DataError(f"{path} has neither picture nor sound")
    timeline = nominal_timeline(sound)
    cache.write_timeline(recording.id, timeline, {"clock": "nominal", "decoder": DECODER, "source": _identity(path)})
    return timeline


def nominal_timeline(sound: Waveform) -> Timeline:
    """Frames for a recording without video: ``NOMINAL_FPS`` a second over its sound."""
    frames = max(1, int(len(sound.samples) / sound.rate * NOMINAL_FPS))
    pts = sound.start + np.arange(frames) / NOMINAL_FPS
    return Timeline(pts, float(pts[-1] + 1 / NOMINAL_FPS))


def _identity(path: Path) -> dict[str, Any]:
    return {"name": path.name, "bytes": path.stat().st_size}


def _check_unchanged(recording: Recording, known: dict[str, Any]) -> None:
    path = recording.video or _sound(recording)
    if path.is_file() and known["source"]["bytes"] != path.stat().st_size:
        raise DataError(
            f"{path} has {path.stat().st_size} bytes; it had {known['source']['bytes']} when {recording.id!r} was made",
            hint="its media changed: give the new media a new id, or extract into a fresh cache",
        )
