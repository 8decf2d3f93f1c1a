"""Annotators react late: labels that lag behind what they describe, by so many seconds for each dimension.

Training sees labels moved earlier, so that what is on screen meets what was said about it. Predictions are moved
later again before anything is scored or saved, so that every number is one on the labels as they stand. All by the
container's clock: uneven frames are looked up by their times.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cache.records import Labels
from fuse.feeding.data import Corpus

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Delay:
    """Seconds by which annotation lags behind, at least 0."""

    valence: float = 0.0
    arousal: float = 0.0

    def __bool__(self) -> bool:
        return self.valence != 0 or self.arousal != 0

    @property
    def seconds(self) -> tuple[float, float]:
        """Of both columns."""
        return self.valence, self.arousal


def for_training(corpus: Corpus, delay: Delay) -> Corpus:
    """The corpus with labels moved earlier; unlabelled where either dimension has no label that late."""
    if not delay:
        return corpus
    return replace(corpus, labels={r: earlier(label, corpus.pts[r], delay) for r, label in corpus.labels.items()})


def earlier(labels: Labels, pts: F64, delay: Delay) -> Labels:
    """Frame at t gets the label of the frame nearest to t + delay. pts: f64[T], seconds."""
    va, labelled = np.zeros_like(labels.va), np.ones(len(pts), bool)
    for column, seconds in enumerate(delay.seconds):
        frame, inside = _at(pts, pts + seconds)
        va[:, column] = labels.va[frame, column]
        labelled &= labels.labelled[frame] & inside
    return Labels(np.where(labelled[:, None], va, 0).astype(labels.va.dtype), labelled)


def for_scoring(predictions: Mapping[str, F64], pts: Mapping[str, F64], delay: Delay) -> dict[str, F64]:
    """Predictions [T,2] moved later, back onto the labels; before the first one, the first holds."""
    return {r: later(pred, pts[r], delay) if delay else pred for r, pred in predictions.items()}


def later(pred: F64, pts: F64, delay: Delay) -> F64:
    """Frame at t gets what was predicted at the frame nearest to t - delay."""
    columns = [pred[_at(pts, pts - seconds)[0], column] for column, seconds in enumerate(delay.seconds)]
    return np.stack(columns, -1)


def _at(pts: F64, times: F64) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Nearest frame to each time, and whether the time lies within a frame's length of the recording."""
    after = np.clip(np.searchsorted(pts, times), 1, max(len(pts) - 1, 1)) if len(pts) > 1 else np.zeros(len(times), int)
    before = np.maximum(after - 1, 0)
    frame = np.where(times - pts[before] <= pts[after] - times, before, after)
    reach = float(np.median(np.diff(pts))) / 2 if len(pts) > 1 else 0.0
    return frame, (times >= pts[0] - reach) & (times <= pts[-1] + reach)
