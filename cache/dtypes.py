"""The types that numbers of a cache may have; bfloat16 is one, though Zarr has no such core type.

bfloat16 is stored as ``uint16`` whose array attributes say ``{"dtype": "bfloat16"}``. In memory it is a type of its own
(``ml_dtypes``), so that nothing can take its bits for numbers unnoticed.
"""

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from cache.errors import DataError

BFLOAT16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
_FLOATS = ("float16", "float32", "float64")
_WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_KNOWN = {name: np.dtype(name) for name in ("bool", *_FLOATS, *_WHOLE)} | {"bfloat16": BFLOAT16}


def dtype_of(name: str) -> np.dtype[Any]:
    """The type of that name. Raises DataError with the names there are."""
    if not isinstance(name, str) or name not in _KNOWN:
        raise DataError(f"no array of a cache has the dtype {str(name)[:40]!r}; there are: {', '.join(_KNOWN)}")
    return _KNOWN[name]


def stored_as(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The Zarr type that holds a type's bytes."""
    return np.dtype(np.uint16) if dtype == BFLOAT16 else dtype


def attributes_of(dtype: np.dtype[Any]) -> dict[str, Any]:
    """The array attributes that tell what ``stored_as`` alone does not."""
    return {"dtype": dtype.name} if dtype == BFLOAT16 else {}


def largest(dtype: np.dtype[Any]) -> float:
    """The largest number of a floating type."""
    return float(ml_dtypes.finfo(dtype).max)


def not_finite(values: npt.NDArray[Any]) -> int:
    """How many of the values are NaN or infinite; 0 for types that have none."""
    floating = values.dtype.kind == "f" or values.dtype == BFLOAT16
    return int((~np.isfinite(values)).sum()) if floating else 0
