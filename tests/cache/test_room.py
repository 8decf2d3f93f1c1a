"""A mirror that may not grow: what was used longest ago makes room, and is fetched again when it is read."""

import os

import numpy as np
import pytest

import cache.room
from cache.care.verify import verify
from cache.errors import UsageError
from cache.layout import data_bytes, index_bytes
from cache.packed import Packing
from cache.records import Aligned, Timeline
from cache.remote import remote_of
from cache.store import FeatureCache

FRAMES, NAMES = 500, ["a", "b", "c"]
STREAM = 2 * (data_bytes((FRAMES, 10), 2) + index_bytes((FRAMES, 10)))  # bytes of the values of two recordings


@pytest.fixture
def url(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFUSE_MIRRORS", str(tmp_path / "here"))
    return f"memory://{tmp_path.name}/cache"


@pytest.fixture
def process(monkeypatch):
    """process(): from now on we are another process, which has asked for nothing yet."""

    def become():
        monkeypatch.setattr(cache.room, "_asked", set())
        monkeypatch.setattr(cache.room, "_told", set())

    become()
    return become


def fill(where, packing=None):
    store = FeatureCache.create(where, "toy")
    keys = [store.declare(n, "visual", 10, {"encoder": n}, {}).key for n in NAMES]
    for recording in ("x", "y"):
        store.timelines.write(recording, Timeline(np.arange(FRAMES) / 25, FRAMES / 25))
    for key in keys:
        for recording in ("x", "y"):
            store.write(key, recording, Aligned(values(key, recording), np.ones(FRAMES, bool)), packing=packing)
    return store, keys


def values(key, recording):
    seed = NAMES.index(key[0]) * 2 + (recording == "y")
    return np.random.default_rng(seed).integers(-9, 9, (FRAMES, 10)).astype(np.float32)


def here(root):
    """Which streams have how many values in the mirror."""
    found = [p.relative_to(root).parts[1][0] for p in root.glob("features/*/*/values/c/*/*")]
    return {name: found.count(name) for name in sorted({*found})}


def whole(store, keys):
    for key in keys:
        reader = store.reader(key)
        for recording in ("x", "y"):
            np.testing.assert_array_equal(reader.window(recording, slice(0, FRAMES)), values(key, recording))


def test_there_is_no_bound_but_the_one_that_is_set(url, process):
    store, _ = fill(url)
    assert here(store.root) == {"a": 2, "b": 2, "c": 2}


@pytest.mark.parametrize("told", ["much", "-1", "nan"])
def test_a_bound_that_is_no_number_is_told(told, url, monkeypatch):
    monkeypatch.setenv("AFFUSE_MIRROR_GB", told)
    with pytest.raises(UsageError, match=f"AFFUSE_MIRROR_GB is '{told}'; wanted a number"):
        FeatureCache.create(url, "toy")


def test_the_stream_that_was_used_longest_ago_makes_room_and_comes_back(url, process, monkeypatch):
    store, keys = fill(url)
    for path in store.root.glob("features/*/*/values/c/*/*"):
        os.utime(path, (0, 0))
    monkeypatch.setenv("AFFUSE_MIRROR_GB", str(2 * STREAM / 1e9))
    for key in keys[:2]:
        process()
        whole(store, [key])
    assert here(store.root) == {"a": 2, "b": 2, "c": 2}, "nothing was fetched, so nothing had to go"
    process()
    store.timelines.write("z", Timeline(np.arange(3) / 25, 0.12))
    assert here(store.root) == {"a": 2, "b": 2}
    whole(store, [keys[2]])
    assert here(store.root) == {"b": 2, "c": 2}
    process()
    whole(store, keys)
    assert verify(url, deep=True, quiet=True).damages == []


def test_what_this_process_reads_stays_even_if_it_is_too_much_and_that_is_told(url, process, monkeypatch, caplog):
    fill(url)
    monkeypatch.setenv("AFFUSE_MIRROR_GB", "0")
    store = FeatureCache(url)
    process()
    whole(store, store.stream_keys()[:2])
    FeatureCache(url).timelines.write("z", Timeline(np.arange(3) / 25, 0.12))
    assert here(store.root) == {"a": 2, "b": 2}
    over = [r.getMessage() for r in caplog.records if "AFFUSE_MIRROR_GB" in r.getMessage()]
    assert over == [f"what is read now takes {2 * STREAM / 1e9:.3g} GB more than AFFUSE_MIRROR_GB allows; it is kept"]


def test_extraction_leaves_no_more_behind_than_the_bound_and_the_url_has_all(url, process, monkeypatch, tmp_path):
    monkeypatch.setenv("AFFUSE_MIRROR_GB", str(STREAM / 1e9))
    store, keys = fill(url)
    assert here(store.root) == {"c": 2}
    monkeypatch.setenv("AFFUSE_MIRRORS", str(tmp_path / "there"))
    whole(FeatureCache(url), keys)


def test_what_the_url_has_not_got_is_never_let_go(url, process, monkeypatch):
    store, keys = fill(url)
    remote = remote_of(store.root)
    with remote.mark.held():
        remote.mark.note({f"features/{keys[1]}/y/values/c/0/0": ""})
    monkeypatch.setenv("AFFUSE_MIRROR_GB", "0")
    store.timelines.write("z", Timeline(np.arange(3) / 25, 0.12))
    assert here(store.root) == {"b": 1}


def test_a_map_that_is_open_reads_on_when_another_process_makes_room(url, process, monkeypatch):
    store, keys = fill(url)
    reader = store.reader(keys[0])
    window = reader.window("x", slice(0, FRAMES))
    process()
    monkeypatch.setenv("AFFUSE_MIRROR_GB", "0")
    store.timelines.write("z", Timeline(np.arange(3) / 25, 0.12))
    assert here(store.root) == {}
    np.testing.assert_array_equal(window, values(keys[0], "x"))
    np.testing.assert_array_equal(reader.window("y", slice(0, 9)), values(keys[0], "y")[:9])


def test_packed_values_come_back_as_well(url, process, monkeypatch):
    monkeypatch.setenv("AFFUSE_MIRROR_GB", "0")
    store, keys = fill(url, Packing("zstd", 100))
    assert here(store.root) == {}
    whole(store, keys)
