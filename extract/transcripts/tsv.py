"""Whisper's ``.tsv``: start, end and text, tabs between them, times in milliseconds."""

import logging
from pathlib import Path

from extract.blocks import TimedText
from extract.transcripts._text import clean

log = logging.getLogger("affuse")


def read(content: str, path: Path) -> list[TimedText]:
    """One unit a row."""
    units = []
    for number, line in enumerate(content.splitlines(), start=1):
        cells = line.split("\t", 2)
        if not line.strip() or [c.strip().lower() for c in cells] == ["start", "end", "text"]:
            continue
        try:
            start, end, text = float(cells[0]), float(cells[1]), cells[2]
        except (IndexError, ValueError):
            log.warning("%s line %d is not start, end, text and is left out: %r", path.name, number, line[:80])
            continue
        units.append(TimedText(clean(text), start / 1000, end / 1000))
    return units
