"""Arrays on disk while a recording is worked on, so that memory does not grow with its length.

A spool is a file without a name in the cache's staging folder: it vanishes with the process, however that ends.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.commit import STAGING, writing
from cache.errors import DataError
from cache.records import Track

_SPARSE = 4  # rows further apart than this are read one by one


class Spool:
    """[N, *row], appended to and read back by slice or by numbers of rows. ``row`` is () for samples of sound."""

    def __init__(self, root: Path, row: tuple[int, ...] = (), dtype: npt.DTypeLike = np.float32) -> None:
        self._root, self._row, self._rows, self._dtype = root, row, 0, np.dtype(dtype)
        with writing(root):
            folder = root / STAGING
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *row)."""
        return (self._rows, *self._row)

    def __len__(self) -> int:
        return self._rows

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Add rows at the end. Raises DataError where they have another shape, CacheError where the disk is full."""
        data = np.ascontiguousarray(rows, self._dtype)
        if data.shape[1:] != self._row:
            raise DataError(f"rows of shape {data.shape[1:]}; wanted {self._row}")
        with writing(self._root):
            self._file.write(data.reshape(-1).view(np.uint8).data)
            self._file.flush()
        self._rows += len(data)

    def __getitem__(self, index: slice | npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        if isinstance(index, slice):
            start, stop, _ = index.indices(self._rows)
            return self._read(start, max(start, stop))
        if not len(index):
            return np.empty((0, *self._row), self._dtype)
        low, high = int(index.min()), int(index.max()) + 1
        if high - low > _SPARSE * len(index):
            return np.concatenate([self._read(i, i + 1) for i in index.tolist()])
        return self._read(low, high)[index - low]

    def _read(self, start: int, stop: int) -> npt.NDArray[Any]:
        out = np.empty((stop - start, *self._row), self._dtype)
        step = self._dtype.itemsize * int(np.prod(self._row, dtype=int))
        view, at = memoryview(out.reshape(-1).view(np.uint8)), 0
        while at < len(view):
            got = os.preadv(self._file.fileno(), [view[at:]], start * step + at)
            if not got:
                raise EOFError(f"row {start} to {stop} of {self._rows} are not in their spool")
            at += got
        return out

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()


class TrackSpool:
    """A track collected piece by piece; its values lie on disk."""

    def __init__(self, root: Path, dim: int) -> None:
        self._spans = [np.empty((0, 2))]
        self._values = Spool(root, (dim,))

    def append(self, track: Track) -> None:
        """Add rows at the end."""
        self._spans.append(track.spans)
        self._values.append(np.asarray(track.values))

    @property
    def track(self) -> Track:
        """All rows so far."""
        return Track(np.concatenate(self._spans), self._values)

    def close(self) -> None:
        """Give the disk back."""
        self._values.close()
