"""A cached stream is a value: its key is its name and a hash of every setting that changes the numbers."""

import hashlib
import json
from typing import Any


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
    """Nested settings as dotted paths."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def differing(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted paths whose values differ between two settings, with both values (None where a side lacks it)."""
    left, right = flatten(a), flatten(b)
    return {k: (left.get(k), right.get(k)) for k in sorted(left | right) if left.get(k) != right.get(k)}
