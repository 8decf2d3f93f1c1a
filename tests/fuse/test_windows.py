"""Every frame is in a window, comes back once, and belongs to one phase."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fuse.fit
from cache.errors import UsageError
from fuse.feeding.feed import batches
from fuse.feeding.windows import Stitcher, make_windows
from fuse.fit import sampling
from fuse.numbers.postprocess import smooth
from fuse.plots import predicted_by
from fuse.recipe import TrainRecipe, protocol_of
from fuse.train import run_train


@given(
    st.lists(st.integers(1, 120), min_size=1, max_size=4), st.integers(1, 30), st.integers(1, 9), st.floats(0.05, 1.0)
)
@settings(max_examples=120)
def test_all_frames_are_predicted_and_stitching_undoes_windowing(lengths, tokens, stride, share):
    hop = max(1, int(tokens * share))
    windows = make_windows(lengths, tokens, stride, hop)
    truth = [np.random.default_rng(n).normal(size=(n, 2)) for n in lengths]
    stitcher = Stitcher(lengths)
    pred = np.stack([truth[r][np.maximum(f, 0)] for r, f in zip(windows.recording, windows.frame, strict=True)])
    stitcher.add(windows.recording, windows.frame, pred)
    for got, want in zip(stitcher.result(), truth, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 31, 97, 500])
def test_windows_are_evenly_spaced_and_padded_only_at_the_end(length):
    for stride in (1, 8):
        windows = make_windows([length], 16, stride, 16)
        for row in windows.frame:
            real = row[row >= 0]
            assert (np.diff(real) == stride).all()
            assert (row[len(real) :] == -1).all()
            assert len(real) == 16 or real[-1] + stride >= length


@pytest.mark.parametrize("length", [5, 32, 33, 512, 700])
def test_the_32_phases_of_jca_hold_each_frame_exactly_once(length):
    windows = make_windows([length], 16, 32, 16)
    phases = [set(row[row >= 0] % 32) for row in windows.frame]
    assert all(len(p) == 1 for p in phases)
    if length <= 512:
        frames = windows.frame[windows.frame >= 0]
        assert sorted(frames.tolist()) == list(range(length))


def test_jca_trains_on_all_32_phases_and_predicts_each_frame_once(toy_cache, tmp_path, monkeypatch):
    """Through a run with the published sampling: what the steps of an epoch saw, and what was written of each frame."""
    seen = []

    def watched(corpus, windows, order, *rest):
        seen.extend((int(windows.recording[i]), windows.frame[i]) for i in order)
        return batches(corpus, windows, order, *rest)

    monkeypatch.setattr(fuse.fit, "batches", watched)
    recipe = TrainRecipe("jca", toy_cache.root, tmp_path, epochs=1)
    assert sampling(protocol_of(recipe)) == (16, 32, 16)
    result = run_train(recipe, quiet=True)
    members = toy_cache.labels.partitions("va").members("train")
    for index, name in enumerate(members):
        rows = [frame[frame >= 0] for recording, frame in seen if recording == index]
        assert sorted({int(f) % 32 for row in rows for f in row}) == list(range(32))
        assert all(len({int(f) % 32 for f in row}) == 1 for row in rows)
        assert sorted(np.concatenate(rows).tolist()) == list(range(len(toy_cache.timelines.read(name).pts)))
    for name in toy_cache.labels.partitions("va").members("test"):
        times, pred = predicted_by(Path(result.folder), "test", name)
        np.testing.assert_allclose(times, toy_cache.timelines.read(name).pts, atol=1e-6)
        assert np.isfinite(pred).all()


def test_frames_that_two_windows_of_a_phase_hold_are_averaged_into_one():
    lengths = [700]  # 21 or 22 tokens a phase: two windows of 16 overlap
    windows = make_windows(lengths, 16, 32, 16)
    held = np.bincount(windows.frame[windows.frame >= 0], minlength=700)
    assert set(held.tolist()) == {1, 2}
    stitcher = Stitcher(lengths)
    value = np.arange(len(windows), dtype=float)[:, None, None] + np.zeros((1, 16, 2))
    stitcher.add(windows.recording, windows.frame, value)
    (got,) = stitcher.result()
    want = [np.mean([i for i, row in enumerate(windows.frame) if f in row]) for f in range(700)]
    np.testing.assert_allclose(got[:, 0], want)


def test_windows_that_would_skip_frames_are_refused():
    with pytest.raises(UsageError, match="1 <= hop <= tokens"):
        make_windows([100], 8, 1, 9)
    with pytest.raises(UsageError):
        make_windows([100], 8, 0, 8)


def test_unpredicted_frames_are_an_error():
    with pytest.raises(UsageError, match="3 frames were never predicted"):
        Stitcher([3]).result()


@given(st.integers(1, 60), st.sampled_from([1, 3, 25, 101]))
def test_pitfall_24_smoothing_a_constant_is_that_constant_to_the_edges(length, frames):
    np.testing.assert_allclose(smooth(np.full((length, 2), 0.5), frames), 0.5, atol=1e-12)


def test_smoothing_is_a_centred_mean_and_is_clipped():
    pred = np.zeros((9, 2))
    pred[4] = [3.0, 30.0]
    out = smooth(pred, 3)
    np.testing.assert_allclose(out[3:6, 0], 1.0)
    np.testing.assert_allclose(out[3:6, 1], 1.0)
    assert (out[[0, 1, 2, 6, 7, 8]] == 0).all()
    with pytest.raises(UsageError, match="odd number"):
        smooth(pred, 4)
