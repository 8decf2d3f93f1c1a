"""How a demo recording sounds: harmonics under moving formants, silent in the pauses, over a noisy room.

The voice's part of arousal sets loudness, pitch, syllable rate and brightness; its part of valence moves the second
formant. Which words are said is not heard.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from extract.demo.story import Story, person
from extract.demo.words import Word

CONTROL_HZ = 100  # clock of pitch, loudness and formants
HARMONICS = 24
VOWELS_HZ = np.array([[730, 1090], [270, 2290], [570, 840], [530, 1840], [440, 1020]], float)


@dataclass(frozen=True)
class Throat:
    """What is a subject's own: their pitch in Hz, vocal tract scale, and how loud their room is."""

    pitch_hz: float
    tract: float
    room: float


def grow_throat(seed: int, subject: str) -> Throat:
    """The voice of a subject, the same in all their recordings."""
    rng = person(seed, subject, "voice")
    return Throat(pitch_hz=rng.uniform(140, 190), tract=rng.uniform(0.95, 1.06), room=rng.uniform(0.002, 0.006))


def speak(
    story: Story, words: list[Word], throat: Throat, rng: np.random.Generator, rate: int
) -> npt.NDArray[np.float32]:
    """The sound of the whole story from 0 s on: f32[S] in (-1, 1) at ``rate`` Hz, mono."""
    control = np.arange(int(story.times[-1] * CONTROL_HZ)) / CONTROL_HZ
    loudness, pitch, tempo, timbre = np.clip(story.at(control, story.voice_cues), -2.5, 2.5).T
    beat = np.cumsum(4.5 * 2 ** (0.3 * tempo)) / CONTROL_HZ  # syllables so far
    f0 = throat.pitch_hz * 2 ** (pitch * 5 / 12) * (1 + 0.01 * rng.standard_normal(len(control)).cumsum() / 30)
    level = 0.09 * 10 ** (loudness * 7 / 20) * _voiced(control, words) * (0.7 - 0.3 * np.cos(2 * np.pi * beat))
    formants = _formants(beat, rng) * throat.tract * 2 ** (np.stack([0.05 * timbre, 0.4 * timbre], axis=1))
    bright = 0.45 + 0.15 * loudness

    samples = np.arange(int(len(control) / CONTROL_HZ * rate)) / rate
    phase = 2 * np.pi * np.cumsum(np.interp(samples, control, f0)) / rate
    before, wave, two_cos = np.zeros(len(samples)), np.sin(phase), 2 * np.cos(phase)
    sound = np.zeros(len(samples))
    for h in range(1, HARMONICS + 1):
        hz = h * f0
        gain = h**-0.8 * np.exp(-((hz[:, None] - formants) ** 2) / (2 * (60 + 0.1 * formants) ** 2)) @ [1.0, 0.7]
        gain += 0.25 * np.exp(-hz / (900 * np.clip(bright, 0.15, 1)))
        gain[hz > 0.45 * rate] = 0
        sound += np.interp(samples, control, gain * level) * wave
        before, wave = wave, two_cos * wave - before  # sin((h+1)p) = 2 cos(p) sin(hp) - sin((h-1)p)
    sound += throat.room * rng.standard_normal(len(samples)) + throat.room * np.sin(2 * np.pi * 100 * samples)
    return np.tanh(sound).astype(np.float32)


def _voiced(control: npt.NDArray[np.float64], words: list[Word]) -> npt.NDArray[np.float64]:
    """f64[C] in [0, 1]: 1 during words and the breathless gaps between them, 0 in pauses, with soft edges."""
    on = np.zeros(len(control))
    for word in words:
        on[(control >= word.start - 0.03) & (control < word.end + 0.03)] = 1
    return np.convolve(on, np.full(5, 1 / 5), mode="same")


def _formants(beat: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """f64[C,2] in Hz: a vowel a syllable, drawn at random, gliding into the next."""
    vowels = VOWELS_HZ[rng.integers(0, len(VOWELS_HZ), int(beat[-1]) + 2)]
    path = vowels[beat.astype(int)]
    glide = np.hanning(9) / np.hanning(9).sum()
    return np.stack([np.convolve(np.pad(f, 4, mode="edge"), glide, mode="valid") for f in path.T], axis=1)
