"""Praat ``.TextGrid``, long and short.

Praat's own rule reads both: a text file is its numbers, quoted strings and flags in order; whatever else stands there
is for the eye. Tiers of words are taken where tiers are named so; tiers of phones never are where there are others.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cache.errors import DataError
from extract.blocks import TimedText
from extract.transcripts._text import clean

log = logging.getLogger("affuse")
_NUMBER = r"(?<!\S)[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?(?!\S)"
_TOKEN = re.compile(rf'(?P<string>"(?:[^"]|"")*")|(?P<number>{_NUMBER})|(?P<flag>(?<!\S)<\w+>)|(?<!\S)!.*')
_WORDS = re.compile(r"(?<![a-z])(words?|ort)(?![a-z])", re.IGNORECASE)
_PHONES = re.compile(r"(?<![a-z])(phones?|phonemes?|syllables?|mau|kan)(?![a-z])", re.IGNORECASE)
_SILENCE = {"", "sil", "sp", "<eps>", "<sil>", "<p:>"}


@dataclass(frozen=True)
class _Tier:
    name: str
    units: list[TimedText]


def read(content: str, path: Path) -> list[TimedText]:
    """One unit an interval that is not silence; speakers have tiers of their own. Raises DataError for other files."""
    tokens = _tokens(content)
    tiers: list[_Tier] = []
    try:
        _header(tokens, path)
        for _ in range(_count(tokens)):
            _tier(tokens, tiers)
    except _Broken as broken:
        log.warning("%s line %d is not a TextGrid's; what comes after it is left out", path.name, broken.line)
    chosen = [t for t in tiers if _WORDS.search(t.name)] or [t for t in tiers if not _PHONES.search(t.name)] or tiers
    return [u for tier in chosen for u in tier.units if u.text.lower() not in _SILENCE]


class _Broken(Exception):
    def __init__(self, line: int) -> None:
        self.line = line


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    line: int


def _tokens(content: str) -> Iterator[_Token]:
    """The tokens, then ends without end, so that a file that breaks off is seen where it does."""
    line, at = 1, 0
    for match in _TOKEN.finditer(content):
        line, at = line + content.count("\n", at, match.start()), match.start()
        if match.lastgroup:
            yield _Token(match.lastgroup, match[0], line)
    while True:
        yield _Token("end", "", line)


def _header(tokens: Iterator[_Token], path: Path) -> None:
    start = [next(tokens), next(tokens)]
    if [t.text for t in start] != ['"ooTextFile"', '"TextGrid"']:
        raise DataError(f"transcript {path} is not a TextGrid in text form", hint="save it from Praat as a text file")
    _number(tokens), _number(tokens)
    _take(tokens, "flag")


def _tier(tokens: Iterator[_Token], tiers: list[_Tier]) -> None:
    """Appends the tier before it reads its intervals: those before a break are kept. Points are not spans of speech."""
    points = _string(tokens) == "TextTier"
    tier = _Tier(_string(tokens), [])
    _number(tokens), _number(tokens)
    tiers += [] if points else [tier]
    for _ in range(_count(tokens)):
        start = _number(tokens)
        end = start if points else _number(tokens)
        tier.units.append(TimedText(_string(tokens), start, end))


def _take(tokens: Iterator[_Token], kind: str) -> str:
    token = next(tokens)
    if token.kind != kind:
        raise _Broken(token.line)
    return token.text


def _number(tokens: Iterator[_Token]) -> float:
    return float(_take(tokens, "number"))


def _count(tokens: Iterator[_Token]) -> int:
    token = next(tokens)
    if not token.text.isdecimal():
        raise _Broken(token.line)
    return int(token.text)


def _string(tokens: Iterator[_Token]) -> str:
    text = _take(tokens, "string")[1:-1].replace('""', '"')
    return text if text.lower() in _SILENCE else clean(text)
