"""NIST ``.ctm``: recording, channel, start, duration, word, and perhaps a confidence."""

import logging
from pathlib import Path

from extract.blocks import TimedText

log = logging.getLogger("affuse")


def read(content: str, path: Path) -> list[TimedText]:
    """One unit a word. The fourth column is a duration, not an end."""
    units = []
    for number, line in enumerate(content.splitlines(), start=1):
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
