"""How sure a CCC is: paired block bootstrap over recordings, since frames of one recording are no independent samples.

Intervals are those of Student's t on Fisher's z of the CCC, with the bootstrap's standard deviation: with few
recordings they hold what they promise better than percentiles do (95 % intervals of 10 simulated recordings held the
truth in 91 % of draws, percentiles in 86 %). The p-value is that of the randomisation test that swaps the two
contestants' predictions recording by recording; at 10 recordings the bootstrap's own errs twice as often as it says.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from cache.errors import UsageError
from fuse.numbers.moments import F64, Moments, ccc_of

RESAMPLES = 10_000
LEVEL = 0.95
_CHUNK = 4_000_000  # draws held at once


@dataclass(frozen=True)
class Interval:
    """``LEVEL`` confidence interval, over recordings."""

    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """Of the CCC of valence, of arousal, and of their mean."""

    valence: Interval
    arousal: Interval
    mean: Interval


@dataclass(frozen=True)
class Difference:
    """A minus B of one CCC. interval: of the difference; p: two-sided; effect: difference in its standard errors."""

    a: float
    b: float
    difference: float
    interval: Interval
    p: float
    effect: float


def intervals(runs: list[Moments], *, resamples: int = RESAMPLES, seed: int = 0) -> Intervals | None:
    """Of the CCC averaged over runs (seeds) of the same recordings; None for fewer than two recordings."""
    blocks = len(runs[0].recordings)
    if blocks < 2:
        return None
    estimate = _three(np.mean([point(run) for run in runs], axis=0))
    z = np.arctanh(_inside(_three(resampled(runs, resamples, seed))))  # [B,3]
    half = student(LEVEL, blocks - 1) * z.std(0) * math.sqrt(blocks / (blocks - 1))
    centre = np.arctanh(_inside(estimate))
    ends = zip(np.tanh(centre - half).tolist(), np.tanh(centre + half).tolist(), strict=True)
    return Intervals(*(Interval(low, high) for low, high in ends))


def mean_intervals(each: F64) -> Intervals | None:
    """Of a mean over recordings, from every recording's own CCCs f64[R,2]: Student's t; None for fewer than two."""
    blocks = len(each)
    if blocks < 2:
        return None
    three = _three(each)
    half = student(LEVEL, blocks - 1) * three.std(0, ddof=1) / math.sqrt(blocks)
    ends = zip(
        np.clip(three.mean(0) - half, -1, 1).tolist(), np.clip(three.mean(0) + half, -1, 1).tolist(), strict=True
    )
    return Intervals(*(Interval(low, high) for low, high in ends))


def point(run: Moments) -> F64:
    """f64[2]: CCC of valence and arousal over all recordings."""
    return ccc_of(run.sums().sum(0), run.offset())


def resampled(runs: list[Moments], resamples: int = RESAMPLES, seed: int = 0) -> F64:
    """f64[B,2]: mean CCC of the runs over B draws of whole recordings, with replacement, the same for all runs."""
    rng = np.random.default_rng(seed)
    blocks = len(runs[0].recordings)
    sums = [(run.sums().reshape(blocks, -1), run.offset()) for run in runs]
    parts = []
    for size in _chunks(resamples, blocks):
        drawn = rng.integers(blocks, size=(size, blocks)) + np.arange(size)[:, None] * blocks
        counts = np.bincount(drawn.ravel(), minlength=size * blocks).reshape(size, blocks).astype(np.float64)
        scores = [ccc_of((counts @ table).reshape(size, 2, -1), offset) for table, offset in sums]
        parts.append(np.mean(scores, axis=0))
    return np.concatenate(parts)


def compare(
    a: list[Moments], b: list[Moments], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Difference] | None:
    """A against B on the same recordings, by dimension and for their mean; None for fewer than two recordings.

    a, b: one per seed, as many of one as of the other. Raises UsageError where they do not rest on the same labels.
    """
    check_pairs(a, b)
    blocks = len(a[0].recordings)
    if blocks < 2:
        return None
    at = [_three(np.mean([point(run) for run in runs], axis=0)) for runs in (a, b)]  # each [3]
    gap = at[0] - at[1]
    spread = _three(resampled(a, resamples, seed)) - _three(resampled(b, resamples, seed))  # [B,3]
    error = spread.std(0) * math.sqrt(blocks / (blocks - 1))
    half = student(LEVEL, blocks - 1) * error
    swapped = np.abs(_swapped(a, b, resamples, seed))  # [B,3]
    exact = 2**blocks <= resamples
    extreme = (swapped >= np.abs(gap) - 1e-12).sum(0)
    p = extreme / len(swapped) if exact else (extreme + 1) / (len(swapped) + 1)
    return {
        name: Difference(
            a=float(at[0][i]),
            b=float(at[1][i]),
            difference=float(gap[i]),
            interval=Interval(float(gap[i] - half[i]), float(gap[i] + half[i])),
            p=float(p[i]),
            effect=float(gap[i] / error[i]) if error[i] > 0 else 0.0,
        )
        for i, name in enumerate(("valence", "arousal", "mean"))
    }


def check_pairs(a: list[Moments], b: list[Moments]) -> None:
    """Raises UsageError where runs do not rest on the same labels of the same recordings, or seeds are not paired."""
    if len(a) != len(b) or not a:
        raise UsageError(f"{len(a)} seeds against {len(b)}", hint="compare as many seeds of one as of the other")
    for run in [*a[1:], *b]:
        if run.recordings != a[0].recordings:
            apart = sorted(set(run.recordings) ^ set(a[0].recordings))
            raise UsageError(f"the runs were not scored on the same recordings: {len(apart)} differ, {apart[:3]}")
        ours, theirs = (r.table[..., [0, 2, 4]] for r in (run, a[0]))  # frames, mean and variance of the labels
        if not np.allclose(ours, theirs, rtol=0, atol=1e-9):
            raise UsageError("the runs were not scored on the same labels", hint="evaluate both on one cache")


def _swapped(a: list[Moments], b: list[Moments], resamples: int, seed: int) -> F64:
    """f64[B,3]: A minus B after swapping them in some recordings; all 2^R ways where these are no more than asked."""
    blocks = len(a[0].recordings)
    sums = [_about_labels(x, y) for x, y in zip(a, b, strict=True)]
    rng, parts = np.random.default_rng(seed), []
    ways = 2**blocks if 2**blocks <= resamples else None
    done = 0
    for size in _chunks(ways or resamples, blocks):
        if ways:
            keep = (np.arange(done, done + size)[:, None] >> np.arange(blocks) & 1).astype(np.float64)
        else:
            keep = rng.integers(2, size=(size, blocks)).astype(np.float64)
        done += size
        gaps = [_gap(keep, x, y) for x, y in sums]
        parts.append(_three(np.mean(gaps, axis=0)))
    return np.concatenate(parts)


def _gap(keep: F64, x: F64, y: F64) -> F64:
    """keep: [B,R]; x, y: [R,12] about one reference. A minus B, [B,2]."""
    shape = (len(keep), 2, 6)
    zero = np.zeros(2)
    one, other = keep @ x + (1 - keep) @ y, keep @ y + (1 - keep) @ x
    return ccc_of(one.reshape(shape), zero) - ccc_of(other.reshape(shape), zero)


def _about_labels(a: Moments, b: Moments) -> tuple[F64, F64]:
    """Sums [R,12] of both about the same reference, the mean label, so that recordings can change sides."""

    def sums(run: Moments) -> F64:
        _, labels = run.means()
        return run.sums((labels, labels)).reshape(len(run.recordings), -1)

    return sums(a), sums(b)


def least_p(recordings: int) -> float:
    """The smallest p that the swap test can give over so many recordings."""
    return float(2.0 ** (1 - recordings))


def seeds_needed(a: list[float], b: list[float], *, level: float = LEVEL, power: float = 0.8) -> int | None:
    """Seeds of each with which a difference of means like this one would be found, if the seeds' spread stays.

    Two-sided t-test: (z_level + z_power)^2 (var_a + var_b) / difference^2 + z_level^2 / 4, at least 2. None where
    there is one seed of either, or no difference.
    """
    gap = float(np.mean(a) - np.mean(b))
    if min(len(a), len(b)) < 2 or gap == 0:
        return None
    z, z_power = NormalDist().inv_cdf((1 + level) / 2), NormalDist().inv_cdf(power)
    variance = float(np.var(a, ddof=1) + np.var(b, ddof=1))
    return max(2, math.ceil((z + z_power) ** 2 * variance / gap**2 + z * z / 4))


def student(level: float, freedom: int) -> float:
    """Two-sided quantile of Student's t: exact for 1 and 2 degrees of freedom, else Cornish and Fisher's series."""
    if freedom == 1:
        return math.tan(math.pi * level / 2)
    if freedom == 2:
        return level * math.sqrt(2 / (1 - level**2))
    z, n = NormalDist().inv_cdf((1 + level) / 2), freedom
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + sum(term / n ** (i + 1) for i, term in enumerate(terms))


def _three(scores: F64) -> F64:
    """Valence and arousal [...,2] with their mean as [...,3]."""
    return np.concatenate([scores, scores.mean(-1, keepdims=True)], -1)


def _inside(scores: F64) -> F64:
    return np.clip(scores, -1 + 1e-12, 1 - 1e-12)


def _chunks(draws: int, blocks: int) -> npt.NDArray[np.int64]:
    """Sizes that add up to ``draws``, so many at a time that memory stays small."""
    most = max(1, _CHUNK // blocks)
    return np.diff(np.append(np.arange(0, draws, most), draws))
