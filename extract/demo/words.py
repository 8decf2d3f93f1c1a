"""What is said in a demo recording: words of a fixed, known valence, chosen after the words' part of the story.

Speech runs in phrases with pauses between them; when a word starts and ends says nothing about how it feels.
"""

from dataclasses import dataclass

import numpy as np

from extract.demo.story import Story

WORD_NOISE = 0.25  # of a word's choice, in standard deviations of the words' part
REACH = 1.6  # the most extreme words stand for this many standard deviations
COMMON = 8  # how much more often the first word of each four is said, as in real speech few words do most of the work

_FROM_WORST_TO_BEST = (
    "hate horrible awful disaster terrible miserable worst painful",
    "angry dreadful lost broken sad wrong lonely tired",
    "bad worried boring cold maybe table window paper",
    "today street calm other okay fine gentle warm",
    "good nice funny friend happy great bright sunshine",
    "lovely beautiful best perfect love wonderful amazing brilliant",
)
_WORDS = [word for row in _FROM_WORST_TO_BEST for word in row.split()]

#: Every word there is, and its valence in [-1, 1].
VOCABULARY: dict[str, float] = dict(zip(_WORDS, np.linspace(-1, 1, len(_WORDS)).round(3).tolist(), strict=True))


@dataclass(frozen=True)
class Word:
    """One spoken word, during ``[start, end)`` seconds."""

    text: str
    start: float
    end: float


def choose_words(story: Story, rng: np.random.Generator) -> list[Word]:
    """About 2.5 words a second, in phrases of 4-8 words with pauses of 0.25-0.6 s between them."""
    names, values = list(VOCABULARY), np.array(list(VOCABULARY.values()))
    words: list[Word] = []
    now, left, last = 0.5, int(rng.integers(4, 9)), story.times[-1] - 0.1
    while now + (length := rng.uniform(0.24, 0.4)) < last:
        feeling = story.at(np.array([now + length / 2]), story.word_valence)[0]
        wanted = (feeling + rng.normal(0, WORD_NOISE)) / REACH
        nearest = np.argsort(np.abs(values - wanted))[:5]
        often = np.where(nearest % 4 == 0, COMMON, 1)
        word = names[rng.choice(nearest, p=often / often.sum())]
        words.append(Word(word, round(now, 3), round(now + length, 3)))
        now += length + rng.uniform(0.01, 0.06)
        left -= 1
        if not left:
            now, left = now + rng.uniform(0.25, 0.6), int(rng.integers(4, 9))
    return words


def as_srt(words: list[Word]) -> str:
    """The words as SubRip text, one word a cue."""
    cues = (f"{i}\n{_clock(w.start)} --> {_clock(w.end)}\n{w.text}\n" for i, w in enumerate(words, 1))
    return "\n".join(cues)


def _clock(seconds: float) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d},{ms % 1000:03d}"
