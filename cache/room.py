"""How much of a disk a mirror takes: with ``AFFUSE_MIRROR_GB``, values that were used longest ago make room for others.

Only feature values go, and only those that the URL has: they are fetched again when they are read. What this process
has asked for stays, so a training never fetches anything twice; where that alone is more, it is told, and kept.
"""

import logging
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from cache.errors import UsageError
from cache.refresh import ON_DEMAND, tag_size

log = logging.getLogger("affuse")
GB = 1e9
_asked: set[str] = set()  # files and folders of mirrors that this process reads
_told: set[Path] = set()  # mirrors of which it is told already that they are over full


def mirror_bytes() -> float:
    """Bytes of feature values that a mirror may hold, infinite by default. Raises UsageError for what is no number."""
    told = os.environ.get("AFFUSE_MIRROR_GB", "")
    try:
        most = float(told) if told else math.inf
    except ValueError:
        most = math.nan
    if not most >= 0:
        raise UsageError(f"AFFUSE_MIRROR_GB is {told!r}; wanted a number", hint="such as AFFUSE_MIRROR_GB=200")
    return most * GB


def used(root: Path, name: str, tags: Mapping[str, str]) -> None:
    """This process reads a file, or what is below a folder whose name ends in a slash."""
    _asked.add(str(root / name) + "/" * name.endswith("/"))
    if mirror_bytes() < math.inf:
        for here in (root / n for n in tags if n.startswith(name)):
            if here.is_file():
                os.utime(here)


def make_room(root: Path, tags: Mapping[str, str], wanted: Collection[str] = ()) -> None:
    """Let go of values so that those wanted have room; only while the mark is held.

    tags: of the files whose content the URL has.
    """
    for name in _surplus(root, tags, wanted):
        (root / name).unlink(missing_ok=True)


def _surplus(root: Path, tags: Mapping[str, str], wanted: Collection[str]) -> list[str]:
    """Names of the values that have to go, the first one first."""
    most = mirror_bytes()
    if most == math.inf:
        return []
    here = {n: (root / n).stat() for n in tags if ON_DEMAND.match(n) and (root / n).is_file()}
    over = sum(a.st_size for a in here.values()) - most
    over += sum(max(0, tag_size(tags.get(n, ""))) for n in wanted if n not in here and ON_DEMAND.match(n))
    gone = []
    for name in sorted((n for n in here if not _is_asked(root / n)), key=lambda n: (here[n].st_mtime_ns, n)):
        if over <= 0:
            break
        over -= here[name].st_size
        gone.append(name)
    if over > 0 and root not in _told:
        _told.add(root)
        log.warning("what is read now takes %.3g GB more than AFFUSE_MIRROR_GB allows; it is kept", over / GB)
    return gone


def _is_asked(path: Path) -> bool:
    return str(path) in _asked or any(f"{folder}/" in _asked for folder in path.parents)
