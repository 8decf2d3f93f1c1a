"""Transcripts as timed text, one format a file. A unit is what the file times, a word or a cue.

Times inside a unit are never invented. What cannot be read of a file is left out with a warning that names the place.
"""

import codecs
import logging
import math
from collections.abc import Callable
from pathlib import Path

from cache.errors import DataError, MissingData
from extract.blocks import TimedText
from extract.transcripts import ctm, cues, lines, textgrid, tsv, whisper

log = logging.getLogger("affuse")

READERS: dict[str, Callable[[str, Path], list[TimedText]]] = {  # those that may time words come first
    ".textgrid": textgrid.read,
    ".ctm": ctm.read,
    ".json": whisper.read,
    ".srt": cues.read,
    ".vtt": cues.read,
    ".tsv": tsv.read,
    ".txt": lines.read,
}


def read_transcript(path: Path) -> list[TimedText]:
    """Units in time order. Malformed entries are left out with a warning that names them.

    Raises MissingData where there is no file, DataError for an unknown format or one that cannot be read at all.
    """
    if not path.is_file():
        raise MissingData(f"no transcript at {path}")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"transcript {path} is of no known format; wanted one of {', '.join(READERS)}")
    units = []
    for unit in reader(_decoded(path.read_bytes()), path):
        if math.isfinite(unit.start) and math.isfinite(unit.end) and unit.end > unit.start:
            units.append(unit)
        elif unit.text:
            log.warning("%s: %r ends at %.3f s, not after its start; left out", path.name, unit.text, unit.end)
    return sorted((u for u in units if u.text), key=lambda u: (u.start, u.end))


def find_transcript(folder: Path, stem: str) -> Path | None:
    """The transcript of that name in a folder, whatever its format; the first of ``READERS`` where there are several.

    ``.TextGrid`` is found however it is spelled.
    """
    if not folder.is_dir():
        return None
    spelled = (folder / f"{stem}{s}" for suffix in READERS for s in (suffix, suffix.replace("textg", "TextG")))
    return next((path for path in spelled if path.is_file()), None)


def _decoded(data: bytes) -> str:
    """UTF-8 or UTF-16 (Praat writes both), with or without a byte order mark."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    if 0 in data[:2]:
        return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le", errors="replace")
    return data.decode("utf-8-sig", errors="replace")
