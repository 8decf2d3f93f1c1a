"""Transcripts as timed text. A unit is what the file times, a word or a cue: times inside a cue are never invented.

Read: SubRip ``.srt``, WebVTT ``.vtt``, NIST ``.ctm`` (start and duration), and ``[12.3s - 15.6s] words`` lines.
"""

import html
import logging
import re
from collections.abc import Callable
from pathlib import Path

from cache.errors import DataError, MissingData
from extract.blocks import TimedText

log = logging.getLogger("affuse")
_CLOCK = r"(?:(\d+):)?(\d+):(\d+)(?:[.,](\d+))?"
_CUE = re.compile(rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}")
_BRACKET = re.compile(r"\s*\[(\d+(?:\.\d+)?)s?\s*-\s*(\d+(?:\.\d+)?)s?\]\s*(.*)")
_TAG = re.compile(r"<[^>]*>|\{\\[^}]*\}")


def read_transcript(path: Path) -> list[TimedText]:
    """Units in time order. Malformed lines are left out with a warning that names them.

    Raises MissingData where there is no file, DataError for an unknown format.
    """
    if not path.is_file():
        raise MissingData(f"no transcript at {path}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"transcript {path} is of no known format; wanted one of {', '.join(_READERS)}")
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    units = [u for u in reader(lines, path) if u.text]
    backwards = [u for u in units if not u.end > u.start]
    for unit in backwards:
        log.warning("%s: %r ends at %.3f s, not after its start; left out", path.name, unit.text, unit.end)
    return sorted((u for u in units if u.end > u.start), key=lambda u: (u.start, u.end))


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction or 0}")


def _clean(text: str) -> str:
    return " ".join(html.unescape(_TAG.sub("", text)).split())


def _cues(lines: list[str], path: Path) -> list[TimedText]:
    """SubRip and WebVTT: a time line, then text until an empty line."""
    units: list[TimedText] = []
    span: tuple[float, float] | None = None
    text: list[str] = []
    for number, line in enumerate([*lines, ""], start=1):
        match = _CUE.match(line)
        if match:
            span, text = (_seconds(*match.groups()[:4]), _seconds(*match.groups()[4:])), []
        elif not line.strip() and span:
            units.append(TimedText(_clean(" ".join(text)), *span))
            span = None
        elif span:
            text.append(line)
        elif "-->" in line:
            log.warning("%s line %d is not a cue time and is left out: %r", path.name, number, line[:80])
    return units


def _ctm(lines: list[str], path: Path) -> list[TimedText]:
    """NIST CTM: recording, channel, start, duration, word, and perhaps a confidence."""
    units = []
    for number, line in enumerate(lines, start=1):
        parts = line.split()
        if not parts or line.startswith(";;"):
            continue
        try:
            start, duration, word = float(parts[2]), float(parts[3]), parts[4]
        except (IndexError, ValueError):
            log.warning("%s line %d is not a CTM word and is left out: %r", path.name, number, line[:80])
            continue
        units.append(TimedText(word, start, start + duration))
    return units


def _bracketed(lines: list[str], path: Path) -> list[TimedText]:
    """``[12.3s - 15.6s] words``, one unit a line."""
    units = []
    for number, line in enumerate(lines, start=1):
        match = _BRACKET.match(line)
        if match:
            units.append(TimedText(_clean(match[3]), float(match[1]), float(match[2])))
        elif line.strip():
            log.warning("%s line %d has no [start - end] and is left out: %r", path.name, number, line[:80])
    return units


_READERS: dict[str, Callable[[list[str], Path], list[TimedText]]] = {
    ".srt": _cues,
    ".vtt": _cues,
    ".ctm": _ctm,
    ".txt": _bracketed,
}
