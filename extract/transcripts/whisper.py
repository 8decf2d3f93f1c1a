"""JSON of whisper and its kin: faster-whisper, whisper-timestamped, whisperX.

All have segments with ``start``, ``end`` and ``text``; some time their ``words`` (a word is ``word`` or ``text``).
WhisperX leaves words it cannot align, such as digits, without times: those lie between their timed neighbours, and
where these leave no room, somewhere in their segment.
"""

import json
import logging
from pathlib import Path
from typing import Any

from cache.errors import DataError
from extract.blocks import TimedText
from extract.transcripts._text import clean

log = logging.getLogger("affuse")
_Span = tuple[float, float]


def read(content: str, path: Path) -> list[TimedText]:
    """One unit a word where words are timed, else one a segment. Raises DataError where it is not such JSON."""
    try:
        data = json.loads(content)
    except json.JSONDecodeError as error:
        raise DataError(f"transcript {path} is not JSON: line {error.lineno}: {error.msg}") from error
    segments = data.get("segments", data.get("word_segments")) if isinstance(data, dict) else data
    if not isinstance(segments, list):
        raise DataError(f"transcript {path} has no list of 'segments', as whisper's JSON has")
    units: list[TimedText] = []
    for number, segment in enumerate(segments):
        found = _segment(segment) if isinstance(segment, dict) else []
        if not found:
            log.warning("%s segment %d has no text with times and is left out: %.80r", path.name, number, segment)
        units += found
    return units


def _segment(segment: dict[str, Any]) -> list[TimedText]:
    words = segment.get("words")
    words = [w for w in words if isinstance(w, dict) and _text(w)] if isinstance(words, list) else []
    spans = [_span(w) for w in words]
    whole = _span(segment)
    if any(spans):
        places = [span or _between(spans, i, whole) for i, span in enumerate(spans)]
        return [TimedText(_text(w), *place) for w, place in zip(words, places, strict=True) if place]
    text = _text(segment) or " ".join(map(_text, words))
    return [TimedText(text, *whole)] if whole else []


def _between(spans: list[_Span | None], i: int, whole: _Span | None) -> _Span | None:
    """Where word i may lie: after the timed words before it and before those after it."""
    before = next((s[1] for s in reversed(spans[:i]) if s), whole[0] if whole else None)
    after = next((s[0] for s in spans[i:] if s), whole[1] if whole else None)
    return (before, after) if before is not None and after is not None and after > before else whole


def _span(entry: dict[str, Any]) -> _Span | None:
    try:
        return float(entry["start"]), float(entry["end"])
    except (KeyError, TypeError, ValueError):
        return None


def _text(entry: dict[str, Any]) -> str:
    return clean(str(entry.get("word") or entry.get("text") or ""))
