"""Confidence of a CCC: exact against brute force, calibrated on simulated recordings, quick."""

import time

import numpy as np
import pytest

from cache.errors import UsageError
from cache.records import Labels
from fuse.numbers.bootstrap import Interval, compare, intervals, point, resampled, seeds_needed, student
from fuse.numbers.metrics import ccc_va
from fuse.numbers.moments import Moments, moments, read_moments, save_moments


def simulate(rng, recordings, frames=40, lift=0.0):
    """Labels and two contestants of recordings that each have a level and a bias of their own; b is better by lift."""
    level, bias = rng.normal(0, 0.35, (recordings, 1, 2)), rng.normal(0, 0.2, (2, recordings, 1, 2))
    true = level + rng.normal(0, 0.2, (recordings, frames, 2))
    noise = rng.normal(0, 0.15, (2, *true.shape))
    a, b = 0.6 * true + bias[0] + noise[0], (0.6 + lift) * true + bias[1] * (1 - lift) + noise[1]
    names = [f"r{i}" for i in range(recordings)]
    labels = {n: Labels(y, np.ones(frames, bool)) for n, y in zip(names, true, strict=True)}
    return labels, *(dict(zip(names, x, strict=True)) for x in (a, b))


def uneven(rng):
    """Recordings of unequal lengths, partly labelled."""
    labels, pred = {}, {}
    for i, frames in enumerate((50, 3, 120, 77, 10)):
        va = rng.uniform(-1, 1, (frames, 2))
        labels[f"r{i}"] = Labels(va, rng.random(frames) > 0.2)
        pred[f"r{i}"] = va * 0.5 + rng.normal(0.3, 0.3, va.shape)
    return labels, pred


def test_moments_give_the_ccc_of_the_frames():
    rng = np.random.default_rng(0)
    labels, pred = uneven(rng)
    for shift in (0.0, 1e4):  # a large mean does not swallow the variance
        moved = {r: p + shift for r, p in pred.items()}
        want = ccc_va(*(np.concatenate(x) for x in _parts(moved, labels)))
        np.testing.assert_allclose(point(moments(moved, labels)), (want.valence, want.arousal), rtol=1e-7, atol=1e-12)


def _parts(pred, labels):
    return list(pred.values()), [labels[r].va for r in pred], [labels[r].labelled for r in pred]


def test_the_bootstrap_is_the_brute_force_one():
    labels, pred = uneven(np.random.default_rng(1))
    names = list(pred)
    found = resampled([moments(pred, labels)], resamples=200, seed=7)
    drawn = np.random.default_rng(7).integers(len(names), size=(200, len(names)))
    for row, score in zip(drawn, found, strict=True):
        chosen = [names[i] for i in row]
        parts = [np.concatenate(x) for x in zip(*(_one(pred, labels, r) for r in chosen), strict=True)]
        want = ccc_va(*parts)
        np.testing.assert_allclose(score, (want.valence, want.arousal), atol=1e-12)


def _one(pred, labels, recording):
    return pred[recording], labels[recording].va, labels[recording].labelled


def test_a_constant_prediction_is_zero_and_no_nan():
    labels, pred = uneven(np.random.default_rng(2))
    flat = {r: np.full_like(p, 0.1) for r, p in pred.items()}
    assert (point(moments(flat, labels)) == 0).all()
    found = intervals([moments(flat, labels)])
    assert found.mean == Interval(0.0, 0.0)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(3)
    labels, a, _ = simulate(rng, 20_000)
    truth = point(moments(a, labels))
    held = []
    for _ in range(300):
        labels, a, _ = simulate(rng, 20)
        found = intervals([moments(a, labels)], resamples=300)
        pairs = zip(truth, (found.valence, found.arousal), strict=True)
        held += [i.low <= t <= i.high for t, i in pairs]
    assert 0.89 < np.mean(held) < 0.98


