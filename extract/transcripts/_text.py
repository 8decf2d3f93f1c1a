"""What several formats share: clock times, and text without markup."""

import html
import re

CLOCK = r"(?:(\d+):)?(\d+):(\d+)(?:[.,](\d+))?"  # four groups: hours or none, minutes, seconds, fraction or none
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<[\d:.]+>|\{\\[^}]*\}")


def seconds(hours: str | None, minutes: str, whole: str, fraction: str | None) -> float:
    """The groups of ``CLOCK`` in seconds; ``00:00:00,1`` is a tenth, as is ``,100``."""
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(whole) + float(f"0.{fraction or 0}")


def clean(text: str) -> str:
    """Text without tags, entities and runs of white space."""
    return " ".join(html.unescape(_TAG.sub("", text)).split())
