"""Who and what is in the demo corpus: its recordings, their subjects, partitions, and the oddities of real corpora.

Oddities are a table by position rather than drawn, so that every seed has all of them.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

Partition = Literal["Train_Set", "Validation_Set", "Test_Set"]
RATES = (Fraction(25), Fraction(30), Fraction(30000, 1001))
SOUND_HZ = (16000, 44100, 16000, 22050, 16000, 32000)
WEBM_SOUND_HZ = 48000


@dataclass(frozen=True)
class Scene:
    """What makes one recording. Times in seconds; nothing is filmed or heard before its ``*_start``."""

    id: str
    index: int
    subject: str
    partition: Partition
    duration: float
    batch: str
    suffix: str  # .mp4 (h264 + aac) or .webm (vp9 + opus)
    rate: Fraction
    variable: bool  # frame times are irregular
    video_start: float
    audio_start: float | None  # None: no audio track
    sound_hz: int
    transcript: bool
    crops: bool
    leaves: bool  # the face goes out of view once
    extra_rows: int  # annotation rows beyond one a frame


def plan_scenes(seed: int, recordings: int) -> list[Scene]:
    """The recordings of the corpus of ``seed``, in order of id."""
    rng = np.random.default_rng([seed, 1])
    seats = _seats(recordings)
    return [_scene(i, *seats[i], round(float(rng.uniform(13, 20)), 2)) for i in range(recordings)]


def _seats(recordings: int) -> list[tuple[str, Partition]]:
    """(subject, partition) of each recording: half train, a fifth validation; some subjects are in it twice."""
    order = np.argsort((np.arange(recordings) * 0.618) % 1)
    train = max(1, recordings // 2)
    validation = max(1, round(recordings * 5 / 24))
    sizes: dict[Partition, int] = {
        "Train_Set": train,
        "Validation_Set": validation,
        "Test_Set": recordings - train - validation,
    }
    seats: list[tuple[str, Partition]] = []
    people = 0
    for partition, size in sizes.items():
        count = -(-size * 3 // 4)
        seats += [(f"person{people + 1 + k % count:02d}", partition) for k in range(size)]
        people += count
    return [seats[rank] for rank in np.argsort(order)]


def _scene(i: int, subject: str, partition: Partition, duration: float) -> Scene:
    webm = i == 1
    return Scene(
        id=f"demo{i + 1:02d}",
        index=i,
        subject=subject,
        partition=partition,
        duration=duration,
        batch="batch1" if i % 2 == 0 else "batch2",
        suffix=".webm" if webm else ".mp4",
        rate=RATES[i % 3],
        variable=i % 4 == 0,
        video_start={3: 0.28, 10: 0.4}.get(i, 0.0),
        audio_start=None if i in (5, 17) else {2: 0.35, 14: 0.6}.get(i, 0.0),
        sound_hz=WEBM_SOUND_HZ if webm else SOUND_HZ[i % 6],
        transcript=i % 7 != 5,
        crops=i % 3 == 0,
        leaves=i % 3 == 0 or i % 6 == 1,
        extra_rows={0: 1, 3: -1}.get(i, 0),
    )


def frame_times(scene: Scene, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """f64[T+1] in seconds, T frame times and the end of the last frame; whole milliseconds where they are irregular."""
    start, end = scene.video_start, scene.duration
    if not scene.variable:
        return start + np.arange(int((end - start) * scene.rate) + 1) / float(scene.rate)
    steps = rng.integers(20, 81, int((end - start) / 0.02)) / 1000
    times = start + np.concatenate([[0.0], np.cumsum(steps)])
    return times[times <= end]
