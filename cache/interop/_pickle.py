"""Pickles of strangers: numbers, text, lists, dicts and numpy arrays are built; nothing a pickle names is ever called.

A pickle is a program. Each name it may use stands for a function of ``_plain``; any other name ends the reading. Its
instructions are read once before, so that none asks for more than the file holds.
"""

import pickle
import pickletools
from pathlib import Path
from typing import IO, Any, cast

from cache.errors import DataError
from cache.interop._plain import NAMES, Refused, plain_values, refuse

_FORBIDDEN = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"}
_FORBIDDEN |= {"NEXT_BUFFER", "READONLY_BUFFER"}
_WRONG = (pickle.UnpicklingError, ValueError, TypeError, AttributeError, LookupError, EOFError, MemoryError)


class _Reader(pickle.Unpickler):
    """Looks names up in our table, never in modules."""

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle means by a name. Raises Refused for all that is not in the table."""
        return NAMES.get((module, name)) or refuse(f"it names {module}.{name}")


class _Bounded:
    """A file that refuses to read more than it has, before any memory is taken."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, at = file, file.tell()
        self._end = file.seek(0, 2)
        file.seek(at)

    def read(self, size: int = -1) -> bytes:
        """Bytes of the file. Raises Refused where it has fewer."""
        if size > self._end - self._file.tell():
            raise Refused(f"it claims {size} bytes more than the file has")
        return self._file.read(size)

    def readline(self, size: int = -1) -> bytes:
        """As of a file."""
        return self._file.readline(size)

    def tell(self) -> int:
        """As of a file."""
        return self._file.tell()


def read_pickle(path: Path) -> Any:
    """Plain values of a pickle file. Raises DataError for anything else; nothing of it is run."""
    with open(path, "rb") as file:
        return read_stream(file, str(path))


def read_stream(file: IO[bytes], where: str) -> Any:
    """Plain values of the pickle that begins here."""
    start = file.tell()
    try:
        _scan(_Bounded(file))
        file.seek(start)
        return plain_values(_Reader(_Bounded(file), encoding="latin1").load(), 0, {})
    except (Refused, OverflowError, RecursionError, AssertionError, *_WRONG) as error:
        cause = error
    raise DataError(
        f"{where} is refused as a pickle of plain values: {cause}",
        hint="only arrays, numbers, text, lists and dicts are read; save those anew if you trust its maker",
    ) from cause


def _scan(file: _Bounded) -> None:
    """Every instruction once, without doing any: none is forbidden, none asks for a place far beyond the others."""
    for count, (code, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], file))):
        if code.name in _FORBIDDEN:
            raise Refused(f"it uses {code.name}")
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > count:
            raise Refused(f"it remembers a value number {argument}")
