"""One recording looked at as extraction would see it, without an encoder: what is wrong with it, a line each."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cache.records import Recording, Timeline
from extract.clock import crops_timeline, nominal_fps, nominal_timeline
from extract.crops import crop_files, read_crop
from extract.datasets import Dataset
from extract.examine_labels import against_frames, examine_labels
from extract.finding import READING, Examined
from extract.media import VideoFile, open_media
from extract.remarks import remarks
from extract.sound import Heard, listen
from extract.transcripts import read_transcript

_LATE_S = 0.1
_SILENCE = 1e-4  # of full scale: -80 dB
_SHORT = 0.9  # sound of less than so much of the picture's length


def examine(recording: Recording, dataset: Dataset, fps: float | None = None) -> Examined:
    """Decode and read everything of one recording once. fps: frames a second where it has no video."""
    seen = Examined(recording.id)
    sound = _sound(recording, seen)
    timeline = _picture(recording, seen) if recording.video else _nominal(recording, sound, fps, seen)
    if timeline is not None:
        seen.frames, seen.seconds = len(timeline), timeline.end - float(timeline.pts[0])
        if sound is not None and recording.video is not None:
            _compare_lengths(timeline, sound, seen)
        if recording.crops is not None:
            _crops(recording, timeline, seen)
    examine_labels(recording, dataset, timeline, seen)
    if recording.transcript is not None:
        _transcript(recording.transcript, seen)
    return seen


def _transcript(path: Path, seen: Examined) -> None:
    with _warnings() as told:
        try:
            units = read_transcript(path)
        except READING as error:
            seen.failed("transcript", error)
            return
    if told:
        more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
        seen.add("warning", "transcript", f"{told[0]}{more}")
    if not units:
        seen.add("warning", "transcript", f"nothing is said in {path.name}")


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What is warned of inside, instead of printing it."""
    log, told = logging.getLogger("affuse"), []
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: told.append(" ".join(record.getMessage().split()))  # type: ignore[method-assign]
    log.addHandler(listener)
    printed, log.propagate = log.propagate, False
    try:
        yield told
    finally:
        log.removeHandler(listener)
        log.propagate = printed


def _sound(recording: Recording, seen: Examined) -> Heard | None:
    path = recording.audio or recording.video
    if path is None:
        seen.add("warning", "no-audio", "crops alone, and no file of sound")
    if path is None or (path == recording.video and not path.is_file()):
        return None  # a missing video is told once, by _picture
    has_sound = path == recording.audio
    try:
        with open_media(path) as container:
            has_sound = has_sound or bool(container.streams.audio)
        with _warnings() as told:
            sound = listen(path)
    except READING as error:
        if has_sound:
            seen.failed("media", error)
        return None
    for warned in told:
        seen.add("warning", "damaged-media", warned)
    if sound is None and recording.video is None and recording.crops is None:
        seen.add("fault", "media", f"{path.name} has neither picture nor sound")
    elif sound is None:
        seen.add("warning", "no-audio", f"{path.name} has no sound")
    elif sound.loudest < _SILENCE:
        seen.add("warning", "silent-audio", f"{path.name} is silent throughout")
    if sound is not None and sound.start > _LATE_S:
        seen.add("note", "late-start", f"sound starts at {sound.start:.2f} s")
    return sound


def _nominal(recording: Recording, sound: Heard | None, fps: float | None, seen: Examined) -> Timeline | None:
    try:
        rate = nominal_fps(recording, None, fps)
        timeline = crops_timeline(recording.crops, rate) if recording.crops else None
    except READING as error:
        seen.failed("crops", error)
        return None
    if timeline is None and sound is not None:
        timeline = nominal_timeline(sound.start, sound.seconds, rate)
    if timeline is not None:
        _remarks({"clock": "nominal", "fps": rate, "over": "crops" if recording.crops else "sound"}, timeline, seen)
    return timeline


def _remarks(info: dict[str, Any], timeline: Timeline, seen: Examined) -> None:
    harmless = {"frame-times", "nominal-clock"} if info.get("over") != "crops" else {"frame-times"}
    for check, told in remarks(info, timeline).items():
        seen.add("note" if check in harmless else "warning", check, told)


def _picture(recording: Recording, seen: Examined) -> Timeline | None:
    video = VideoFile(recording.video)
    try:
        timeline = video.read_times()
    except READING as error:
        seen.failed("media", error)
        return None
    _remarks(video.info, timeline, seen)
    if timeline.pts[0] > _LATE_S:
        seen.add("note", "late-start", f"picture starts at {timeline.pts[0]:.2f} s")
    _steadiness(timeline, seen)
    return timeline


def _steadiness(timeline: Timeline, seen: Examined) -> None:
    gaps = np.diff(timeline.pts)
    usual = float(np.median(gaps)) if len(gaps) else 0.0
    if len(gaps) and np.abs(gaps - usual).max() > max(0.1 * usual, 0.002):
        by_index = timeline.pts[0] + np.arange(len(timeline)) * gaps.mean()
        wrong = np.abs(by_index - timeline.pts).max()
        span = f"{gaps.min() * 1000:.0f} to {gaps.max() * 1000:.0f} ms a frame"
        seen.add("note", "variable-rate", f"{span}: times from index / fps would be {wrong:.2f} s wrong")


def _compare_lengths(timeline: Timeline, sound: Heard, seen: Examined) -> None:
    heard = min(sound.start + sound.seconds, timeline.end) - max(sound.start, float(timeline.pts[0]))
    if heard < _SHORT * seen.seconds:
        seen.add("warning", "short-audio", f"{max(heard, 0):.1f} s of sound for {seen.seconds:.1f} s of picture")


def _crops(recording: Recording, timeline: Timeline, seen: Examined) -> None:
    try:
        files = crop_files(recording.crops) if recording.crops else {}
    except READING as error:
        seen.failed("crops", error)
        return
    numbers, unreadable = sorted(files), [told for path in files.values() if (told := _unreadable(path))]
    if unreadable:
        more = f" (and {len(unreadable) - 1} more)" if len(unreadable) > 1 else ""
        seen.add("fault", "crops", f"{unreadable[0]}{more}")
    inside = sum(n < len(timeline) for n in numbers)
    if numbers and numbers[-1] + 1 > len(timeline):
        against_frames("crops", numbers[-1] + 1, timeline, seen)
    if inside < len(timeline) / 2:
        seen.add("warning", "few-faces", f"{len(timeline) - inside} of {len(timeline)} frames have no crop")


def _unreadable(path: Path) -> str:
    try:
        read_crop(path)
        return ""
    except READING as error:
        return " ".join(str(error).split())
