"""Time becomes frames in one place: identity, overlap, presence, labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.align import POLICIES, align, align_labels
from cache.errors import DataError, UsageError
from cache.records import Annotation, Timeline, Track

steps = st.lists(st.floats(0.005, 0.2), min_size=1, max_size=40)


def timeline_of(gaps, start=0.0):
    edges = start + np.concatenate([[0.0], np.cumsum(gaps)])
    return Timeline(edges[:-1], edges[-1])


def brute_force(track, timeline):
    """The definition, frame by frame and row by row."""
    values = np.zeros((len(timeline), track.values.shape[1]))
    present = np.zeros(len(timeline), bool)
    for i, (a, b) in enumerate(zip(timeline.edges[:-1], timeline.edges[1:], strict=True)):
        shared = [max(0.0, min(b, e) - max(a, s)) for s, e in track.spans]
        shared = np.array([s if s > 1e-9 else 0.0 for s in shared])
        if shared.sum() > 0:
            present[i] = True
            values[i] = shared @ track.values / shared.sum()
    return values, present


@given(steps, st.floats(-3, 3))
def test_rows_of_the_frames_themselves_come_back_bit_for_bit(gaps, start):
    timeline = timeline_of(gaps, start)
    values = np.random.default_rng(0).normal(size=(len(timeline), 3)).astype(np.float32)
    for policy in POLICIES:
        out = align(Track(np.stack([timeline.edges[:-1], timeline.edges[1:]], 1), values), timeline, policy)
        assert out.present.all()
        if policy != "linear":
            assert np.array_equal(out.values, values)


@given(steps, st.lists(st.tuples(st.floats(-1, 4), st.floats(0.001, 1.5)), max_size=25))
@settings(max_examples=60)
def test_overlap_is_the_time_weighted_mean_of_touching_rows(gaps, rows):
    timeline = timeline_of(gaps)
    spans = np.array([(s, s + d) for s, d in rows]).reshape(-1, 2)
    track = Track(spans, np.random.default_rng(1).normal(size=(len(spans), 2)).astype(np.float32))
    out = align(track, timeline)
    values, present = brute_force(track, timeline)
    assert np.array_equal(out.present, present)
    np.testing.assert_allclose(out.values, values, atol=1e-5)


@given(steps, st.lists(st.tuples(st.floats(-1, 4), st.floats(0.001, 1.5)), max_size=25))
@settings(max_examples=30)
def test_presence_is_the_same_under_every_policy_and_absent_is_zero(gaps, rows):
    timeline = timeline_of(gaps)
    spans = np.array([(s, s + d) for s, d in rows]).reshape(-1, 2)
    track = Track(spans, np.ones((len(spans), 2), np.float32))
    outs = [align(track, timeline, p) for p in POLICIES]
    for out in outs:
        assert np.array_equal(out.present, outs[0].present)
        assert (out.values[~out.present] == 0).all()
        np.testing.assert_allclose(out.values[out.present], 1, atol=1e-5)  # no policy leaves the range of its rows


def test_blocks_of_frames_do_not_change_the_result(monkeypatch):
    timeline = timeline_of([0.04] * 1000)
    spans = np.arange(0, 2000)[:, None] * 0.02 + np.array([0, 0.025])
    track = Track(spans, np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32))
    whole = align(track, timeline)
    monkeypatch.setattr("cache.align._FRAMES_AT_ONCE", 7)
    assert np.array_equal(align(track, timeline).values, whole.values)


def test_pitfall_4_one_row_more_or_fewer_than_frames_blanks_nothing():
    for rows in (29, 30, 31):
        timeline = timeline_of([1 / 30] * 30)
        edges = np.linspace(0, 1, rows + 1)
        track = Track(np.stack([edges[:-1], edges[1:]], 1), np.ones((rows, 2), np.float32))
        out = align(track, timeline)
        assert out.present.all()
        np.testing.assert_allclose(out.values, 1)


def test_a_20_minute_track_does_not_drift():
    frames = 36_000
    timeline = timeline_of([1 / 30] * frames)
    rows = (20 * 60 * 16_000 - 400) // 320 + 1
    spans = np.arange(rows)[:, None] * 0.02 + np.array([0, 0.025])
    track = Track(spans, spans.mean(axis=1, keepdims=True).astype(np.float32))
    out = align(track, timeline)
    middles = (timeline.edges[:-1] + timeline.edges[1:]) / 2
    assert out.present.all()
    assert np.abs(out.values[:, 0] - middles).max() < 0.02


def test_unsorted_rows_and_empty_tracks():
    timeline = timeline_of([0.1] * 10)
    spans = np.array([[0.5, 0.6], [0.0, 0.1]])
    out = align(Track(spans, np.array([[5.0], [1.0]], np.float32)), timeline)
    assert out.values[[0, 5], 0].tolist() == [1.0, 5.0]
    assert out.present.sum() == 2
    empty = align(Track.concat([], 3), timeline)
    assert empty.values.shape == (10, 3)
    assert not empty.present.any()


def test_linear_interpolates_between_the_middles_of_rows():
    timeline = timeline_of([0.1] * 10)
    spans = np.array([[0.0, 0.5], [0.5, 1.0]])
    out = align(Track(spans, np.array([[0.0], [1.0]], np.float32)), timeline, "linear")
    np.testing.assert_allclose(out.values[:, 0], np.clip((np.arange(10) * 0.1 + 0.05 - 0.25) / 0.5, 0, 1), atol=1e-6)


def test_linear_never_blends_across_a_gap():
    timeline = timeline_of([0.5] * 22)
    spans = np.array([[0.0, 1.0], [10.0, 11.0]])
    out = align(Track(spans, np.array([[0.0], [100.0]], np.float32)), timeline, "linear")
    assert out.values[out.present, 0].tolist() == [0, 0, 100, 100]


def test_unknown_policy_names_the_known_ones():
    with pytest.raises(UsageError, match="overlap, linear, nearest"):
        align(Track.concat([], 1), timeline_of([1.0]), "mean")


@pytest.mark.parametrize("surplus", [-2, -1, 0, 1, 2])
def test_pitfall_9_labels_with_more_or_fewer_rows_never_shift(surplus):
    timeline = timeline_of([0.04] * 50)
    va = np.linspace(-0.5, 0.5, 50 + surplus)[:, None] * np.ones(2)
    labels = align_labels(Annotation(va), timeline)
    rows = min(50, 50 + surplus)
    np.testing.assert_allclose(labels.va[:rows], va[:rows], atol=1e-7)
    assert labels.labelled[:rows].all()
    assert not labels.labelled[rows:].any()


def test_pitfall_20_minus_five_in_either_column_is_not_a_label():
    va = np.array([[0.1, 0.2], [-5, 0.2], [0.1, -5], [-5, -5], [np.nan, 0]])
    labels = align_labels(Annotation(va), timeline_of([0.04] * 5))
    assert labels.labelled.tolist() == [True, False, False, False, False]
    assert (labels.va[1:] == 0).all()


def test_labels_out_of_range_are_an_error_that_names_the_row():
    with pytest.raises(DataError, match=r"row 1 of 'rec' is \[5.0, 0.0\]"):
        align_labels(Annotation(np.array([[0.0, 0.0], [5.0, 0.0]])), timeline_of([0.04] * 2), "rec")


def test_timed_labels_are_interpolated_at_pts_and_gaps_stay_unlabelled():
    timeline = timeline_of([0.04] * 100)
    times = np.arange(0, 4.01, 0.1)
    va = np.stack([times / 4, -times / 4], 1)
    va[20] = -5
    labels = align_labels(Annotation(va, times), timeline)
    expected = np.stack([timeline.pts / 4, -timeline.pts / 4], 1)
    np.testing.assert_allclose(labels.va[labels.labelled], expected[labels.labelled], atol=1e-6)
    inside = (timeline.pts > 1.9 + 1e-6) & (timeline.pts < 2.1 - 1e-6)
    assert not labels.labelled[inside].any()
    assert labels.labelled[~inside].all()


def test_pitfall_5_frames_nudged_apart_by_a_microsecond_keep_their_rows():
    timeline = Timeline(np.array([0.0, 0.04, 0.040001, 0.08]), 0.12)
    spans = np.stack([timeline.edges[:-1], timeline.edges[1:]], 1)
    out = align(Track(spans, np.arange(4, dtype=np.float32)[:, None]), timeline)
    assert out.present.all()
    assert out.values[:, 0].tolist() == [0, 1, 2, 3]


def test_a_frame_on_the_last_row_before_a_hole_is_labelled_however_its_time_is_rounded():
    """Times as a text file has them, as frames have them, and as they are after a delay of whole frames."""
    frames = np.arange(200)
    timeline = Timeline(frames / 25, 8.0)
    ticks = Timeline(frames * 3600 / 90_000, 8.0)
    read = np.array([float(f"{0.04 * i:.2f}") for i in frames])
    computed = np.array([0.04 * i for i in frames])
    for last in range(60, 199):
        va = np.full((200, 2), 0.5)
        va[last + 1 :] = np.nan
        for clock, times in ((timeline, read), (timeline, computed), (ticks, read), (ticks, computed)):
            assert align_labels(Annotation(va, times), clock).labelled.sum() == last + 1
        for delay in (0.32, 1.0, 2.0):
            moved = align_labels(Annotation(va, None, delay=delay), timeline)
            assert moved.labelled.sum() == last + 1 - round(delay * 25)


def test_a_row_that_touches_a_frame_by_rounding_alone_is_not_of_it():
    timeline = Timeline(np.array([0.0, 0.1, 0.2]), 0.3)
    a_hair = 1e-12
    spans = np.array([[0.0, 0.1 + a_hair], [0.2 - a_hair, 0.3]])
    out = align(Track(spans, np.array([[1.0], [3.0]], np.float32)), timeline)
    assert out.present.tolist() == [True, False, True]
    assert out.values[:, 0].tolist() == [1.0, 0.0, 3.0]
