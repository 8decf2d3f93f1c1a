"""HDF5 files of strangers: links and virtual or external data are refused, claimed sizes are checked against the file.

An HDF5 file may name other files as its data, and may claim terabytes without holding a byte.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cache.errors import DataError, MissingData, UsageError

if TYPE_CHECKING:
    import h5py

_DEFLATES = 1100  # times that gzip shrinks zeros at most
_SLACK = 1 << 16
_MOST = 8 << 30  # bytes of one array
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}  # what h5py has; others would be loaded as plugins


def open_h5(path: Path, mode: str = "r") -> "h5py.File":
    """The open file. Raises UsageError without h5py, MissingData or DataError for no such file or another kind."""
    try:
        import h5py
    except ImportError as error:
        raise UsageError("HDF5 needs the package h5py", hint="pip install 'affuse[interop]'") from error
    if mode == "r" and not path.is_file():
        raise MissingData(f"no file at {path}")
    try:
        return h5py.File(path, mode)
    except OSError as error:
        raise DataError(f"{path} is no HDF5 file, or not a whole one ({error})") from error


def names(group: "h5py.Group") -> list[str]:
    """Names inside a group, sorted."""
    return sorted(group.keys())


def child(group: "h5py.Group", name: str) -> Any:
    """A group or dataset inside this one. Raises DataError where it is missing or lies elsewhere."""
    import h5py

    where = f"{group.file.filename}:{group.name}/{name}"
    try:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise DataError(f"{where} is missing, or a link")
        return group[name]
    except (KeyError, OSError, RuntimeError, AttributeError, TypeError) as error:
        raise DataError(f"{where} cannot be read ({error})") from error


def groups(group: "h5py.Group") -> Iterator[tuple[str, "h5py.Group"]]:
    """The groups inside a group, by name."""
    import h5py

    for name in names(group):
        found = child(group, name)
        if isinstance(found, h5py.Group):
            yield name, found


def array(group: "h5py.Group", name: str, kinds: str = "fiu", ndim: int | None = None) -> npt.NDArray[Any]:
    """A dataset's numbers. Raises DataError for other types and shapes, and for data that is not in this file."""
    import h5py

    data, where = child(group, name), f"{group.file.filename}:{group.name}/{name}"
    if not isinstance(data, h5py.Dataset) or data.dtype.kind not in kinds or data.shape is None:
        raise DataError(f"{where} is no array of numbers")
    if ndim is not None and len(data.shape) != ndim:
        raise DataError(f"{where} has shape {data.shape}; wanted {ndim} axes")
    _check_held(data, where)
    try:
        return np.asarray(data[()])
    except (OSError, ValueError, MemoryError, RuntimeError) as error:
        raise DataError(f"{where} cannot be read ({error})") from error


def _check_held(data: "h5py.Dataset", where: str) -> None:
    """Raises DataError unless this file holds the data, in a form h5py reads by itself, and enough bytes for it."""
    if data.is_virtual or data.external:
        raise DataError(f"the data of {where} lies in another file", hint="copy it into one file: h5repack")
    made = data.id.get_create_plist()
    filters = {made.get_filter(i)[0] for i in range(made.get_nfilters())}
    if filters - set(_FILTERS):
        raise DataError(
            f"{where} is compressed by filter {min(filters - set(_FILTERS))}; wanted {', '.join(_FILTERS.values())}",
            hint="compress it anew: h5repack -f GZIP=4",
        )
    claimed = max(data.size, math.prod(data.chunks or ())) * data.dtype.itemsize
    held = data.id.get_storage_size()
    if claimed > min(held * _DEFLATES + _SLACK, _MOST):
        raise DataError(f"{where} claims {claimed} bytes and holds {held}")


def text(group: "h5py.Group", name: str) -> Any:
    """What is written as JSON in a dataset of one string, or the string itself where it is no JSON."""
    import h5py

    data = child(group, name)
    if not isinstance(data, h5py.Dataset) or h5py.check_string_dtype(data.dtype) is None or data.size != 1:
        raise DataError(f"{group.file.filename}:{group.name}/{name} is no text")
    _check_held(data, f"{group.file.filename}:{group.name}/{name}")
    found = np.asarray(data[()]).reshape(-1)[0]
    found = found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)
    try:
        return json.loads(found)
    except (ValueError, RecursionError):
        return found


def write_text(group: "h5py.Group", name: str, value: Any) -> None:
    """One string of JSON, any length (attributes end at 64 KB)."""
    group.create_dataset(name, data=json.dumps(value))


def write_attribute(group: "h5py.Group", name: str, value: Any) -> None:
    """A plain attribute; letters that HDF5 has no way to hold are written as escapes."""
    if isinstance(value, str):
        value = value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    group.attrs[name] = value


def write_rows(group: "h5py.Group", name: str, values: npt.NDArray[Any]) -> None:
    """A chunked array: 256 rows a chunk, not compressed."""
    group.create_dataset(name, data=values, chunks=(min(len(values), 256), *values.shape[1:]))
