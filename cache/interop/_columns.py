"""Which columns of a label table are valence and arousal. One that the source lacks is 0, and that is said."""

from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import DataError, UsageError
from cache.interop._layout import Layout

_VALENCE, _AROUSAL = ("valence", "sentiment"), ("arousal",)
NO_AROUSAL = "the source has no arousal: it is 0 everywhere, so do not read its scores"


def label_columns(names: Any, given: tuple[int, ...]) -> tuple[int, ...]:
    """Column of valence and, where there is one, of arousal; by number as given, else by name, else the first ones.

    Raises UsageError for numbers that cannot be columns.
    """
    if given:
        if len(given) > 2 or min(given) < 0:
            raise UsageError(f"label columns {given}", hint="give one for valence, or two: --columns 0,1")
        return given
    plain = [str(n).strip().lower() for n in names] if isinstance(names, list) else []
    found = [next((i for i, n in enumerate(plain) if n in wanted), None) for wanted in (_VALENCE, _AROUSAL)]
    if found[0] is None:
        return ()
    return (found[0],) if found[1] is None else (found[0], found[1])


def valence_arousal(values: npt.NDArray[Any], columns: tuple[int, ...], layout: Layout) -> npt.NDArray[np.float32]:
    """f32[N,2] of the label rows [N, C]. Raises DataError where the columns are not there or cannot be told."""
    width = values.shape[1]
    if not columns and width > 2:
        raise DataError(f"label rows have {width} columns", hint="say which are valence and arousal: --columns 0,1")
    columns = columns or tuple(range(width))
    if max(columns) >= width:
        raise DataError(f"label rows have {width} columns, and --columns asks for number {max(columns)}")
    if len(columns) == 1:
        layout.note(NO_AROUSAL)
    arousal = values[:, columns[1]] if len(columns) == 2 else np.zeros(len(values))
    return np.stack([values[:, columns[0]], arousal], axis=1).astype(np.float32)
