"""What a restricted pickle may build: stand-ins for numpy's constructors that copy plain numbers out of bytes.

numpy's own are not used: a pickled dtype can make them take bytes for pointers.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

_PLAIN = re.compile(r"[|<>=]?(?:\?|[biufUS]\d{1,6}|O\d?)")
_DEEPEST = 12


class Refused(Exception):
    """The pickle asks for something that is no plain value."""


def refuse(what: str) -> Any:
    """Raises Refused."""
    raise Refused(what)


class _Made:
    """A name that a pickle may call; nothing can be set on it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)

    def __setstate__(self, state: Any) -> None:
        raise Refused("it sets what it may only call")


class _Type:
    """A dtype of plain numbers, text or objects."""

    __slots__ = ("plain",)

    def __init__(self, spec: Any) -> None:
        if not isinstance(spec, str) or not _PLAIN.fullmatch(spec):
            raise Refused(f"an array of type {spec!r}")
        self.plain = np.dtype(spec)

    def __setstate__(self, state: Any) -> None:
        order, fields = state[1], state[2:5]
        if order not in ("<", ">", "=", "|") or any(f is not None for f in fields):
            raise Refused("an array of records")
        self.plain = self.plain.newbyteorder(order) if order in "<>" else self.plain


class _Array:
    """An array whose bytes come next."""

    __slots__ = ("value",)

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        self.value = _filled(data, kind, shape, "F" if fortran else "C")


class _Objects:
    """The values of an array of objects."""

    __slots__ = ("shape", "values")

    def __init__(self, values: Any, shape: tuple[int, ...]) -> None:
        if not isinstance(values, list) or len(values) != math.prod(shape):
            raise Refused("an array of objects that are no list")
        self.values, self.shape = values, shape

    def array(self, values: list[Any]) -> np.ndarray[Any, Any]:
        """With these values."""
        made = np.empty(len(values), object)
        for i, value in enumerate(values):
            made[i] = value
        return made.reshape(self.shape)


def _filled(data: Any, kind: Any, shape: Any, order: Any = "C") -> Any:
    """An array that is exactly these bytes, or exactly this list of values."""
    if not isinstance(kind, _Type) or not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise Refused("an array without a plain type and shape")
    if len(shape) > 8 or order not in ("C", "F"):
        raise Refused(f"an array of shape {shape}")
    if kind.plain.hasobject:
        return _Objects(data, shape)
    data = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(data, bytes | bytearray):
        raise Refused("an array without bytes")
    if not data:
        return np.empty(shape, kind.plain) if 0 in shape else refuse("an array without bytes")
    return np.frombuffer(data, kind.plain).reshape(shape, order=order)  # raises ValueError where sizes differ


def _scalar(kind: Any, data: Any) -> Any:
    return _filled(data, kind, ()).item()


def _text_bytes(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise Refused("an unusual encoding")
    return text.encode(encoding)


_NDARRAY = _Made(lambda *_: refuse("an array without bytes"))
NAMES: dict[tuple[str, str], _Made] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Made(lambda spec, *_: _Type(spec)),
    ("_codecs", "encode"): _Made(_text_bytes),
    ("collections", "OrderedDict"): _Made(lambda *items: dict(*items)),
}
for _core in ("numpy.core", "numpy._core"):
    NAMES[f"{_core}.multiarray", "_reconstruct"] = _Made(lambda *_: _Array())
    NAMES[f"{_core}.multiarray", "scalar"] = _Made(_scalar)
    NAMES[f"{_core}.numeric", "_frombuffer"] = _Made(lambda *given: _Array(_filled(*given)))


def plain_values(found: Any, depth: int, known: dict[int, Any]) -> Any:
    """The same without stand-ins; each shared value is made once."""
    if depth > _DEEPEST:
        raise Refused("values inside values without end")
    if id(found) in known:
        return known[id(found)]
    made = found
    if isinstance(found, _Array):
        made = refuse("an array without bytes") if found.value is None else plain_values(found.value, depth, known)
    elif isinstance(found, _Objects):
        made = found.array([plain_values(v, depth + 1, known) for v in found.values])
    elif isinstance(found, dict):
        if not all(isinstance(k, str | int | float) for k in found):
            raise Refused("a dict with keys that are neither text nor numbers")
        made = {k: plain_values(v, depth + 1, known) for k, v in found.items()}
    elif isinstance(found, list | tuple):
        made = type(found)(plain_values(v, depth + 1, known) for v in found)
    elif not isinstance(found, str | bytes | bytearray | int | float | complex | bool | np.ndarray | None):
        raise Refused(f"a value of type {type(found).__name__}")
    known[id(found)] = made
    return made
