"""Batches one after the other: the same numbers whatever memory they are gathered into, and however far ahead."""

import dataclasses

import numpy as np
import pytest
import torch

import fuse.feeding.feed
from fuse.feeding.data import open_partition
from fuse.feeding.feed import batches
from fuse.feeding.resident import resident
from fuse.feeding.room import Room
from fuse.feeding.snapshot import take_snapshot
from fuse.feeding.streams import choose_streams
from fuse.feeding.windows import make_windows

CPU = torch.device("cpu")


@pytest.fixture
def corpus(toy_cache):
    return open_partition(take_snapshot(toy_cache, choose_streams(toy_cache, ()), "va"), "train")


def tensors(batch):
    return [v.clone() for f in dataclasses.fields(batch) for v in _values(getattr(batch, f.name))]


def _values(field):
    return field.values() if isinstance(field, dict) else [field]


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize(("tokens", "stride"), [(16, 1), (8, 3), (200, 1)])
@pytest.mark.parametrize("held", [False, True])
def test_batches_in_reused_memory_are_those_in_fresh_memory(corpus, monkeypatch, tokens, stride, ahead, held):
    monkeypatch.setattr(fuse.feeding.feed, "ahead_on", lambda device: ahead)
    corpus = resident(corpus, CPU) if held else corpus
    windows = make_windows(corpus.lengths, tokens, stride, tokens // 2)
    order = np.random.default_rng(0).permutation(len(windows))
    fed = [tensors(b) for b in batches(corpus, windows, order, 7, CPU)]
    fresh = [tensors(corpus.batch(windows, order[i : i + 7], CPU)) for i in range(0, len(order), 7)]
    assert len(fed) == len(fresh)
    for one, other in zip(fed, fresh, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_batch_is_gathered_into_the_memory_of_the_last(corpus):
    windows = make_windows(corpus.lengths, 16, 1, 8)
    places = {b.x["face"].data_ptr() for b in batches(corpus, windows, np.arange(len(windows)), 4, CPU)}
    assert len(places) == 1


def test_a_room_grows_and_keeps_types_apart():
    room = Room(CPU)
    small = room.take("a", (2, 3))
    assert room.take("a", (3, 2)).data_ptr() == small.data_ptr()
    assert room.take("a", (4, 4)).shape == (4, 4)
    assert room.take("a", (2, 2), torch.float16).dtype == torch.float16


def test_what_will_be_read_may_lie_anywhere(toy_cache):
    """Asking the system ahead of time is never an error: at the ends, past them, or of what is no file's map."""
    reader = toy_cache.reader(toy_cache.resolve("face").key)
    recording = next(iter(reader.folders))
    before = reader.recording(recording)[0].copy()
    for start, stop in ((0, 1), (0, len(before)), (len(before) - 1, len(before) + 500), (3, 3)):
        reader.expect(recording, start, stop)
    np.testing.assert_array_equal(reader.recording(recording)[0], before)


def test_an_error_of_gathering_comes_out_where_its_batch_would(corpus, monkeypatch):
    monkeypatch.setattr(fuse.feeding.feed, "ahead_on", lambda device: 2)
    windows = make_windows(corpus.lengths, 16, 1, 8)
    gather, count = type(corpus).batch, iter(range(3))

    def failing(*args):
        if next(count, None) is None:
            raise OSError("the disk is gone")
        return gather(*args)

    monkeypatch.setattr(type(corpus), "batch", failing)
    got = []
    with pytest.raises(OSError, match="the disk is gone"):
        got.extend(1 for _ in batches(corpus, windows, np.arange(len(windows)), 4, CPU))
    assert len(got) == 3
