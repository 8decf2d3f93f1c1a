"""Is a committed group byte for byte what was written? Its record says so of itself and of each of its arrays.

A group's ``zarr.json`` is spelled in one way and seals itself with a checksum; it holds the checksum of every array's
metadata and of every inner chunk. So no bit of a committed recording can change unnoticed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import google_crc32c
import numpy as np

from cache.errors import AffuseError, CorruptCache
from cache.groups import attributes
from cache.layout import Checksums, chunk_bytes, chunk_file, data_bytes, group_metadata, shard_index
from cache.remote import remote_behind

_AT_ONCE = 1 << 22  # bytes read at once


def whole(folder: Path, *, deep: bool) -> bool:
    """Whether nothing is wrong with a group and its arrays; ``deep`` reads every byte of them."""
    return next(faults(folder, deep=deep), None) is None


def undamaged(folder: Path) -> Path:
    """The folder itself. Raises CorruptCache where a deep check finds anything wrong: for what is small."""
    fault = next(faults(folder, deep=True), None)
    if fault:
        raise CorruptCache(f"{folder} is damaged: {fault}")
    return folder


def faults(folder: Path, *, deep: bool) -> Iterator[str]:
    """What is wrong with a group and its arrays, a line each. Without ``deep``: metadata and sizes alone."""
    try:
        record = attributes(folder)
        if (folder / "zarr.json").read_bytes() != group_metadata(record):
            yield "zarr.json is not spelled as it was written"
    except (AffuseError, OSError) as error:
        yield _told(error)
        return
    for name, written in record.get("arrays", {}).items():
        for fault in _array_faults(folder / name, written, deep):
            yield f"{name}: {fault}"


def _told(error: Exception) -> str:
    return error.message if isinstance(error, AffuseError) else str(error)


def _array_faults(folder: Path, written: dict[str, Any], deep: bool) -> Iterator[str]:
    try:
        metadata = (folder / "zarr.json").read_bytes()
        if google_crc32c.value(metadata) != written["metadata"]:
            yield "its zarr.json is not what was written"
        elif "files" in written:
            yield from _file_faults(folder, written["files"], deep)
        else:
            yield from _layout_faults(folder, written, deep)
    except (OSError, CorruptCache) as error:
        yield _told(error)


def _layout_faults(folder: Path, written: dict[str, Any], deep: bool) -> Iterator[str]:
    """Of an array in our own layout: one file, rows first, then the shard's index."""
    shape, dtype = tuple(written["shape"]), np.dtype(written["dtype"])
    path = chunk_file(folder, len(shape))
    size, index = data_bytes(shape, dtype.itemsize), shard_index(shape, dtype.itemsize)
    remote = None if path.is_file() else remote_behind(path)
    if remote and deep:
        remote.fetch(path)
    found = path.stat().st_size if deep or not remote else remote.size(path)
    if found != size + len(index):
        yield f"{path.name} has {found} bytes, wanted {size + len(index)}"
        return
    if remote and not deep:
        return  # what is not here has its size alone
    with open(path, "rb") as file:
        if deep:
            yield from _content_faults(file, size, dtype, written["crc32c"], chunk_bytes(shape, dtype.itemsize))
        file.seek(size)
        if file.read() != index:
            yield "the index of its shard is damaged"


def _content_faults(file: IO[bytes], size: int, dtype: np.dtype[Any], wanted: list[int], step: int) -> Iterator[str]:
    crcs, wild = Checksums(step), 0
    for start in range(0, size, _AT_ONCE):
        piece = file.read(min(_AT_ONCE, size - start))
        crcs.add(piece)
        if dtype.kind == "f":
            wild += int((~np.isfinite(np.frombuffer(piece, dtype))).sum())
    wrong = [i for i, crc in enumerate(crcs.found) if crc != wanted[i]]
    if wrong:
        yield f"{len(wrong)} of {len(wanted)} chunks differ from their checksums, the first is number {wrong[0]}"
    if wild:
        yield f"{wild} values are not finite"


def _file_faults(folder: Path, wanted: dict[str, int], deep: bool) -> Iterator[str]:
    """Of an array in another layout (compressed, other chunks): whole files by their checksums."""
    for name, crc in wanted.items():
        path = folder / name
        if not path.is_file():
            yield f"{name} is missing"
        elif deep and google_crc32c.value(path.read_bytes()) != crc:
            yield f"{name} differs from its checksum"
