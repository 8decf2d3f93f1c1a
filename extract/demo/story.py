"""What happens inside a demo recording: the hidden affect, and the part of it that each modality shows.

Five independent smooth processes live in a recording. The face shows two of them, the voice two, the words one;
valence and arousal are mixtures of them plus an annotator's noise, so that no modality alone can explain either:

    valence = face + words + a little voice        arousal = voice + face        (weights below)

Every process has mean 0 and variance 1 within its recording: who is seen says nothing about how they feel.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

GRID_HZ = 100  # the story's own clock
MOMENT_S = 0.7  # length scale of the processes: correlation is 0.6 after one, 0.14 after two
SPREAD = 0.38  # standard deviation of the labels
VALENCE = {"face": 0.44, "words": 0.42, "voice": 0.09, "annotator": 0.05}  # shares of the variance
AROUSAL = {"face": 0.44, "voice": 0.51, "annotator": 0.05}
CUE_NOISE = 0.2  # of every cue, as a fraction of the part it shows
FACE_CUES = ("smile", "brow_slope", "blush", "eyes", "mouth_open", "brow_height")
VOICE_CUES = ("loudness", "pitch", "tempo", "timbre")


@dataclass(frozen=True)
class Story:
    """Hidden affect of one recording on a grid of G times (seconds); all parts have unit variance.

    va: f64[G,2] as annotated. face_cues: f64[G,6] in the order of FACE_CUES; voice_cues: f64[G,4] of VOICE_CUES.
    away: f64[K,2], spans in seconds during which the face is out of view.
    """

    times: Array
    face_valence: Array
    face_arousal: Array
    voice_valence: Array
    voice_arousal: Array
    word_valence: Array
    va: Array
    face_cues: Array
    voice_cues: Array
    away: Array

    def at(self, times: Array, series: Array) -> Array:
        """``series`` (f64[G] or f64[G,C]) read at other times; a time outside the story reads its nearest end."""
        if series.ndim == 1:
            return np.interp(times, self.times, series)
        return np.stack([np.interp(times, self.times, column) for column in series.T], axis=1)

    def is_away(self, times: Array) -> npt.NDArray[np.bool_]:
        """bool[N]: whether the face is out of view at each of ``times``."""
        start, end = self.away.T
        return ((times[:, None] >= start) & (times[:, None] < end)).any(axis=1)


def person(seed: int, subject: str, what: str) -> np.random.Generator:
    """The generator of one trait of one subject in the corpus of ``seed``; the same in each of their recordings."""
    return np.random.default_rng([seed, zlib.crc32(subject.encode()), zlib.crc32(what.encode())])


def wander(rng: np.random.Generator, times: Array, scale_s: float = MOMENT_S) -> Array:
    """A smooth stationary process on ``times``: mean 0, variance 1, squared-exponential correlation of ``scale_s``.

    A sum of random cosines (Rahimi & Recht 2007, random Fourier features), standardised over the recording.
    """
    rate = rng.normal(0, 1 / scale_s, 48)
    phase = rng.uniform(0, 2 * np.pi, 48)
    values = np.cos(times[:, None] * rate + phase).sum(axis=1)
    return (values - values.mean()) / values.std()


def tell_story(seed: int, subject: str, duration: float, leaves: bool = False) -> Story:
    """The story of one recording of ``duration`` seconds; ``leaves``: the face goes out of view once, for 2-4 s."""
    rng = person(seed, subject, "story")
    times = np.arange(int(duration * GRID_HZ) + 1) / GRID_HZ
    parts = {name: wander(rng, times) for name in ("face_valence", "face_arousal", "voice_valence")}
    parts |= {name: wander(rng, times) for name in ("voice_arousal", "word_valence")}
    blur = [wander(rng, times, 0.3) for _ in range(2)]
    valence = mix(VALENCE, parts["face_valence"], parts["word_valence"], parts["voice_valence"], blur[0])
    arousal = mix(AROUSAL, parts["face_arousal"], parts["voice_arousal"], blur[1])

    def show(part: str, cues: int) -> list[Array]:
        return [parts[part] + CUE_NOISE * wander(rng, times, 0.25) for _ in range(cues)]

    length = rng.uniform(2, 4)
    start = rng.uniform(1.5, duration - length - 1.5)
    return Story(
        times=times,
        **parts,
        va=np.clip(SPREAD * np.stack([valence, arousal], axis=1), -1, 1),
        face_cues=np.stack(show("face_valence", 3) + show("face_arousal", 3), axis=1),
        voice_cues=np.stack(show("voice_arousal", 3) + show("voice_valence", 1), axis=1),
        away=np.array([[start, start + length]]) if leaves else np.empty((0, 2)),
    )


def mix(shares: dict[str, float], *parts: Array) -> Array:
    """Independent unit parts summed so that each has its share of the variance."""
    return sum(np.sqrt(share) * part for share, part in zip(shares.values(), parts, strict=True))
