"""Machines that fill one cache at a URL: a recording is in one's hands at a time, and a dead one's is taken over."""

import errno
import re
import threading
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import cache.turns
from cache.errors import CacheError
from cache.far import Far, _file_system
from cache.lease import LEASE_S
from cache.records import Aligned, Timeline
from cache.store import FeatureCache
from cache.turns import take_turn

ONES = Aligned(np.ones((5, 2), np.float32), np.ones(5, bool))


@pytest.fixture
def clock(monkeypatch):
    """Time stands still but for what a test adds; ``waited``: what happens instead of each wait."""
    clock = SimpleNamespace(now=0.0, waited=lambda: None)
    time = SimpleNamespace(monotonic=lambda: clock.now, sleep=lambda _s: clock.waited())
    monkeypatch.setattr(cache.turns, "time", time)
    monkeypatch.setattr(cache.turns, "_seen", {})
    return clock


@pytest.fixture
def url(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFUSE_MIRRORS", str(tmp_path / "here"))
    return f"memory://{tmp_path.name}/cache"


@pytest.fixture
def machines(url, tmp_path, monkeypatch, clock):
    """The same cache on two machines, each with a mirror of its own."""
    monkeypatch.setattr(cache.turns, "_of_mirror", lambda root: f"{root.parent.name}~")
    caches = []
    for name in ("here", "there"):
        monkeypatch.setenv("AFFUSE_MIRRORS", str(tmp_path / name))
        caches.append(FeatureCache.create(url, "toy"))
    return caches


def turns(url):
    return sorted(n for n in Far(url).tags() if n.endswith(".turn"))


def test_a_recording_is_in_one_machines_hands_at_a_time_and_the_next_one_sees_what_was_made(machines, url):
    here, there = machines
    key = here.declare("vision", "visual", 2, {}, {}).key
    assert there.declare("vision", "visual", 2, {}, {}).key == key
    with take_turn(here.root, "a/ä", wait=False) as mine:
        assert mine
        with take_turn(there.root, "a/ä", wait=False) as theirs:
            assert not theirs
        with take_turn(there.root, "b", wait=False) as theirs:
            assert theirs, "another recording"
        here.timelines.write("a/ä", Timeline(np.arange(5) / 25, 0.2))
        here.write(key, "a/ä", ONES)
    assert not there.has(key, "a/ä")
    with take_turn(there.root, "a/ä", wait=False) as theirs:
        assert theirs
        assert there.timelines.has("a/ä")
        assert there.has(key, "a/ä")
    assert (there.read(key, "a/ä").values == 1).all()
    assert turns(url) == []


def test_whoever_waits_gets_his_turn_when_it_is_given_back(machines, clock):
    here, there = machines
    first = take_turn(here.root, "a", wait=False)
    assert first.__enter__()
    clock.waited = lambda: first.__exit__(None, None, None)
    with take_turn(there.root, "a", wait=True) as mine:
        assert mine


def test_a_turn_that_nobody_renews_ends_and_one_that_is_renewed_does_not(machines, url, clock):
    _, there = machines
    Far(url).put_bytes(".staging/a.turn", b"another~1")

    def taken():
        with take_turn(there.root, "a", wait=False) as mine:
            return mine

    assert not taken()
    clock.now += LEASE_S - 1
    assert not taken()
    Far(url).put_bytes(".staging/a.turn", b"another~1~2")
    clock.now += LEASE_S - 1
    assert not taken(), "it was renewed"
    clock.now += 1
    assert not taken()
    clock.now += LEASE_S
    assert taken()
    assert turns(url) == []


def test_a_holder_renews_his_turn(machines, url, monkeypatch):
    here, _ = machines
    monkeypatch.setattr(cache.turns, "LEASE_S", 0.06)
    renewed = threading.Event()
    put = Far.put_bytes
    monkeypatch.setattr(Far, "put_bytes", lambda self, name, data: (put(self, name, data), renewed.set()))
    with take_turn(here.root, "a", wait=False):
        assert renewed.wait(60)
        assert re.fullmatch(rb"here~[0-9a-f]{32}~\d+", Far(url).read(".staging/a.turn"))
    assert turns(url) == []


def test_of_two_that_take_over_the_same_turn_the_last_one_has_it(machines, url, clock):
    _, there = machines
    Far(url).put_bytes(".staging/a.turn", b"there~killed")
    clock.waited = lambda: Far(url).put_bytes(".staging/a.turn", b"another~1")
    with take_turn(there.root, "a", wait=False) as mine:
        assert not mine
    assert turns(url) == [".staging/a.turn"], "it is not ours to remove"
    assert Far(url).read(".staging/a.turn") == b"another~1"


def test_where_the_url_is_out_of_reach_the_turn_stays_and_its_mirror_takes_it_up_at_once(machines, url):
    here, there = machines
    with pytest.raises(CacheError, match="the line is dead"), take_turn(here.root, "a", wait=False):
        raise CacheError("the line is dead")
    assert turns(url) == [".staging/a.turn"]
    with take_turn(there.root, "a", wait=False) as mine:
        assert not mine
    with take_turn(here.root, "a", wait=False) as mine:
        assert mine
    assert turns(url) == []


def test_an_interrupt_gives_the_turn_back(machines, url):
    here, _ = machines
    with pytest.raises(KeyboardInterrupt), take_turn(here.root, "a", wait=False):
        raise KeyboardInterrupt
    assert turns(url) == []


def test_a_store_that_knows_no_conditions_gives_everyone_his_turn_and_keeps_the_cache_whole(url, monkeypatch, clock):
    class Plain(MemoryFileSystem):
        protocol, store, pseudo_dirs, cachable = "plain", {}, [""], False

        def pipe_file(self, path, value, mode="overwrite", **kwargs):
            if mode == "create":
                raise OSError(errno.ENOSYS, "NotImplemented")
            super().pipe_file(path, value, mode=mode, **kwargs)

    fsspec.register_implementation("plain", Plain, clobber=True)
    _file_system.cache_clear()
    cache = FeatureCache.create(url.replace("memory", "plain"), "toy")
    with take_turn(cache.root, "a", wait=False) as mine:
        assert mine
    assert turns(url.replace("memory", "plain")) == []
