"""Clocks of recordings that have none of their own: nominal frames over sound or over numbered face crops.

The timeline says that it is nominal and at which rate. A rate is guessed for sound alone, where frames are ours to
choose, never for crops: their numbers are frames of a video that is not there.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from cache.errors import ConfigError, DataError
from cache.records import Recording, Timeline
from extract.crops import crop_files
from extract.sound import listen

NOMINAL_FPS = 25.0
_FPS_AT_MOST = 1000


def check_fps(fps: float | None) -> None:
    """Raises ConfigError for a rate that no frames have."""
    if fps is not None and not 0 < fps <= _FPS_AT_MOST:
        raise ConfigError(f"fps is {fps:g}; wanted frames a second, above 0 and up to {_FPS_AT_MOST}")


def nominal_fps(recording: Recording, known: dict[str, Any] | None, given: float | None) -> float:
    """Frames a second of a recording without video: as given, else as in the cache, else 25 over sound.

    known: what was recorded with its timeline. Raises DataError for crops without a rate, and where the cache has
    another one than given.
    """
    had = known.get("fps", NOMINAL_FPS) if known and known["clock"] == "nominal" else None
    if given and had and given != had:
        raise DataError(
            f"the frames of {recording.id!r} were laid at {had:g} a second, and --fps now says {given:g}",
            hint=f"give --fps {had:g}, or extract into a fresh cache: --cache DIR",
        )
    fps = given or had or (None if recording.crops else NOMINAL_FPS)
    if fps is None:
        raise DataError(
            f"recording {recording.id!r} has no video; crops alone need --fps",
            hint="give the frames a second that its pictures are numbered by, e.g. --fps 30",
        )
    return fps


def nominal_frames(recording: Recording, fps: float, until: float = math.inf) -> Timeline:
    """Frames of a recording without video: by the numbers of its crops, else over its sound.

    until: when to give up listening, on the clock of ``time.monotonic``. Raises DataError then, and where it has none.
    """
    if recording.crops is not None:
        return crops_timeline(recording.crops, fps)
    heard = listen(recording.audio, until) if recording.audio else None
    if heard is None:
        raise DataError(f"{recording.audio or recording.id} has neither picture nor sound")
    return nominal_timeline(heard.start, heard.seconds, fps)


def nominal_timeline(start: float, seconds: float, fps: float = NOMINAL_FPS) -> Timeline:
    """``fps`` frames a second over sound that begins at ``start`` and lasts so long."""
    frames = max(1, int(seconds * fps + 1e-6))
    pts = start + np.arange(frames) / fps
    return Timeline(pts, float(pts[-1] + 1 / fps))


def crops_timeline(folder: Path, fps: float) -> Timeline:
    """A frame for every number up to the last crop's, the first at 0 s. Raises DataError where there is no crop."""
    numbers = crop_files(folder)
    if not numbers:
        raise DataError(f"{folder} holds no numbered picture", hint="name them by video frame: 00001.jpg, 00002.jpg")
    frames = max(numbers) + 1
    return Timeline(np.arange(frames) / fps, frames / fps)
