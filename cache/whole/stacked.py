"""All frames of a stream as one lazy array: whoever computes with it reads a recording at a time.

It is a dask array, so ``mean``, ``std``, products and all else of numpy work on a stream that is larger than memory, on
the threads of this machine or, inside ``with Client(ADDRESS):``, on a cluster that sees the cache under the same path.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cache.check import undamaged, undamaged_array
from cache.errors import CacheError, UsageError
from cache.reader import open_array, open_stream
from cache.store import FeatureCache

if TYPE_CHECKING:
    from dask.array import Array

F32 = npt.NDArray[np.float32]
_AT_ONCE = 65_536  # frames that are read together


@dataclass(frozen=True)
class Piece:
    """Frames start..stop-1 of a recording, of which so many are present. first: of the pieces of that recording."""

    recording: str
    folder: Path
    start: int
    stop: int
    present: int
    first: bool

    def rows(self) -> F32:
        """Present rows [present,D]. The first piece checks every byte: raises CorruptCache where one is damaged."""
        if self.first:
            undamaged(self.folder)
        values, present = open_stream(self.folder)
        return values[self.start : self.stop][present[self.start : self.stop]].astype(np.float32)


def pieces(cache: FeatureCache, name: str, recordings: Sequence[str] | None = None) -> list[Piece]:
    """A stream in pieces that fit in memory, those without any present frame left out."""
    reader = cache.reader(name)
    found: list[Piece] = []
    for recording in sorted(reader.folders) if recordings is None else recordings:
        folder = reader.folders[recording]
        present = open_array(undamaged_array(folder, "present"))
        starts = range(0, len(present), _AT_ONCE)
        counts = [int(present[s : s + _AT_ONCE].sum()) for s in starts]
        some = [(s, c) for s, c in zip(starts, counts, strict=True) if c]
        found += [Piece(recording, folder, s, s + _AT_ONCE, c, (s, c) == some[0]) for s, c in some]
    return found


def stacked(cache: FeatureCache, name: str, recordings: Sequence[str] | None = None) -> "Array":
    """Present frames of a stream, recording after recording: f32[N,D], lazily.

    name: its key, or its bare name. recordings: all there are, sorted, unless they are given. Raises CacheError where
    no frame is present, UsageError without Dask; CorruptCache comes when it is computed.
    """
    array = dask().array
    dim = cache.resolve(name).dim
    parts = [
        array.from_delayed(dask().delayed(Piece.rows)(piece), (piece.present, dim), np.float32)
        for piece in pieces(cache, name, recordings)
    ]
    if not parts:
        raise CacheError(f"stream {name} of {cache.where} has no frame in which anything is present")
    return array.concatenate(parts)


def dask() -> Any:
    """The library. Raises UsageError where it is not installed."""
    try:
        import dask
        import dask.array
    except ImportError as error:
        raise UsageError(f"this needs Dask: {error}", hint="pip install 'affuse[dask]'") from error
    return dask


def blocks(frames: "Array", rows: int) -> Iterator[Any]:
    """The array in order as f32[n,D] in memory, n even and at least ``rows``, or all of it where that is less."""
    count = max(1, len(frames) // rows)
    sizes = tuple(len(part) for part in np.array_split(np.empty(len(frames), np.int8), count))
    even = frames.rechunk((sizes, -1))
    for number in range(count):
        yield even.blocks[number].compute()
