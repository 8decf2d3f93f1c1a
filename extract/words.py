"""Words that a recogniser heard, as segments of whisper's JSON, which ``transcripts.whisper`` reads back."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

log = logging.getLogger("affuse")


@dataclass(frozen=True)
class Word:
    """One word, with the spaces and marks that a recogniser writes around it, and its time in seconds."""

    text: str
    start: float
    end: float


def segment(words: Iterable[Word], low: float, high: float) -> dict[str, Any] | None:
    """Words in time order as one segment within ``[low, high]`` seconds; None where not one has a time.

    A word starts where the one before ends, at the earliest. Some words get no time of their own: such a word joins
    the next one, at the end the one before.
    """
    made: list[dict[str, Any]] = []
    waiting = ""
    for word in words:
        start, end = round(max(word.start, low), 3), round(min(word.end, high), 3)
        waiting += word.text
        if end > start and waiting.strip():
            made.append({"word": waiting, "start": start, "end": end})
            waiting, low = "", end
    if made:
        made[-1]["word"] += waiting
        text = "".join(w["word"] for w in made)
        return {"start": made[0]["start"], "end": made[-1]["end"], "text": text, "words": made}
    if waiting.strip():
        log.warning("%r was recognised at %.3f s, but has no time and is left out", waiting, low)
    return None
