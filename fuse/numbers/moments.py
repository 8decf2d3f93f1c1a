"""What a CCC needs of each recording, and nothing else: six numbers a dimension, so that resampling costs no frames.

The CCC of any selection of recordings follows from sums of these, in float64, without a label being opened again.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cache.errors import CacheError
from cache.records import Labels

F64 = npt.NDArray[np.float64]
FIELDS = ("frames", "mean_pred", "mean_true", "var_pred", "var_true", "cov")
_COLUMNS = [f"{dim}_{name}" for dim in ("valence", "arousal") for name in FIELDS[1:]]


@dataclass(frozen=True)
class Moments:
    """R recordings. table: f64[R,2,6], for valence and arousal the ``FIELDS``, with 1/N in variances and covariance."""

    recordings: tuple[str, ...]
    table: F64

    def means(self) -> tuple[F64, F64]:
        """Mean prediction and mean label over all frames, f64[2] each."""
        n, mx, my = np.moveaxis(self.table[..., :3], -1, 0)
        return (n * mx).sum(0) / n.sum(0), (n * my).sum(0) / n.sum(0)

    def sums(self, about: tuple[F64, F64] | None = None) -> F64:
        """f64[R,2,6] that add up over recordings: n, x, y, xx, yy, xy of predictions and labels about a reference.

        about: f64[2] each, of predictions and of labels; by default their means over all. About a common reference
        near these, a large mean does not swallow a small variance.
        """
        pred, true = about or self.means()
        n, mx, my, vx, vy, cov = np.moveaxis(self.table, -1, 0)  # each [R,2]
        x, y = mx - pred, my - true
        return np.stack([n, n * x, n * y, n * (vx + x * x), n * (vy + y * y), n * (cov + x * y)], -1)

    def offset(self) -> F64:
        """f64[2]: mean prediction minus mean label over all frames, which ``sums`` left out."""
        n, mx, my = np.moveaxis(self.table[..., :3], -1, 0)
        return np.asarray((n * (mx - my)).sum(0) / n.sum(0))

    def ccc(self) -> F64:
        """f64[R,2]: of each recording by itself; 0 where a side is constant."""
        parts = [Moments((r,), table[None]) for r, table in zip(self.recordings, self.table, strict=True)]
        return np.array([ccc_of(one.sums().sum(0), one.offset()) for one in parts]).reshape(-1, 2)


def moments(predictions: dict[str, F64], labels: dict[str, Labels]) -> Moments:
    """Of every predicted recording that has a labelled frame. predictions: [T,2] each."""
    names = [r for r in predictions if r in labels and labels[r].labelled.any()]
    rows = [_row(predictions[r], labels[r]) for r in names]
    return Moments(tuple(names), np.array(rows).reshape(len(names), 2, len(FIELDS)))


def _row(pred: F64, labels: Labels) -> F64:
    seen = labels.labelled
    x, y = np.asarray(pred, np.float64)[seen], np.asarray(labels.va, np.float64)[seen]  # [n,2]
    mx, my = x.mean(0), y.mean(0)
    dx, dy = x - mx, y - my
    parts = [np.full(2, len(x)), mx, my, (dx * dx).mean(0), (dy * dy).mean(0), (dx * dy).mean(0)]
    return np.stack(parts, -1)


def ccc_of(totals: F64, offset: F64) -> F64:
    """CCC from sums [...,2,6] over any recordings, as [...,2]; 0 where a side is constant, or nothing was drawn."""
    n, sx, sy, sxx, syy, sxy = np.moveaxis(totals, -1, 0)
    n = np.maximum(n, 1)
    mx, my = sx / n, sy / n
    var_x, var_y, cov = sxx / n - mx * mx, syy / n - my * my, sxy / n - mx * my
    scale = var_x + var_y + (mx - my + offset) ** 2
    rounding = 1e-13 * (sxx + syy) / n
    moving = (var_x > rounding) & (var_y > rounding)
    return np.where(moving, 2 * cov / np.where(moving, scale, 1), 0.0)


def save_moments(path: Path, kinds: dict[str, Moments]) -> None:
    """A CSV line for each recording and way of scoring, exact to the last bit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["scored", "recording", "frames", *_COLUMNS])
        for kind, found in kinds.items():
            for recording, table in zip(found.recordings, found.table, strict=True):
                writer.writerow([kind, recording, int(table[0, 0]), *map(repr, table[:, 1:].ravel().tolist())])


def pooled(parts: list[Moments]) -> Moments:
    """Those of disjoint recordings as one."""
    return Moments(tuple(r for m in parts for r in m.recordings), np.concatenate([m.table for m in parts]))


def read_moments(path: Path, kind: str) -> Moments:
    """One way of scoring of a saved table. Raises CacheError where the run has none."""
    if not path.is_file():
        raise CacheError(f"there is no {path}", hint=f"the run was not scored on {path.stem!r}, or did not finish")
    with open(path, newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["scored"] == kind]
    table = np.array([[float(r[c]) for c in _COLUMNS] for r in rows]).reshape(len(rows), 2, len(FIELDS) - 1)
    frames = np.broadcast_to(np.array([float(r["frames"]) for r in rows])[:, None, None], (len(rows), 2, 1))
    return Moments(tuple(r["recording"] for r in rows), np.concatenate([frames, table], -1))
