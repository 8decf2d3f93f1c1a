"""Arrays in other chunks and codecs than our own: smaller, slower to read, and still plain Zarr v3.

Written through zarr, as regular chunks ``[chunk, D]``; the commit record holds the crc32c of every file.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import google_crc32c
import numpy as np
import numpy.typing as npt

from cache.dtypes import attributes_of, stored_as
from cache.errors import DataError
from cache.layout import json_bytes, write_file
from cache.trust import parsed

Codec = Literal["none", "zstd", "gzip", "blosc"]
CODECS: tuple[str, ...] = get_args(Codec)
CHUNK = 4096  # frames; a file a chunk, so that few are made of a long recording


@dataclass(frozen=True)
class Packing:
    """codec of every chunk, and frames in a chunk. Raises DataError for a chunk without frames."""

    codec: Codec = "none"
    chunk: int = CHUNK

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise DataError(f"a chunk of {self.chunk} frames; wanted 1 or more")


def write_packed(
    folder: Path,
    blocks: Iterable[npt.NDArray[Any]],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    dims: tuple[str, ...],
    packing: Packing,
) -> dict[str, Any]:
    """As ``cache.layout.write_blocks``, packed; memory stays what a block and a chunk take."""
    import zarr

    array = zarr.create_array(
        folder,
        shape=shape,
        dtype=stored_as(dtype),
        chunks=(min(packing.chunk, shape[0]), *shape[1:]),
        compressors=_compressor(packing.codec),
        fill_value=0,
        attributes=attributes_of(dtype),
        dimension_names=dims,
        config={"write_empty_chunks": True},
    )
    at, held = 0, np.empty((0, *shape[1:]), dtype)
    for block in blocks:
        if block.shape[1:] != shape[1:] or at + len(held) + len(block) > shape[0]:
            raise DataError(f"rows of shape {block.shape} after {at + len(held)} for an array of shape {shape}")
        held = np.concatenate([held, np.asarray(block, dtype)])
        whole = len(held) if at + len(held) == shape[0] else len(held) // packing.chunk * packing.chunk
        if whole:
            array[at : at + whole] = held[:whole].view(stored_as(dtype))
        at, held = at + whole, held[whole:]
    if at != shape[0]:
        raise DataError(f"{at + len(held)} rows for an array of shape {shape}")
    return {"shape": list(shape), "dtype": dtype.name, **_finished(folder, packing.codec)}


def _compressor(codec: Codec) -> Any:
    from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

    return {"none": None, "zstd": ZstdCodec(), "gzip": GzipCodec(), "blosc": BloscCodec(shuffle="shuffle")}[codec]


def _finished(folder: Path, codec: Codec) -> dict[str, Any]:
    """Spell the metadata as ours, make every file durable, and take their checksums."""
    path = folder / "zarr.json"
    metadata = json_bytes(parsed(path.read_bytes(), path))
    write_file(path, metadata)
    crcs = {}
    for file in sorted(p for p in (folder / "c").rglob("*") if p.is_file()):
        data = file.read_bytes()
        if codec == "gzip":
            data = data[:4] + bytes(4) + data[8:]  # the time of writing: equal inputs give equal bytes
            file.write_bytes(data)
        with open(file, "rb+") as written:
            os.fsync(written.fileno())
        crcs[file.relative_to(folder).as_posix()] = int(google_crc32c.value(data))
    return {"metadata": int(google_crc32c.value(metadata)), "files": crcs}
