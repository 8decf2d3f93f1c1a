"""What is done to predictions after the head, always reported beside the raw ones, never instead of them.

Each recording by itself. Edges hold their nearest value, so smoothing does not pull them to 0 (zero padding would
turn a constant 0.5 into 0.25 there). A width may be chosen on validation; test never chooses.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from cache.errors import UsageError
from cache.records import Labels
from fuse.numbers.evaluate import global_ccc

F64 = npt.NDArray[np.float64]
WIDTHS = (1, 5, 11, 25, 51, 101, 201)  # frames


def smooth(pred: F64, frames: int) -> F64:
    """Centred box filter over ``frames`` (odd) frames, nearest edges, then clipped to [-1, 1]. pred: [T,2]."""
    if frames < 1 or frames % 2 == 0:
        raise UsageError(f"a centred smoothing window needs an odd number of frames, got {frames}")
    half = frames // 2
    padded = np.pad(pred, ((half, half), (0, 0)), mode="edge")
    total = np.cumsum(np.pad(padded, ((1, 0), (0, 0))), axis=0)
    return np.clip((total[frames:] - total[:-frames]) / frames, -1.0, 1.0)


def bridge(pred: F64, absent: npt.NDArray[np.bool_]) -> F64:
    """Linear between the nearest frames that are not absent, which hold beyond the ends; pred [T,2], absent bool[T]."""
    if absent.all() or not absent.any():
        return pred
    frames, seen = np.arange(len(pred)), np.flatnonzero(~absent)
    return np.stack([np.interp(frames, seen, column[seen]) for column in pred.T], -1)


def postprocess(
    predictions: Mapping[str, F64], width: int, absent: Mapping[str, npt.NDArray[np.bool_]] | None = None
) -> dict[str, F64]:
    """Bridged over ``absent`` frames, where these are given, smoothed and clipped, recording by recording."""
    bridged = {r: bridge(p, absent[r]) if absent is not None else p for r, p in predictions.items()}
    return {r: smooth(p, width) for r, p in bridged.items()}


def choose_width(
    predictions: Mapping[str, F64],
    labels: dict[str, Labels],
    absent: Mapping[str, npt.NDArray[np.bool_]] | None = None,
) -> int:
    """The width of ``WIDTHS`` with the best mean CCC on these (validation's) labels; the narrowest of equals."""
    scores = [global_ccc(postprocess(predictions, w, absent), labels).mean for w in WIDTHS]
    return WIDTHS[int(np.argmax(scores))]
