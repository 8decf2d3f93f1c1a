"""A cached stream is a value: its key is its name and a hash of every setting that changes the numbers."""

import hashlib
import json
from typing import Any

ABSENT = "(absent)"


def canonical(settings: Any) -> str:
    """One spelling for equal settings: sorted keys, no spaces, no NaN."""
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def json_encoded(text: str) -> bytes:
    """JSON as UTF-8; half a surrogate pair, as in names of files that are no UTF-8, as the escape JSON has for it."""
    return text.encode("utf-8", "backslashreplace")


def fingerprint(settings: Any) -> str:
    """First 12 hex digits of the sha256 of the canonical JSON; 48 bits are plenty for the streams of one cache."""
    return hashlib.sha256(json_encoded(canonical(settings))).hexdigest()[:12]


def stream_key(name: str, settings: Any) -> str:
    """``name-fingerprint``, the folder of a stream."""
    return f"{name}-{fingerprint(settings)}"


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted paths; an empty one is a value."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        nested = isinstance(value, dict) and value
        flat |= flatten(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat


def differing(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted paths whose values are spelled differently in two settings, with both values; ABSENT on a side without."""
    left, right = flatten(a), flatten(b)
    pairs = {k: (left.get(k, ABSENT), right.get(k, ABSENT)) for k in sorted(left | right)}
    return {k: (x, y) for k, (x, y) in pairs.items() if spelled(x) != spelled(y)}


def spelled(value: Any) -> str:
    """A setting as people are told it: as in the key, so that 1 and 1.0 are two."""
    return ABSENT if value == ABSENT else canonical(value)