@pytest.mark.parametrize(("recordings", "most"), [(6, 0.09), (15, 0.09)])
def test_p_is_small_by_chance_as_seldom_as_it_says_and_small_where_one_is_better(recordings, most):
    rng = np.random.default_rng(4)
    by_chance, better = [], []
    for _ in range(200):
        for lift, into in ((0.0, by_chance), (0.3, better)):
            labels, a, b = simulate(rng, recordings, lift=lift)
            found = compare([moments(a, labels)], [moments(b, labels)], resamples=300)
            into.append(found["valence"].p < 0.05)
    assert np.mean(by_chance) < most
    assert np.mean(better) > 3 * np.mean(by_chance)


def test_a_comparison_is_antisymmetric_and_pairs_recordings():
    labels, a, b = simulate(np.random.default_rng(5), 30, lift=0.4)
    x, y = moments(a, labels), moments(b, labels)
    there, back = compare([x], [y])["mean"], compare([y], [x])["mean"]
    assert there.difference == pytest.approx(-back.difference)
    assert there.p == back.p < 0.05
    assert there.interval.low < there.difference < there.interval.high < 0
    assert there.effect < -2
    same = compare([x], [x])["mean"]
    assert (same.difference, same.p, same.effect) == (0.0, 1.0, 0.0)


def test_runs_on_other_recordings_or_labels_are_not_compared():
    labels, a, b = simulate(np.random.default_rng(6), 4)
    x, y = moments(a, labels), moments(b, labels)
    with pytest.raises(UsageError, match="same recordings: 1 differ"):
        compare([x], [Moments(y.recordings[:3], y.table[:3])])
    other = {r: Labels(la.va + 0.1, la.labelled) for r, la in labels.items()}
    with pytest.raises(UsageError, match="same labels"):
        compare([x], [moments(b, other)])
    with pytest.raises(UsageError, match="2 seeds against 1"):
        compare([x, x], [y])


def test_one_recording_has_no_interval():
    labels, a, _ = simulate(np.random.default_rng(7), 1)
    assert intervals([moments(a, labels)]) is None
    assert compare([moments(a, labels)], [moments(a, labels)]) is None


def test_same_seed_same_interval():
    labels, a, _ = simulate(np.random.default_rng(8), 12)
    x = [moments(a, labels)]
    assert intervals(x) == intervals(x) != intervals(x, seed=1)


def test_ten_thousand_resamples_of_a_large_partition_take_well_under_a_second():
    labels, a, b = simulate(np.random.default_rng(9), 76, frames=50, lift=0.1)
    x, y = moments(a, labels), moments(b, labels)
    start = time.process_time()
    intervals([x], resamples=10_000)
    assert time.process_time() - start < 1
    compare([x], [y], resamples=10_000)


def test_moments_survive_the_disk_to_the_last_bit(tmp_path):
    labels, pred = uneven(np.random.default_rng(10))
    names = {"r0": "a/b", "r1": "Ünï", "r2": "c,d"}
    labels = {names.get(r, r): la for r, la in labels.items()}
    found = moments({names.get(r, r): p for r, p in pred.items()}, labels)
    save_moments(tmp_path / "x" / "test.csv", {"raw": found, "smoothed": Moments(found.recordings, found.table * 2)})
    again = read_moments(tmp_path / "x" / "test.csv", "raw")
    assert again.recordings == found.recordings
    assert np.array_equal(again.table, found.table)


@pytest.mark.parametrize(("freedom", "want"), [(1, 12.706), (2, 4.303), (3, 3.182), (9, 2.262), (100, 1.984)])
def test_students_quantiles(freedom, want):
    assert student(0.95, freedom) == pytest.approx(want, rel=0.01)


def test_seeds_needed_grow_with_the_spread_and_shrink_with_the_difference():
    near, far = [0.50, 0.52, 0.48], [0.40, 0.42, 0.38]
    assert seeds_needed(near, far) == 2
    assert seeds_needed([0.5, 0.6, 0.4], [0.45, 0.55, 0.35]) == 64  # (1.96 + 0.84)^2 * 0.02 / 0.05^2 + 0.96
    assert seeds_needed([0.5], [0.4]) is None
    assert seeds_needed(near, near) is None
