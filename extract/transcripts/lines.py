"""Lines of text with their times in brackets: ``[12.3s - 15s] words``, or what the command line of whisper prints.

Whisper prints ``[00:00.120 --> 00:00.640] words``, with hours where there are any.
"""

import logging
import re
from pathlib import Path

from extract.blocks import TimedText
from extract.transcripts._text import CLOCK, clean, seconds

log = logging.getLogger("affuse")
_SECONDS = re.compile(r"\s*\[(\d+(?:\.\d+)?)s?\s*-\s*(\d+(?:\.\d+)?)s?\]\s*(.*)")
_CLOCKS = re.compile(rf"\s*\[{CLOCK}\s*-->\s*{CLOCK}\]\s*(.*)")


def read(content: str, path: Path) -> list[TimedText]:
    """One unit a line."""
    units = []
    for number, line in enumerate(content.splitlines(), start=1):
        if match := _SECONDS.match(line):
            units.append(TimedText(clean(match[3]), float(match[1]), float(match[2])))
        elif match := _CLOCKS.match(line):
            start, end = seconds(*match.groups()[:4]), seconds(*match.groups()[4:8])
            units.append(TimedText(clean(match[9]), start, end))
        elif line.strip():
            log.warning("%s line %d has no [start - end] and is left out: %r", path.name, number, line[:80])
    return units
