"""What a corpus is like, where that decides whether numbers of two can be compared: frame rates and label ranges."""

from dataclasses import dataclass

import numpy as np

from fuse.feeding.data import Corpus


@dataclass(frozen=True)
class Traits:
    """rates: lowest and highest median frame rate of a recording, in Hz. valence, arousal: lowest and highest label."""

    rates: tuple[float, float]
    valence: tuple[float, float]
    arousal: tuple[float, float]

    def __str__(self) -> str:
        low, high = (f"{r:.4g}" for r in self.rates)
        ranges = [f"{n} {v[0]:+.2f} to {v[1]:+.2f}" for n, v in (("valence", self.valence), ("arousal", self.arousal))]
        return f"{low if low == high else f'{low} to {high}'} frames a second, {', '.join(ranges)}"


def traits(corpus: Corpus) -> Traits:
    """Of the labelled recordings of a corpus."""
    rates = [1 / float(np.median(np.diff(t))) for t in corpus.pts.values() if len(t) > 1] or [0.0]
    va = np.concatenate([la.va[la.labelled] for la in corpus.labels.values()]).astype(np.float64)
    valence, arousal = ((float(a), float(b)) for a, b in zip(va.min(0), va.max(0), strict=True))
    return Traits((min(rates), max(rates)), valence, arousal)
