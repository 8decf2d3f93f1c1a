"""Statistics are those of the bytes that are there, whoever made them and whatever was there before."""

import errno

import numpy as np
import pytest

import cache.stats
from cache.commit import discard
from cache.errors import CorruptCache
from cache.layout import chunk_file
from cache.records import Aligned, Timeline
from cache.stats import stream_stats
from cache.store import FeatureCache

FRAMES = 300


@pytest.fixture
def store(tmp_path):
    cache = FeatureCache.create(tmp_path / "cache", "toy")
    for recording in "ab":
        cache.timelines.write(recording, Timeline(np.arange(FRAMES) / 25, FRAMES / 25))
    return cache


def put(cache, recording, value, present=True):
    """That recording of the one stream holds this number, where it is present, and nothing else."""
    key = cache.declare("face", "visual", 3, {"encoder": "x"}, {}).key
    if cache.has(key, recording):
        discard(cache.root, cache.folder(key, recording))
    mask = np.broadcast_to(present, FRAMES).copy()
    cache.write(key, recording, Aligned(np.full((FRAMES, 3), value, np.float32), mask))
    return key


def test_statistics_follow_a_recording_that_was_made_anew(store):
    put(store, "a", 1.0)
    key = put(store, "b", 3.0)
    assert stream_stats(store, key, ["a", "b"]).mean.tolist() == [2.0, 2.0, 2.0]
    put(store, "b", 5.0)
    for opened in (store, FeatureCache(store.root)):
        assert stream_stats(opened, key, ["a", "b"]).mean.tolist() == [3.0, 3.0, 3.0]


def test_statistics_count_what_is_present_and_nothing_else(store):
    key = put(store, "a", 0.0)
    put(store, "b", 0.0, np.arange(FRAMES) < 10)
    values = np.zeros((FRAMES, 3), np.float32)
    values[:10] = 1.0
    for present, mean in ((np.ones(FRAMES, bool), 10 / FRAMES), (np.arange(FRAMES) < 10, 1.0)):
        discard(store.root, store.folder(key, "b"))
        store.write(key, "b", Aligned(values, present))
        assert stream_stats(store, key, ["b"]).mean[0] == pytest.approx(mean)


def test_damaged_values_give_no_statistics(store):
    key = put(store, "a", 1.0)
    path = chunk_file(store.folder(key, "a") / "values", 2)
    data = bytearray(path.read_bytes())
    data[100] ^= 4
    path.write_bytes(data)
    with pytest.raises(CorruptCache, match="differ from their checksums"):
        stream_stats(store, key, ["a"])


def test_what_another_process_kept_meanwhile_stays(store, monkeypatch):
    key, compute = put(store, "a", 1.0), cache.stats._compute

    def beaten(*args):
        found = compute(*args)
        monkeypatch.setattr(cache.stats, "_compute", compute)
        stream_stats(store, key, ["a"])
        seen.append(kept())
        return found

    def kept():
        return [(p.name, p.stat().st_ino) for p in sorted(store.root.glob("stats/*/*/zarr.json"))]

    seen = []
    monkeypatch.setattr(cache.stats, "_compute", beaten)
    stream_stats(store, key, ["a"])
    assert seen == [kept()]
    assert seen[0]


def test_a_cache_whose_statistics_cannot_be_kept_is_trained_from_all_the_same(store, caplog, monkeypatch):
    key = put(store, "a", 1.0)

    def colleagues(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.replace", colleagues)
    assert stream_stats(store, key, ["a"]).mean.tolist() == [1.0, 1.0, 1.0]
    assert "statistics are not kept" in caplog.text
