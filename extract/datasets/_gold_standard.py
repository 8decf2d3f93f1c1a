"""One label from several raters, by the procedure of the AVEC challenges."""

import numpy as np
import numpy.typing as npt


def gold_standard(ratings: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """f64[N] from f64[N, raters], as AVEC's organisers compute it (AVEC 2015 and 2016).

    A rater weighs as much as they agree with the others (mean pairwise CCC). Each rater's own mean gives way to the
    weighted mean of all, then raters are averaged. Rows that a rater left empty are NaN, a rater who left all of them
    empty does not count. Clipped to [-1, 1].
    """
    ratings = ratings[:, np.isfinite(ratings).any(axis=0)]
    complete = np.isfinite(ratings).all(axis=1)
    rated = ratings[complete]
    gold = np.full(len(ratings), np.nan)
    if not rated.size:
        return gold
    mean = rated.mean(axis=0)
    cov = np.atleast_2d(np.cov(rated.T, bias=True))
    spread = np.diag(cov)[:, None] + np.diag(cov)[None] + (mean[:, None] - mean[None]) ** 2
    ccc = np.divide(2 * cov, spread, out=np.zeros_like(cov), where=spread > 0)
    weight = np.maximum((ccc.sum(axis=1) - np.diag(ccc)) / max(len(mean) - 1, 1), 0)  # no rater counts against
    centre = (mean * weight).sum() / weight.sum() if weight.sum() > 1e-3 else mean.mean()
    gold[complete] = np.clip((rated - mean + centre).mean(axis=1), -1.0, 1.0)
    return gold
