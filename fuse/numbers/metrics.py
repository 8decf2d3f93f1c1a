"""The one CCC used for numbers: the concordance correlation coefficient of Lin (1989).

    CCC(x, y) = 2 cov / (var_x + var_y + (mean_x - mean_y)^2)

with 1/N in covariance and variance alike, in float64, over labelled frames only, nothing rescaled before.
A partition is scored on all its labelled frames concatenated, one CCC per dimension; the headline is their mean.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cache.errors import DataError


@dataclass(frozen=True)
class Scores:
    """CCC of valence, of arousal, and their mean P = (valence + arousal) / 2."""

    valence: float
    arousal: float
    mean: float


def ccc(pred: npt.ArrayLike, true: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> float:
    """CCC of two sequences [N], over the True entries of ``mask`` if given. Never NaN.

    Where it is undefined it is 0.0: fewer than two values, or either side constant, two equal constants included
    (agreement on a constant shows no concordance). Raises DataError on unequal shapes or values not finite.
    """
    x, y = np.asarray(pred, np.float64), np.asarray(true, np.float64)
    m = np.ones(x.shape, bool) if mask is None else np.asarray(mask, bool)
    if x.ndim != 1 or not x.shape == y.shape == m.shape:
        raise DataError(f"CCC wants three sequences of one length, got {x.shape}, {y.shape} and mask {m.shape}")
    x, y = x[m], y[m]
    bad = int((~np.isfinite(x)).sum()), int((~np.isfinite(y)).sum())
    if any(bad):
        raise DataError(f"CCC got {bad[0]} predictions and {bad[1]} labels that are not finite, of {len(x)}")
    # constants are found by comparison: the rounded mean of a constant may differ from it
    if len(x) < 2 or x.min() == x.max() or y.min() == y.max():
        return 0.0
    mx, my = x.mean(), y.mean()
    dx, dy = x - mx, y - my
    # the same three expressions for x = y, so that the ratio is 2c / (c + c) = 1 exactly
    cov, var_x, var_y = (dx * dy).mean(), (dx * dx).mean(), (dy * dy).mean()
    scale = var_x + var_y + (mx - my) ** 2
    return float(2.0 * cov / scale) if scale > 0 else 0.0


def ccc_va(pred: npt.ArrayLike, va: npt.ArrayLike, labelled: npt.ArrayLike) -> Scores:
    """Both CCCs and their mean. pred, va: [T,2], columns (valence, arousal); labelled: bool[T].

    What is stored in rows that are not labelled is never looked at. Raises DataError on other shapes.
    """
    p, t, m = np.asarray(pred), np.asarray(va), np.asarray(labelled, bool)
    if p.ndim != 2 or p.shape[1] != 2 or p.shape != t.shape or m.shape != p.shape[:1]:
        raise DataError(f"wanted predictions and labels [T,2], mask [T]; got {p.shape}, {t.shape} and {m.shape}")
    v, a = ccc(p[:, 0], t[:, 0], m), ccc(p[:, 1], t[:, 1], m)
    return Scores(valence=v, arousal=a, mean=(v + a) / 2)
