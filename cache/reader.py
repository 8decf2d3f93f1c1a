"""Reading at memory speed: a committed array is a view into one memory map.

The fast path is taken only where the metadata proves that the file is the rows: exactly the layout that
``cache.layout`` writes, the right file size, a contiguous index. Other chunks and codecs (``cache convert``, another
tool) are read whole through ``cache.unpack``. A cache may come from anyone: nothing is allocated on the word of its
metadata alone, and what is missing is an error, never zeros.
"""

import functools
import math
import mmap
import resource
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.declared import Declared, declared
from cache.errors import CorruptCache
from cache.layout import chunk_file, data_bytes, index_bytes, shard_index
from cache.remote import remote_behind
from cache.trust import open_inside
from cache.unpack import unpack

Array = npt.NDArray[Any]
Bool = npt.NDArray[np.bool_]
_UNPACKED = 1 << 31  # bytes of unpacked arrays that are kept; a single larger one is kept alone


def open_array(folder: Path) -> Array:
    """A read-only array: a view into a memory map where possible, else unpacked into memory.

    Raises CorruptCache where the metadata or the file is not what it should be.
    """
    about = declared(folder)
    return _mapped(folder, about) if about.mappable else unpack(folder, about)


def _mapped(folder: Path, about: Declared) -> Array:
    shape, itemsize = about.shape, about.dtype.itemsize
    path, wanted = chunk_file(folder, len(shape)), data_bytes(shape, itemsize)
    try:
        with open_inside(folder.parent, path) as file:
            size = file.seek(0, 2)
            if size != wanted + index_bytes(shape):
                raise CorruptCache(f"{path} has {size} bytes, wanted {wanted + index_bytes(shape)}")
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (FileNotFoundError, NotADirectoryError) as error:
        if (remote := remote_behind(path)) and remote.fetch(path):
            return _mapped(folder, about)
        raise CorruptCache(f"{path} is missing") from error
    if view[wanted:] != shard_index(shape, itemsize):
        raise CorruptCache(f"{path} is damaged: the index of its shard is not that of its rows in order")
    return np.frombuffer(view, about.dtype, count=math.prod(shape)).reshape(shape)


def open_stream(folder: Path) -> tuple[Array, Bool]:
    """values [T,D] in the stored dtype and present bool[T] of one recording, opened anew."""
    return _fitting(folder, open_array(folder / "values"), open_array(folder / "present").copy())


def _fitting(folder: Path, values: Array, present: Array) -> tuple[Array, Bool]:
    if values.ndim != 2 or present.dtype != bool or present.shape != values.shape[:1]:
        raise CorruptCache(
            f"{folder} has values of shape {values.shape} and presence {present.dtype.name}{list(present.shape)}; "
            "wanted [T, D] and bool[T]"
        )
    return values, present


class StreamReader:
    """Random windows of one stream. Maps are opened on first touch, so it pickles and forks."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self.folders = folders
        self._values = {recording: folder / "values" for recording, folder in folders.items()}
        self._present: dict[str, Bool] = {}

    def recording(self, recording: str) -> tuple[Array, Bool]:
        """values [T,D] in the stored dtype, without copying, and present bool[T] of one recording."""
        values = _kept_open(self._values[recording])
        if recording not in self._present:
            present = open_array(self.folders[recording] / "present").copy()
            self._present[recording] = _fitting(self.folders[recording], values, present)[1]
        return values, self._present[recording]

    def window(self, recording: str, frames: slice | Sequence[int] | npt.NDArray[np.integer]) -> Array:
        """values [L,D] of some frames; a slice is a view, anything else a copy."""
        values: Array = self.recording(recording)[0][frames]
        return values


#: Arrays of this process, the least recently used first. A map holds a file descriptor, and a corpus has more
#: recordings than a process may hold files; an unpacked array holds its bytes, and a corpus more of them than memory.
_open_maps: OrderedDict[Path, Array] = OrderedDict()
_unpacked: OrderedDict[Path, Array] = OrderedDict()


def _kept_open(folder: Path) -> Array:
    for kept in (_open_maps, _unpacked):
        if folder in kept:
            kept.move_to_end(folder)
            return kept[folder]
    about = declared(folder)
    if about.mappable:
        array = _open_maps[folder] = _mapped(folder, about)
        if len(_open_maps) > _maps_at_once():
            _open_maps.popitem(last=False)
    else:
        array = _unpacked[folder] = unpack(folder, about)
        while len(_unpacked) > 1 and sum(a.nbytes for a in _unpacked.values()) > _UNPACKED:
            _unpacked.popitem(last=False)
    return array


@functools.cache
def _maps_at_once() -> int:
    """Half of the files that this process may hold, once its limit is raised as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(8, most // 2)
