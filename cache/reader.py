"""Reading at memory speed: a committed array is a view into one memory map.

The fast path is taken only where the metadata proves that the file is the rows: exactly the layout that
``cache.layout`` writes, the right file size, a contiguous index. Anything else, such as a store rewritten by another
tool with compression, is read through zarr.
"""

import functools
import json
import math
import mmap
import resource
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import CorruptCache
from cache.layout import chunk_file, data_bytes, shard_index, storage
from cache.remote import remote_behind

Array = npt.NDArray[Any]


def open_array(folder: Path) -> Array:
    """A read-only array: a view into a memory map where possible, else read through zarr.

    Raises CorruptCache where the metadata or the file is not what it should be.
    """
    try:
        metadata = json.loads((folder / "zarr.json").read_bytes())
        shape = tuple(int(n) for n in metadata["shape"])
        dtype = np.dtype(metadata["data_type"])
        mappable = {k: metadata[k] for k in storage(shape)} == storage(shape)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptCache(f"{folder} is not a readable array: {error}") from error
    return _mapped(folder, shape, dtype) if mappable else _through_zarr(folder)


def _mapped(folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    path = chunk_file(folder, len(shape))
    wanted, index = data_bytes(shape, dtype.itemsize), shard_index(shape, dtype.itemsize)
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            if size != wanted + len(index):
                raise CorruptCache(f"{path} has {size} bytes, wanted {wanted + len(index)}")
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        if (remote := remote_behind(path)) and remote.fetch(path):
            return _mapped(folder, shape, dtype)
        raise CorruptCache(f"{path} is missing") from error
    if view[wanted:] != index:
        return _through_zarr(folder)
    return np.frombuffer(view, dtype, count=math.prod(shape)).reshape(shape)


def _through_zarr(folder: Path) -> Array:
    import zarr

    array = zarr.open_array(folder, mode="r")[...]
    return np.asarray(array)


class StreamReader:
    """Random windows of one stream. Maps are opened on first touch, so it pickles and forks."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self.folders = folders
        self._values = {recording: folder / "values" for recording, folder in folders.items()}
        self._present: dict[str, npt.NDArray[np.bool_]] = {}

    def recording(self, recording: str) -> tuple[Array, npt.NDArray[np.bool_]]:
        """values [T,D] in the stored dtype, without copying, and present bool[T] of one recording."""
        if recording not in self._present:
            self._present[recording] = open_array(self.folders[recording] / "present").copy()
        return _kept_open(self._values[recording]), self._present[recording]

    def window(self, recording: str, frames: slice | Sequence[int] | npt.NDArray[np.integer]) -> Array:
        """values [L,D] of some frames; a slice is a view, anything else a copy."""
        values: Array = self.recording(recording)[0][frames]
        return values


#: Maps of this process, the least recently used first. Each holds a file descriptor, and a corpus has more recordings
#: than a process may hold files.
_open_maps: OrderedDict[Path, Array] = OrderedDict()


def _kept_open(folder: Path) -> Array:
    array = _open_maps.get(folder)
    if array is None:
        array = _open_maps[folder] = open_array(folder)
        if len(_open_maps) > _maps_at_once():
            _open_maps.popitem(last=False)
    else:
        _open_maps.move_to_end(folder)
    return array


@functools.cache
def _maps_at_once() -> int:
    """Half of the files that this process may hold, once its limit is raised as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(8, most // 2)
