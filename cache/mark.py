"""What a mirror of a cache at a URL knows of itself: ``.mirror.jsonl``, and the locks of those who change the mirror.

The first line says whose mirror it is, ``{"url": ..., "root": its own folder}``. Every other is of a file here that has
the content which the URL has, or had, under a tag: ``{name: tag}``, the last of a name counts, an empty tag is none.
Lines begin with their line break, so one that was cut short spoils itself alone; lines that are damaged are left out.
"""

import contextlib
import fcntl
import functools
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cache.errors import CacheError

MARK = ".mirror.jsonl"
MIRROR_FILES = {MARK, ".mirror.lock", ".mirror.refresh"}
_TAG = re.compile(r"(\d+:.*)?", re.DOTALL)


def owner(root: Path) -> dict[str, str] | None:
    """First line of a folder's mark; None for a folder that is no mirror. Raises CacheError where it is damaged."""
    try:
        with open(root / MARK, "rb") as file:
            found = _parsed(file.readline())
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not isinstance(found.get("url"), str):
        raise CacheError(
            f"{root / MARK} is damaged: whose mirror that folder is, is not known",
            hint="open the cache by its URL: that makes the mirror anew",
        )
    return found


@dataclass(frozen=True)
class Mark:
    """The mark of the mirror in one folder."""

    root: Path

    @property
    def tags(self) -> Mapping[str, str]:
        """Files of the URL by name, with the tags they had when last looked."""
        try:
            about = (self.root / MARK).stat()
        except FileNotFoundError:
            return {}
        return _tags(self.root / MARK, about.st_ino, about.st_size, about.st_mtime_ns)

    def size(self) -> int:
        """Bytes of the mark, after which ``since`` begins."""
        path = self.root / MARK
        return path.stat().st_size if path.exists() else 0

    def since(self, size: int) -> dict[str, str]:
        """What was noted after the mark had that many bytes."""
        path = self.root / MARK
        return _noted(path.read_bytes()[size:]) if path.exists() else {}

    def note(self, tags: Mapping[str, str]) -> None:
        """Add lines; only while ``held``. Raises FileNotFoundError where the mirror is gone."""
        handle = os.open(self.root / MARK, os.O_WRONLY | os.O_APPEND)
        with open(handle, "ab") as file:
            file.write(b"".join(_line(name, tag) for name, tag in tags.items()))

    def write(self, url: str, tags: Mapping[str, str]) -> None:
        """Make the mark anew, in one step; only while ``held``."""
        first = json.dumps({"url": url, "root": os.path.realpath(self.root)}).encode()
        draft = self.root / f"{MARK}.{uuid.uuid4().hex}"
        draft.write_bytes(b"".join([first, *(_line(name, tag) for name, tag in tags.items() if tag)]) + b"\n")
        os.replace(draft, self.root / MARK)

    def held(self) -> "contextlib.AbstractContextManager[None]":
        """Nobody else changes the mark meanwhile, or committed files of the mirror: for moments."""
        return _locked(self.root / ".mirror.lock")

    def refreshing(self) -> "contextlib.AbstractContextManager[None]":
        """Nobody else refreshes the mirror meanwhile; commits go on."""
        return _locked(self.root / ".mirror.refresh")


@contextlib.contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """A fresh folder in ``parent``, removed at the end; those of processes that live no longer are removed first."""
    with _locked(parent / ".mirror.lock"):
        for left in parent.glob(f"{prefix}*"):
            with open(left / ".alive", "a") as file, contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        folder = parent / f"{prefix}{uuid.uuid4().hex}"
        folder.mkdir()
        alive = open(folder / ".alive", "w")  # noqa: SIM115
        fcntl.flock(alive, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        alive.close()


def is_inside(name: str) -> bool:
    """Whether a name from elsewhere stays in the folder it is used in."""
    parts = PurePosixPath(name).parts
    return ".." not in parts and not name.startswith("/") and "\\" not in name


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _line(name: str, tag: str) -> bytes:
    return b"\n" + json.dumps({name: tag}).encode()


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _noted(data: bytes) -> dict[str, str]:
    found = (item for line in data.split(b"\n") for item in _parsed(line).items())
    return {n: tag for n, tag in found if isinstance(tag, str) and is_inside(n) and _TAG.fullmatch(tag)}


@functools.lru_cache(maxsize=1)
def _tags(path: Path, _inode: int, _size: int, _changed: int) -> dict[str, str]:
    """All of a mark, read once as long as it stays what it is."""
    _, _, rest = path.read_bytes().partition(b"\n")
    return {name: tag for name, tag in _noted(rest).items() if tag}
