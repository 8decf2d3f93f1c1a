"""What an array's ``zarr.json`` declares, checked before anything is allocated for it.

Regular chunks, core codecs and numbers alone; whatever else Zarr could describe is no array of a feature cache.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache.dtypes import BFLOAT16, dtype_of
from cache.errors import CorruptCache, DataError
from cache.layout import storage
from cache.trust import parsed, read_metadata

_MOST_AXES, _LONGEST = 2, 1 << 40
_CODECS = {"bytes", "crc32c", "transpose", "sharding_indexed", "zstd", "gzip", "blosc"}


@dataclass(frozen=True)
class Declared:
    """An array as its metadata has it. mappable: it is laid out as ``cache.layout`` writes; sharded: in another way.

    chunk: shape of the file that each part of the array is in. separator: between the numbers of a chunk's name.
    """

    metadata: dict[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]
    separator: str
    mappable: bool
    sharded: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the array in memory, one chunk more included where chunks are decoded."""
        return (math.prod(self.shape) + (0 if self.mappable else math.prod(self.chunk))) * self.dtype.itemsize

    def files(self) -> Iterator[str]:
        """Names of the files its data lie in, relative to its folder."""
        counts = (range(-(-n // c)) for n, c in zip(self.shape, self.chunk, strict=True))
        return (self.separator.join(["c", *map(str, index)]) for index in itertools.product(*counts))


def declared(folder: Path) -> Declared:
    """What the array in that folder says it is. Raises CorruptCache where that is nothing a feature cache holds."""
    path = folder / "zarr.json"
    try:
        metadata = parsed(read_metadata(path), path)
        shape = _lengths(metadata["shape"])
        grid, keys = metadata["chunk_grid"], metadata["chunk_key_encoding"]
        chunk = _lengths(grid["configuration"]["chunk_shape"])
        separator = keys.get("configuration", {}).get("separator", "/")
        names = list(_codecs(metadata["codecs"]))
        if (metadata["node_type"], metadata["zarr_format"]) != ("array", 3) or metadata.get("storage_transformers"):
            raise DataError("no plain array of Zarr v3")
        if grid["name"] != "regular" or keys["name"] != "default" or separator not in ("/", "."):
            raise DataError("its chunks are not regular, or named in another way")
        if len(shape) != len(chunk) or not set(names) <= _CODECS:
            raise DataError(f"its codecs are {', '.join(names)[:80]}; there are: {', '.join(sorted(_CODECS))}")
        laid = storage(shape)
        mappable = {k: metadata[k] for k in laid} == laid
        dtype = _dtype(metadata)
    except (OSError, LookupError, TypeError, AttributeError, DataError, CorruptCache) as error:
        told = getattr(error, "message", "") or f"{type(error).__name__}: {error}"
        raise CorruptCache(f"{folder} is not a readable array: {told}") from error
    return Declared(metadata, shape, dtype, chunk, separator, mappable, "sharding_indexed" in names)


def _lengths(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= _MOST_AXES:
        raise DataError(f"a shape of {str(value)[:40]}; wanted one or two lengths")
    if any(type(n) is not int or not 1 <= n <= _LONGEST for n in value):
        raise DataError(f"a shape of {str(value)[:80]}; wanted whole numbers from 1")
    return tuple(value)


def _dtype(metadata: dict[str, Any]) -> np.dtype[Any]:
    dtype, meant = dtype_of(metadata["data_type"]), metadata.get("attributes", {}).get("dtype")
    if meant is None:
        return dtype
    if meant != "bfloat16" or dtype != np.uint16:
        raise DataError(f"its attributes call {dtype.name} {str(meant)[:40]!r}")
    return BFLOAT16


def _codecs(listed: Any) -> Iterator[str]:
    """Names of the codecs, those inside a shard included."""
    for codec in listed:
        yield codec["name"]
        settings = codec.get("configuration", {})
        if codec["name"] == "sharding_indexed":
            _lengths(settings["chunk_shape"])
            yield from _codecs([*settings["codecs"], *settings["index_codecs"]])
