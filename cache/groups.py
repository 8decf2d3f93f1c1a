"""Folders as Zarr groups: their one attribute, their children, and how a group with arrays is committed."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cache.commit import publish_file, staged
from cache.errors import CacheError, CorruptCache
from cache.ids import recording_of
from cache.layout import group_metadata, seal, write_array, write_file
from cache.trust import inside, parsed, read_metadata

log = logging.getLogger("affuse")
T = TypeVar("T")

#: Names of the axes of every array there is.
DIMS: dict[str, tuple[str, ...]] = {
    "values": ("frame", "feature"),
    "present": ("frame",),
    "pts": ("frame",),
    "va": ("frame", "affect"),
    "labelled": ("frame",),
    "mean": ("feature",),
    "std": ("feature",),
}


def attributes(folder: Path) -> dict[str, Any]:
    """The record of a group.

    Raises CacheError where nothing is there, CorruptCache where it is not what was written.
    """
    path = folder / "zarr.json"
    try:
        record = dict(parsed(read_metadata(path), path)["attributes"]["affuse"])
        written = record.pop("crc32c", None)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CacheError(f"nothing is cached at {folder}") from error
    except CorruptCache:
        raise
    except OSError as error:
        raise CacheError(f"cannot read {path}: {error.strerror}", hint="make the cache readable") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptCache(f"{path} is not the metadata of a feature cache ({error})") from error
    if written is None:
        raise CorruptCache(
            f"{path} has no checksum: it was written by a version before there were any, or changed since"
        )
    if written != seal(record):
        raise CorruptCache(f"{path} is damaged: its checksum is not that of its content")
    return record


def steady(folder: Path, read: Callable[[], T]) -> T:
    """What ``read`` gives while a group, which may be replaced whole, stays the same; else it is read again."""
    while True:
        before = _identity(folder)
        try:
            found = read()
        except (CacheError, OSError):
            if _identity(folder) == before:
                raise
            continue
        if _identity(folder) == before:
            return found


def _identity(folder: Path) -> tuple[int, int]:
    try:
        record = (folder / "zarr.json").stat()
    except OSError:
        return 0, 0
    return record.st_ino, record.st_mtime_ns


def committed(folder: Path, recording: str) -> Path:
    """The folder itself, where that recording is committed. Raises CacheError where it is not."""
    if not (folder / "zarr.json").is_file():
        raise CacheError(f"recording {recording!r} is not in {folder.parent}", hint="extract or index it first")
    return folder


def children(folder: Path) -> list[str]:
    """Ids of the groups inside a group, sorted."""
    found = (f.parent for f in folder.glob("*/zarr.json"))
    return sorted(recording_of(f.name) or attributes(f)["recording"] for f in found)


def group_once(root: Path, folder: Path, record: dict[str, Any]) -> None:
    """Make a group without arrays, unless it is there and whole."""
    path, damaged = inside(root, folder) / "zarr.json", False
    try:
        whole = group_metadata(attributes(folder)) == read_metadata(path)
        damaged = not whole
    except CorruptCache:
        whole, damaged = False, True
    except CacheError:
        whole = False
    if damaged:
        log.warning("%s was damaged and is written anew", path)
    if not whole:
        publish_file(root, path, group_metadata(record))


def fill_group(folder: Path, recording: str, arrays: dict[str, npt.NDArray[Any]], info: dict[str, Any]) -> None:
    """Write arrays and, last, the commit record: info and each array's shape, dtype and checksums."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {name: write_array(folder / name, np.asarray(array), DIMS[name]) for name, array in arrays.items()}
    close_group(folder, recording, written, info)


def close_group(folder: Path, recording: str, written: dict[str, Any], info: dict[str, Any]) -> None:
    """Write the commit record of a group whose arrays are written."""
    write_file(folder / "zarr.json", group_metadata({"recording": recording, **info, "arrays": written}))


def commit_group(
    root: Path, folder: Path, recording: str, arrays: dict[str, npt.NDArray[Any]], info: dict[str, Any]
) -> None:
    """Publish a group with its arrays in one step; where it is there already, that one stays."""
    with staged(root, folder) as staging:
        fill_group(staging, recording, arrays, info)
