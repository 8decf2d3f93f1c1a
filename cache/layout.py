"""Arrays as bytes: plain Zarr v3, laid out so that a window of frames is one slice of one memory map.

A two-dimensional array is one shard file whose inner chunks (256 frames, no compression) lie in order from byte 0,
followed by the shard's index: the front of the file *is* the rows. Any other array is one raw chunk.
Written directly, because creating an array through a general library costs more than writing its bytes.
"""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from cache.dtypes import attributes_of, stored_as
from cache.errors import DataError
from cache.fingerprint import canonical, json_encoded

INNER = 256  # frames in an inner chunk
Array = npt.NDArray[Any]


def group_metadata(record: dict[str, Any]) -> bytes:
    """``zarr.json`` of a group: our record under the one attribute ``affuse``, with a checksum of itself."""
    sealed = {**record, "crc32c": seal(record)}
    return json_bytes({"zarr_format": 3, "node_type": "group", "attributes": {"affuse": sealed}})


def seal(record: dict[str, Any]) -> int:
    """crc32c of a group's record, as canonical JSON without the checksum itself."""
    return int(google_crc32c.value(json_encoded(canonical({k: v for k, v in record.items() if k != "crc32c"}))))


def array_metadata(shape: tuple[int, ...], dtype: np.dtype[Any], dims: tuple[str, ...]) -> dict[str, Any]:
    """``zarr.json`` of an array as plain data."""
    stored = stored_as(dtype)
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": stored.name,
        "fill_value": False if stored == bool else 0.0 if stored.kind == "f" else 0,
        **storage(shape),
        "attributes": attributes_of(dtype),
        "dimension_names": list(dims),
    }


def storage(shape: tuple[int, ...]) -> dict[str, Any]:
    """The part of ``zarr.json`` that says where the bytes are; a reader may map the file only on exactly this."""
    raw: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
    chunk, codec = list(shape), raw
    if len(shape) == 2:
        chunk = [_padded(shape[0]), shape[1]]
        sharding = {
            "chunk_shape": [INNER, shape[1]],
            "codecs": [raw],
            "index_codecs": [raw, {"name": "crc32c"}],
            "index_location": "end",
        }
        codec = {"name": "sharding_indexed", "configuration": sharding}
    return {
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [codec],
    }


def chunk_file(folder: Path, ndim: int) -> Path:
    """The one file that holds an array's data."""
    return folder / "c" / "/".join("0" * ndim)


def data_bytes(shape: tuple[int, ...], itemsize: int) -> int:
    """Bytes of an array's data in its file, the padding of the last inner chunk included, the index not."""
    return math.prod((_padded(shape[0]), shape[1]) if len(shape) == 2 else shape) * itemsize


def _padded(frames: int) -> int:
    return -(-frames // INNER) * INNER


def index_bytes(shape: tuple[int, ...]) -> int:
    """Bytes of the index at the end of a shard; 0 for one chunk."""
    return _padded(shape[0]) // INNER * 16 + 4 if len(shape) == 2 else 0


def shard_index(shape: tuple[int, ...], itemsize: int) -> bytes:
    """Index at the end of a shard: (offset, length) of each inner chunk as u64, then its crc32c; b"" for one chunk."""
    if len(shape) != 2:
        return b""
    chunks, step = _padded(shape[0]) // INNER, INNER * shape[1] * itemsize
    offsets = np.arange(chunks, dtype="<u8") * step
    index = np.stack([offsets, np.full(chunks, step, "<u8")], axis=1).tobytes()
    return index + google_crc32c.value(index).to_bytes(4, "little")


def write_array(folder: Path, array: Array, dims: tuple[str, ...]) -> dict[str, Any]:
    """Write one array into a new folder; returns its part of the commit record (crc32c of each inner chunk)."""
    return write_blocks(folder, [array], array.shape, array.dtype, dims)


def write_blocks(
    folder: Path, blocks: Iterable[Array], shape: tuple[int, ...], dtype: npt.DTypeLike, dims: tuple[str, ...]
) -> dict[str, Any]:
    """Write an array that comes as consecutive blocks of its rows; memory stays what one block takes.

    Raises DataError where the blocks together have another shape.
    """
    dtype = np.dtype(dtype)
    path = chunk_file(folder, len(shape))
    path.parent.mkdir(parents=True)
    size, rows, crcs = data_bytes(shape, dtype.itemsize), 0, Checksums(chunk_bytes(shape, dtype.itemsize))
    with open(path, "wb") as file:
        for block in blocks:
            if block.shape[1:] != shape[1:]:
                raise DataError(f"rows of shape {block.shape[1:]} for an array of shape {shape}")
            data = np.ascontiguousarray(block, dtype).reshape(-1).view(np.uint8).data
            file.write(data)
            crcs.add(data)
            rows += len(block)
        if rows != shape[0]:
            raise DataError(f"{rows} rows for an array of shape {shape}")
        padding = bytes(size - file.tell())
        crcs.add(padding)
        file.write(padding + shard_index(shape, dtype.itemsize))
        file.flush()
        os.fsync(file.fileno())
    metadata = json_bytes(array_metadata(shape, dtype, dims))
    write_file(folder / "zarr.json", metadata)
    found = {"metadata": int(google_crc32c.value(metadata)), "crc32c": crcs.found}
    return {"shape": list(shape), "dtype": dtype.name, **found}


class Checksums:
    """crc32c of each ``step`` bytes of what is added, piece by piece."""

    def __init__(self, step: int) -> None:
        self.found: list[int] = []
        self._step, self._room = step, 0

    def add(self, data: memoryview | bytes) -> None:
        """The next bytes."""
        at = 0
        while at < len(data):
            if not self._room:
                self.found.append(0)
                self._room = self._step
            piece = bytes(data[at : at + self._room])
            self.found[-1] = google_crc32c.extend(self.found[-1], piece)
            self._room -= len(piece)
            at += len(piece)


def chunk_bytes(shape: tuple[int, ...], itemsize: int) -> int:
    """Bytes of an inner chunk; of the whole array where there are none."""
    return INNER * shape[1] * itemsize if len(shape) == 2 else max(data_bytes(shape, itemsize), 1)


def write_file(path: Path, *parts: memoryview | bytes) -> None:
    """Write a new file and make it durable before returning."""
    with open(path, "wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())


def json_bytes(value: dict[str, Any]) -> bytes:
    """How every ``zarr.json`` is spelled."""
    return json_encoded(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
