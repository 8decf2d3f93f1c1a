"""From predictions to numbers: the global CCC is the headline, the mean over recordings a second, named number."""

from dataclasses import dataclass

import numpy as np

from cache.errors import CacheError
from cache.records import Labels
from fuse.numbers.bootstrap import LEVEL, Intervals, intervals, mean_intervals
from fuse.numbers.metrics import Scores, ccc_va
from fuse.numbers.moments import Moments, moments
from fuse.predict import Predictions


@dataclass(frozen=True)
class Evaluation:
    """One partition's numbers.

    raw: global CCC over all its labelled frames concatenated, of the head's own output. smoothed: the same after
    ``postprocess``. per_recording: mean over recordings of each one's CCC, raw. frames: labelled frames scored.
    raw_interval, smoothed_interval, per_recording_interval: how sure they are, over recordings; None for a single one.
    smooth: width of the smoothing, in frames.
    """

    raw: Scores
    smoothed: Scores
    per_recording: Scores
    recordings: int
    frames: int
    raw_interval: Intervals | None = None
    smoothed_interval: Intervals | None = None
    per_recording_interval: Intervals | None = None
    smooth: int = 1


def score_line(s: Scores, sure: Intervals | None = None) -> str:
    """``valence 0.512  arousal 0.473  mean 0.493  95% [0.421, 0.566]``."""
    told = f"valence {s.valence:.3f}  arousal {s.arousal:.3f}  mean {s.mean:.3f}"
    return told + (f"  {LEVEL:.0%} [{sure.mean.low:.3f}, {sure.mean.high:.3f}]" if sure else "")


@dataclass(frozen=True)
class Scored:
    """One partition: its numbers, what other statistics need of it, raw predictions, and how wide was smoothed."""

    evaluation: Evaluation
    kinds: dict[str, Moments]
    predictions: Predictions
    width: int


def evaluate(
    predictions: Predictions, processed: Predictions, labels: dict[str, Labels], width: int
) -> tuple[Evaluation, dict[str, Moments]]:
    """Score predictions on unshifted labels; with it, what other statistics need, by way of scoring (raw, smoothed).

    predictions, processed: raw, and after ``postprocess``, which are the ones called smoothed.

    Raises CacheError where no frame is labelled.
    """
    names = _scored(predictions, labels)
    each = [ccc_va(predictions[r], labels[r].va, labels[r].labelled) for r in names]
    kinds = {"raw": moments(predictions, labels), "smoothed": moments(processed, labels)}
    evaluation = Evaluation(
        raw=global_ccc(predictions, labels),
        smoothed=global_ccc(processed, labels),
        per_recording=_mean(each),
        recordings=len(names),
        frames=int(sum(labels[r].labelled.sum() for r in names)),
        raw_interval=intervals([kinds["raw"]]),
        smoothed_interval=intervals([kinds["smoothed"]]),
        per_recording_interval=mean_intervals(np.array([[s.valence, s.arousal] for s in each])),
        smooth=width,
    )
    return evaluation, kinds


def _scored(predictions: Predictions, labels: dict[str, Labels]) -> list[str]:
    names = [r for r in predictions if r in labels and labels[r].labelled.any()]
    if not names:
        raise CacheError("none of the predicted recordings has labels", hint="run: python cli.py index")
    return names


def global_ccc(predictions: Predictions, labels: dict[str, Labels]) -> Scores:
    """CCC over all labelled frames of all predicted recordings, concatenated. Raises CacheError where none is."""
    names = _scored(predictions, labels)
    return ccc_va(
        np.concatenate([predictions[r] for r in names]),
        np.concatenate([labels[r].va for r in names]),
        np.concatenate([labels[r].labelled for r in names]),
    )


def _mean(scores: list[Scores]) -> Scores:
    v = float(np.mean([s.valence for s in scores]))
    a = float(np.mean([s.arousal for s in scores]))
    return Scores(v, a, (v + a) / 2)
