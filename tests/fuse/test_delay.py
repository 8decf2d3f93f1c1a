"""Annotation delay: by the container's clock, taken out for training, put back for scoring."""

from dataclasses import replace

import numpy as np
import pytest

from cache.errors import ConfigError
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.store import FeatureCache
from fuse.feeding.delay import Delay, earlier, later
from fuse.recipe import TrainRecipe
from fuse.train import run_train

NONE = Delay()


def ramp(count, labelled=None):
    """Labels whose value is the frame's number, so that every move can be read off."""
    va = np.repeat(np.arange(count, dtype=np.float32)[:, None], 2, axis=1)
    return Labels(va, np.ones(count, bool) if labelled is None else labelled)


@pytest.mark.parametrize("rate", [25.0, 29.97, 30.0])
def test_whole_frames_move_by_exactly_so_many_rows(rate):
    pts = 0.85 + np.arange(200) / rate  # the clock need not start at 0
    moved = earlier(ramp(200), pts, Delay(valence=58 / rate, arousal=68 / rate))
    assert moved.labelled.sum() == 200 - 68
    np.testing.assert_array_equal(moved.va[:132, 0], np.arange(58, 190))
    np.testing.assert_array_equal(moved.va[:132, 1], np.arange(68, 200))
    assert (moved.va[132:] == 0).all()


def test_uneven_frames_go_by_time_not_by_number():
    pts = np.concatenate([np.arange(50) * 0.02, 1 + np.arange(50) * 0.2])  # 50 frames a second, then 5
    moved = earlier(ramp(100), pts, Delay(1.0, 1.0))
    assert moved.va[0, 0] == 50  # 1 s after the first frame is the 50th, and half a second is 25 frames
    assert earlier(ramp(100), pts, Delay(0.5, 0.5)).va[0, 0] == 25
    assert moved.va[50, 0] == 55  # but 5 frames where they are 0.2 s apart
    back = later(np.repeat(np.arange(100.0)[:, None], 2, 1), pts, Delay(1.0, 1.0))
    assert back[50, 0] == 0
    assert back[55, 0] == 50
    assert (back[:50] == 0).all()  # before the first prediction, the first holds


def test_a_gap_in_the_labels_moves_with_them():
    labelled = np.ones(50, bool)
    labelled[20:25] = False
    moved = earlier(ramp(50, labelled), np.arange(50) / 25, Delay(0.4, 0.0))
    want = labelled.copy()
    want[10:15] = False  # valence of ten frames later, and arousal of the frame itself
    want[40:] = False
    np.testing.assert_array_equal(moved.labelled, want)


def test_later_undoes_earlier_where_both_are_inside():
    pts = np.arange(100) / 30
    delay = Delay(0.5, 1.0)
    back = later(earlier(ramp(100), pts, delay).va.astype(float), pts, delay)
    np.testing.assert_array_equal(back[30:85], ramp(100).va[30:85])


def test_a_single_frame_has_nothing_later():
    assert not earlier(ramp(1), np.zeros(1), Delay(1.0, 1.0)).labelled.any()
    assert earlier(ramp(1), np.zeros(1), NONE).labelled.all()


@pytest.fixture(scope="module")
def late(tmp_path_factory):
    """A cache whose face shows what the labels say 1 s later, at uneven frame times."""
    rng = np.random.default_rng(0)
    cache = FeatureCache.create(tmp_path_factory.mktemp("late") / "cache", "late")
    spec = cache.declare("face", "visual", 2, {}, {})
    labels, split = {}, {}
    for i in range(6):
        pts = np.cumsum(rng.uniform(0.02, 0.06, 400))
        cache.timelines.write(f"r{i}", Timeline(pts, pts[-1] + 0.04))
        clock = np.arange(0, 30, 0.01)
        felt = np.stack([np.convolve(rng.normal(size=3000), np.ones(40) / 8, "same") for _ in range(2)], 1) * 0.5

        def at(times, clock=clock, felt=felt):
            return np.stack([np.interp(times, clock, column) for column in felt.T], 1).astype(np.float32)

        cache.write(spec.key, f"r{i}", Aligned(at(pts), np.ones(400, bool)), {})
        labels[f"r{i}"] = Labels(np.clip(at(pts - 1.0), -1, 1), np.ones(400, bool))
        split[f"r{i}"] = ("train", "train", "train", "train", "validation", "test")[i]
    cache.labels.write("va", labels, Partitions(split, {}))
    return cache


def test_training_with_the_delay_finds_what_training_without_cannot(late, tmp_path):
    base = TrainRecipe("unimodal", late.root, tmp_path, tokens=32, hop=16, lr=1e-2, epochs=12, batch_size=8)
    without, wrong = run_train(base, quiet=True), run_train(replace(base, delay_valence=1.0), quiet=True)
    right = run_train(replace(base, delay_valence=1.0, delay_arousal=1.0), quiet=True)
    assert right.evaluations["test"].raw.mean > 0.8 > 0.4 > without.evaluations["test"].raw.mean
    one = wrong.evaluations["test"].raw
    assert one.valence > 0.7 > 0.4 > one.arousal  # each dimension has its own
    assert right.evaluations["test"].frames == 400  # scored on every labelled frame, as the labels stand


def test_a_negative_delay_is_refused(late, tmp_path):
    with pytest.raises(ConfigError, match=r"delay_valence is -1.0"):
        run_train(TrainRecipe("unimodal", late.root, tmp_path, delay_valence=-1.0), quiet=True)
