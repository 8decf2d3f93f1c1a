"""Recording ids as folder names: any id but an empty one is legal, none can leave its folder."""

import hashlib
from urllib.parse import quote, unquote

from cache.errors import DataError

_LONGEST = 200  # bytes; file systems allow 255
_RESERVED = {"zarr.json", "c"}


def folder_of(recording: str) -> str:
    """Percent-encoded id: readable for ordinary ids, injective for all; over-long ones end in a hash.

    Raises DataError for an empty one: that would be the folder of all of them.
    """
    if not recording:
        raise DataError("an id is empty", hint="give every recording and every protocol a non-empty name")
    name = quote(recording, safe="@+=,", errors="surrogatepass")
    if name.startswith(".") or name in _RESERVED:
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name) > _LONGEST:
        digest = hashlib.sha256(recording.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        name = f"{name[:_LONGEST].rsplit('%', 1)[0]}%~{digest}"
    return name


def as_text(recording: str) -> str:
    """The id in a file for others: half a surrogate pair (from a file name that is no UTF-8) as an escape."""
    return recording.encode("utf-8", "backslashreplace").decode()


def recording_of(folder: str) -> str | None:
    """The id a folder stands for, or None where the name was too long to hold it (its commit record does)."""
    return None if "%~" in folder else unquote(folder, errors="surrogatepass")
