"""Is a committed group byte for byte what was written? Its record says so of itself and of each of its arrays.

A group's ``zarr.json`` is spelled in one way and seals itself with a checksum; it holds the checksum of every array's
metadata and of every inner chunk. So no bit of a committed recording can change unnoticed.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import google_crc32c
import numpy as np

from cache.declared import Declared, declared
from cache.dtypes import not_finite
from cache.errors import AffuseError, CorruptCache
from cache.groups import DIMS, attributes
from cache.layout import Checksums, chunk_bytes, chunk_file, data_bytes, group_metadata, index_bytes, seal, shard_index
from cache.remote import remote_behind
from cache.trust import inside, open_inside, read_metadata
from cache.unpack import unpack

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


def undamaged_array(folder: Path, name: str) -> Path:
    """One array of a group. Raises CorruptCache where a deep check finds anything wrong with it: for what is small."""
    written = attributes(folder).get("arrays", {}).get(name)
    fault = next(_array_faults(folder / name, written, deep=True), None) if written else "is in no commit record"
    if fault:
        raise CorruptCache(f"{folder / name} is damaged: {fault}", hint="name all damage: cache verify --deep")
    return folder / name


def sealed_fault(path: Path) -> str:
    """What is wrong with a file of recognised words; "" where nothing is."""
    try:
        record = json.loads(path.read_bytes())
        return "" if record["crc32c"] == seal(record) else "its checksum is not that of its content"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"cannot be read: {error}"


def faults(folder: Path, *, deep: bool) -> Iterator[str]:
    """What is wrong with a group and its arrays, a line each. Without ``deep``: metadata and sizes alone."""
    try:
        record = attributes(folder)
        if read_metadata(folder / "zarr.json") != group_metadata(record):
            yield "zarr.json is not spelled as it was written"
    except (AffuseError, OSError) as error:
        yield _told(error)
        return
    arrays = record.get("arrays", {})
    for name, written in arrays.items() if isinstance(arrays, dict) else ():
        found = _array_faults(folder / name, written, deep) if name in DIMS else iter(["no array of a feature cache"])
        yield from (f"{name}: {fault}" for fault in found)


def _told(error: Exception) -> str:
    return error.message if isinstance(error, AffuseError) else str(error)


def _array_faults(folder: Path, written: dict[str, Any], deep: bool) -> Iterator[str]:
    try:
        metadata = read_metadata(folder / "zarr.json")
        if google_crc32c.value(metadata) != written["metadata"]:
            yield "its zarr.json is not what was written"
            return
        about = declared(folder)
        if (list(about.shape), about.dtype.name) != (written["shape"], written["dtype"]):
            yield f"it is {about.dtype.name}{list(about.shape)}; its commit record says otherwise"
        elif "files" in written:
            yield from _file_faults(folder, about, written["files"], deep)
        elif about.mappable:
            yield from _layout_faults(folder, about, written["crc32c"], deep)
        else:
            yield "its commit record is that of another layout"
    except (OSError, CorruptCache) as error:
        yield _told(error)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        yield f"its commit record is not one of ours ({type(error).__name__}: {str(error)[:80]})"


def _layout_faults(folder: Path, about: Declared, wanted: list[int], deep: bool) -> Iterator[str]:
    """Of an array in our own layout: one file, rows first, then the shard's index."""
    shape, itemsize = about.shape, about.dtype.itemsize
    path = chunk_file(folder, len(shape))
    size = data_bytes(shape, itemsize)
    found = _size(folder, path, deep)
    if found != size + index_bytes(shape):
        yield f"{path.name} has {found} bytes, wanted {size + index_bytes(shape)}"
        return
    if not path.is_file():
        return  # what is not here has its size alone
    with open_inside(folder.parent, path) as file:
        if deep:
            yield from _content_faults(file, size, about.dtype, wanted, chunk_bytes(shape, itemsize))
        file.seek(size)
        if file.read() != shard_index(shape, itemsize):
            yield "the index of its shard is damaged"


def _size(folder: Path, path: Path, deep: bool) -> int:
    """Bytes of a file, or of the one at the URL that a mirror does not have yet; with ``deep`` it is fetched."""
    inside(folder.parent, path)
    remote = None if path.is_file() else remote_behind(path)
    if remote and deep:
        remote.fetch(path)
    return path.stat().st_size if deep or not remote else remote.size(path)


def _content_faults(file: IO[bytes], size: int, dtype: np.dtype[Any], wanted: list[int], step: int) -> Iterator[str]:
    crcs, wild = Checksums(step), 0
    for start in range(0, size, _AT_ONCE):
        piece = file.read(min(_AT_ONCE, size - start))
        crcs.add(piece)
        wild += not_finite(np.frombuffer(piece, dtype))
    wrong = [i for i, (crc, was) in enumerate(zip(crcs.found, wanted, strict=True)) if crc != was]
    if wrong:
        yield f"{len(wrong)} of {len(wanted)} chunks differ from their checksums, the first is number {wrong[0]}"
    if wild:
        yield f"{wild} values are not finite"


def _file_faults(folder: Path, about: Declared, wanted: dict[str, int], deep: bool) -> Iterator[str]:
    """Of an array in another layout (compressed, other chunks): whole files by their checksums."""
    whole, names = True, list(about.files())
    if sorted(names) != sorted(wanted):
        yield f"its commit record has checksums of {len(wanted)} files; its metadata names {len(names)} others"
        return
    for name in names:
        try:
            _size(folder, folder / name, deep)
            fault = "differs from its checksum" if deep and _checksum(folder, name) != wanted[name] else ""
        except FileNotFoundError:
            fault = "is missing"
        if fault:
            whole = False
            yield f"{name} {fault}"
    if deep and whole and (wild := not_finite(unpack(folder, about))):
        yield f"{wild} values are not finite"


def _checksum(folder: Path, name: str) -> int:
    crc = 0
    with open_inside(folder.parent, folder / name) as file:
        while piece := file.read(_AT_ONCE):
            crc = google_crc32c.extend(crc, piece)
    return crc
