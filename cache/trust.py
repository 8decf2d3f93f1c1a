"""A cache may have been made by anyone: its files are opened and its JSON is read so that no file can do harm.

A file has to be a regular one inside the folder it belongs to (a cache may itself lie behind a symbolic link, but none
inside it leads out), and metadata has to be small, flat and finite.
"""

import json
import os
import stat
from pathlib import Path
from typing import IO, Any, NoReturn

from cache.errors import CorruptCache

_LARGEST = 1 << 26  # bytes of metadata; the partitions of 100,000 recordings take 10 MB
_DEEPEST = 64
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe in the place of a file must not make us wait


def inside(root: Path, path: Path) -> Path:
    """The path itself. Raises CorruptCache where a symbolic link below ``root`` leads out of it."""
    here, there = str(root), str(path)
    straight = there.startswith(here + os.sep)
    below = there[len(here) + 1 :] if straight else os.path.relpath(path, root)
    for part in below.split(os.sep):
        here = f"{here}{os.sep}{part}"
        if part == os.pardir or os.path.islink(here):
            _check_link(root, path)
            break
    return path


def _check_link(root: Path, path: Path) -> None:
    real, top = os.path.realpath(path), os.path.realpath(root)
    if real != top and not real.startswith(os.path.join(top, "")):
        raise CorruptCache(
            f"{path} is a symbolic link out of {root}, to {real}",
            hint="a whole cache may lie behind a link; inside it, put the files in the place of the link",
        )


def open_inside(root: Path, path: Path) -> IO[bytes]:
    """A regular file below ``root``, opened for reading.

    Raises FileNotFoundError where there is none, CorruptCache where it is something else.
    """
    handle = os.open(inside(root, path), _READ)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return open(handle, "rb")
    os.close(handle)
    raise CorruptCache(f"{path} is no regular file")


def read_metadata(path: Path) -> bytes:
    """A small file, whole. Raises FileNotFoundError, or CorruptCache where it is no file of metadata."""
    with open_inside(path.parent, path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _LARGEST:
            raise CorruptCache(f"{path} has {size} bytes; metadata has at most {_LARGEST}")
        return file.read(size)


def parsed(data: bytes, path: Path) -> dict[str, Any]:
    """JSON of a file as plain data. Raises CorruptCache where it is none, too deep, or holds no finite numbers."""
    try:
        value = _DECODER.decode(data.decode())
        if data.count(b"[") + data.count(b"{") > _DEEPEST:
            _check_depth(value)
    except (ValueError, RecursionError) as error:
        raise CorruptCache(f"{path} is not the metadata of a feature cache ({str(error)[:200]})") from error
    if not isinstance(value, dict):
        raise CorruptCache(f"{path} is not the metadata of a feature cache (it holds no object)")
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


def _check_depth(value: Any) -> None:
    """Raises ValueError; level by level, so that it cannot itself go too deep."""
    level, depth = [value], 0
    while level:
        if depth > _DEEPEST:
            raise ValueError(f"nested more than {_DEEPEST} deep")
        inner = (v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list))
        level, depth = [v for values in inner for v in values if isinstance(v, dict | list)], depth + 1
