"""SubRip ``.srt`` and WebVTT ``.vtt``: a time line, then text until an empty line.

Files from the wild have one-digit fractions, none at all, and no empty line between cues.
"""

import logging
import re
from pathlib import Path

from extract.blocks import TimedText
from extract.transcripts._text import CLOCK, clean, seconds

log = logging.getLogger("affuse")
_CUE = re.compile(rf"\s*{CLOCK}\s*-->\s*{CLOCK}")


def read(content: str, path: Path) -> list[TimedText]:
    """One unit a cue."""
    units: list[TimedText] = []
    span: tuple[float, float] | None = None
    text: list[str] = []
    for number, line in enumerate([*content.splitlines(), ""], start=1):
        match = _CUE.match(line)
        if span and (match or not line.strip()):
            if match and text and text[-1].strip().isdigit():
                text.pop()  # the number of the cue that follows without an empty line
            units.append(TimedText(clean(" ".join(text)), *span))
            span = None
        if match:
            span, text = (seconds(*match.groups()[:4]), seconds(*match.groups()[4:])), []
        elif span:
            text.append(line)
        elif "-->" in line:
            log.warning("%s line %d is not a cue time and is left out: %r", path.name, number, line[:80])
        elif path.suffix.lower() == ".srt" and line.strip() and not line.strip().isdigit():
            log.warning("%s line %d is outside any cue and is left out: %r", path.name, number, line[:80])
    return units
