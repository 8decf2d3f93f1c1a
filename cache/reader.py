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

from cache.check import undamaged_array
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
    """Random windows of one stream. Maps are opened on first touch, so it pickles and forks.

    What a recording was at first touch it stays: values and presence are of one commit, and where the recording is made
    anew meanwhile, it is either read as it was or refused.
    """

    def __init__(self, folders: dict[str, Path]) -> None:
        self.folders = folders
        self._known: dict[str, tuple[_Commit, Bool]] = {}

    def recording(self, recording: str) -> tuple[Array, Bool]:
        """values [T,D] in the stored dtype, without copying, and present bool[T] of one recording.

        Raises CorruptCache where it is damaged, as far as metadata, sizes and presence tell, or was made anew.
        """
        if recording not in self._known:
            commit = _commit(self.folders[recording])
            present = open_array(undamaged_array(self.folders[recording], "present")).copy()
            _fitting(self.folders[recording], _kept_open(commit), present)
            _same(commit)
            self._known[recording] = commit, present
        commit, present = self._known[recording]
        return _kept_open(commit), present

    def window(self, recording: str, frames: slice | Sequence[int] | npt.NDArray[np.integer]) -> Array:
        """values [L,D] of some frames; a slice is a view, anything else a copy."""
        values: Array = self.recording(recording)[0][frames]
        return values

    def expect(self, recording: str, start: int, stop: int) -> None:
        """Rows start..stop-1 will be read soon: the system fetches from disk, meanwhile, what is not in memory."""
        values = self.recording(recording)[0]
        behind = _map_behind(values)
        if behind is not None and len(values):
            row = values.strides[0]
            begin = start * row // mmap.PAGESIZE * mmap.PAGESIZE
            behind.madvise(mmap.MADV_WILLNEED, begin, min(stop, len(values)) * row - begin)


def _map_behind(values: Array) -> mmap.mmap | None:
    base: Any = values
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) and hasattr(base, "madvise") else None


_Commit = tuple[Path, int, int]  # a recording's folder, and which file its commit record is: inode, time in ns


def _commit(folder: Path) -> _Commit:
    try:
        record = (folder / "zarr.json").stat()
    except FileNotFoundError as error:
        raise CorruptCache(f"{folder} is gone", hint="run the same command again") from error
    return folder, record.st_ino, record.st_mtime_ns


def _same(commit: _Commit) -> None:
    """Raises CorruptCache where a recording is not of that commit any more."""
    if _commit(commit[0]) != commit:
        raise CorruptCache(f"{commit[0]} was made anew while it was read", hint="run the same command again")


#: Arrays of this process, the least recently used first. A map holds a file descriptor, and a corpus has more
#: recordings than a process may hold files; an unpacked array holds its bytes, and a corpus more of them than memory.
_open_maps: OrderedDict[_Commit, Array] = OrderedDict()
_unpacked: OrderedDict[_Commit, Array] = OrderedDict()


def _kept_open(commit: _Commit) -> Array:
    """The values of a recording's commit. Raises CorruptCache where they are not open and it is gone."""
    for kept in (_open_maps, _unpacked):
        if commit in kept:
            kept.move_to_end(commit)
            return kept[commit]
    _same(commit)
    folder = commit[0] / "values"
    about = declared(folder)
    if about.mappable:
        array = _open_maps[commit] = _mapped(folder, about)
        if len(_open_maps) > _maps_at_once():
            _open_maps.popitem(last=False)
    else:
        array = _unpacked[commit] = unpack(folder, about)
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
