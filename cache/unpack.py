"""Arrays in other chunks and codecs than our own, read whole into memory through zarr.

zarr takes a chunk that is missing for zeros, follows any link, and believes any shape. So the files are looked up and
read here, each of them has to be there, and zarr only decodes what it is handed.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.declared import Declared
from cache.dtypes import stored_as
from cache.errors import CacheError, CorruptCache
from cache.fingerprint import canonical
from cache.groups import attributes
from cache.remote import remote_behind
from cache.trust import open_inside

Array = npt.NDArray[Any]


def unpack(folder: Path, about: Declared) -> Array:
    """The whole array. Raises CorruptCache where a chunk is missing or damaged, or its metadata cannot be true."""
    _check_size(folder, about)
    chunks = _chunks(folder, about)
    array = _decoded(folder, about, chunks, 0)
    if about.sharded and not np.array_equal(array, _decoded(folder, about, chunks, 1)):
        raise CorruptCache(f"{folder} lacks chunks inside its shards")
    return array.view(about.dtype)


def _check_size(folder: Path, about: Declared) -> None:
    """Against the commit record, where there is one, and against the memory of this machine."""
    try:
        written = attributes(folder.parent).get("arrays", {}).get(folder.name, {}).get("shape", list(about.shape))
    except CacheError:
        written = list(about.shape)
    if written != list(about.shape):
        raise CorruptCache(f"{folder} has shape {list(about.shape)}; its commit record says {str(written)[:80]}")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if about.nbytes > memory:
        raise CorruptCache(f"{folder} would take {about.nbytes} bytes of memory; this machine has {memory}")


def _chunks(folder: Path, about: Declared) -> dict[str, bytes]:
    """Every file of the array's data; in a mirror fetched first where it is not here."""
    try:
        return {name: _content(folder, name) for name in about.files()}
    except CorruptCache:
        remote = remote_behind(folder)
        if remote is None:
            raise
        remote.fetch_values(folder.relative_to(remote.root).as_posix() + "/")
    return {name: _content(folder, name) for name in about.files()}


def _content(folder: Path, name: str) -> bytes:
    try:
        with open_inside(folder.parent, folder / name) as file:
            return bytes(file.read())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CorruptCache(f"{folder / name} is missing") from error


def _decoded(folder: Path, about: Declared, chunks: dict[str, bytes], fill: int) -> Array:
    """The array in the type it is stored in, with ``fill`` where zarr finds nothing."""
    import zarr
    from zarr.core.buffer.cpu import Buffer
    from zarr.storage import MemoryStore

    stored = stored_as(about.dtype)
    metadata = about.metadata | {"fill_value": stored.type(fill).item()}
    files = {"zarr.json": canonical(metadata).encode(), **chunks}
    try:
        store = MemoryStore({n: Buffer.from_bytes(data) for n, data in files.items()}, read_only=True)
        array = np.ascontiguousarray(zarr.open_array(store, mode="r", zarr_format=3)[...])
    except Exception as error:  # every codec has errors of its own
        raise CorruptCache(f"{folder} cannot be decoded: {type(error).__name__}: {str(error)[:200]}") from error
    if array.shape != about.shape or array.dtype != stored:
        raise CorruptCache(f"{folder} decodes to {array.dtype.name}{list(array.shape)}, not what it declares")
    array.flags.writeable = False
    return array
