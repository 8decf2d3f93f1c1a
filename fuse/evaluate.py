"""From predictions to numbers: the global CCC is the headline, the mean over recordings a second, named number."""

from dataclasses import dataclass

import numpy as np

from cache.errors import CacheError
from cache.records import Labels
from fuse.metrics import Scores, ccc_va
from fuse.postprocess import smooth
from fuse.predict import Predictions


@dataclass(frozen=True)
class Evaluation:
    """One partition's numbers.

    raw: global CCC over all its labelled frames concatenated, of the head's own output. smoothed: the same after
    ``smooth``. per_recording: mean over recordings of each one's CCC, raw. frames: labelled frames scored.
    """

    raw: Scores
    smoothed: Scores
    per_recording: Scores
    recordings: int
    frames: int


def evaluate(predictions: Predictions, labels: dict[str, Labels], smooth_frames: int) -> Evaluation:
    """Score predictions on unshifted labels. Raises CacheError where no frame is labelled."""
    names = [r for r in predictions if r in labels and labels[r].labelled.any()]
    if not names:
        raise CacheError("none of the predicted recordings has labels", hint="run: python cli.py index")
    smoothed = {r: smooth(predictions[r], smooth_frames) for r in names}
    each = [ccc_va(predictions[r], labels[r].va, labels[r].labelled) for r in names]
    return Evaluation(
        raw=_global(predictions, labels, names),
        smoothed=_global(smoothed, labels, names),
        per_recording=_mean(each),
        recordings=len(names),
        frames=int(sum(labels[r].labelled.sum() for r in names)),
    )


def _global(predictions: Predictions, labels: dict[str, Labels], names: list[str]) -> Scores:
    return ccc_va(
        np.concatenate([predictions[r] for r in names]),
        np.concatenate([labels[r].va for r in names]),
        np.concatenate([labels[r].labelled for r in names]),
    )


def _mean(scores: list[Scores]) -> Scores:
    v = float(np.mean([s.valence for s in scores]))
    a = float(np.mean([s.arousal for s in scores]))
    return Scores(v, a, (v + a) / 2)
