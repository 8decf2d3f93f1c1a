"""Where a model is wrong: by recording, by the annotated value, and by the place in the circumplex of affect."""

from dataclasses import dataclass

import numpy as np

from fuse.numbers.moments import Moments
from fuse.prediction_files import F64

FEWEST = 20  # frames; of fewer nothing is told: a mean of a few labels is nearly those labels
EDGES = np.linspace(-1, 1, 11)
RING = 0.5
SECTORS = ("pleasure", "excitement", "arousal", "distress", "misery", "depression", "sleepiness", "contentment")


@dataclass(frozen=True)
class OfRecording:
    """One recording: labelled frames, CCC of valence and arousal, and the mean error (prediction minus annotation)."""

    recording: str
    frames: int
    valence: float
    arousal: float
    valence_bias: float
    arousal_bias: float

    @property
    def mean(self) -> float:
        """Of both CCCs."""
        return (self.valence + self.arousal) / 2


@dataclass(frozen=True)
class Bin:
    """Frames annotated from low to high: how many, the mean prediction, and its quartiles; None of too few."""

    low: float
    high: float
    frames: int
    mean: float | None
    quartiles: tuple[float, float] | None


@dataclass(frozen=True)
class Region:
    """A sector of the circumplex, within RING of its centre or beyond; error: mean absolute, over both dimensions."""

    sector: str
    outer: bool
    frames: int
    error: float | None


def of_recordings(found: Moments) -> list[OfRecording]:
    """Hardest first, by the mean of both CCCs, from what the run left when it was scored: no label is opened."""
    frames, mx, my = np.moveaxis(found.table[..., :3], -1, 0)  # each [R,2]
    ccc, bias = found.ccc(), mx - my
    made = [
        OfRecording(r, int(frames[i, 0]), *ccc[i].tolist(), *bias[i].tolist()) for i, r in enumerate(found.recordings)
    ]
    return sorted(made, key=lambda r: r.mean)


def calibration(pred: F64, true: F64) -> list[Bin]:
    """pred, true: one dimension, f64[N]. Ten equal bins of the annotation, -1 to 1, ends included."""
    place = np.clip(np.digitize(true, EDGES) - 1, 0, len(EDGES) - 2)
    return [_bin(i, pred[place == i]) for i in range(len(EDGES) - 1)]


def _bin(i: int, inside: F64) -> Bin:
    enough = len(inside) >= FEWEST
    low, high = np.percentile(inside, (25, 75)).tolist() if enough else (0.0, 0.0)
    mean = float(inside.mean()) if enough else None
    return Bin(float(EDGES[i]), float(EDGES[i + 1]), len(inside), mean, (low, high) if enough else None)


def regions(pred: F64, true: F64) -> list[Region]:
    """pred, true: f64[N,2]. Eight sectors of 45 degrees about Russell's (1980) eight concepts, each in two rings.

    Where an annotation lies decides; the sectors begin with pleasure (valence 1, arousal 0), counterclockwise.
    """
    angle = np.arctan2(true[:, 1], true[:, 0])
    sector = np.round(angle / (np.pi / 4)).astype(int) % len(SECTORS)
    outer = np.hypot(*true.T) >= RING
    error = np.abs(pred - true).mean(1)
    made = []
    for ring in (False, True):
        for i, name in enumerate(SECTORS):
            inside = error[(sector == i) & (outer == ring)]
            made.append(Region(name, ring, len(inside), float(inside.mean()) if len(inside) >= FEWEST else None))
    return made
