"""What is done to predictions after the head, always reported beside the raw ones, never instead of them.

Each recording by itself. Edges hold their nearest value, so smoothing does not pull them to 0 (zero padding would
turn a constant 0.5 into 0.25 there).
"""

import numpy as np
import numpy.typing as npt

from cache.errors import UsageError


def smooth(pred: npt.NDArray[np.float64], frames: int) -> npt.NDArray[np.float64]:
    """Centred box filter over ``frames`` (odd) frames, nearest edges, then clipped to [-1, 1]. pred: [T,2]."""
    if frames < 1 or frames % 2 == 0:
        raise UsageError(f"a centred smoothing window needs an odd number of frames, got {frames}")
    half = frames // 2
    padded = np.pad(pred, ((half, half), (0, 0)), mode="edge")
    total = np.cumsum(np.pad(padded, ((1, 0), (0, 0))), axis=0)
    return np.clip((total[frames:] - total[:-frames]) / frames, -1.0, 1.0)
