"""Locks across machines whose file system carries none: by the name in the lock's file, and by its age."""

import os
import socket
import threading
import time

import pytest

import cache.lease
from cache.commit import STAGING, at_work, claim, in_progress, sweep

OTHER = "another-host~4711"


@pytest.fixture
def lock(tmp_path, monkeypatch):
    """The lock of ``rec`` as another machine has it, touched just now."""
    monkeypatch.setattr(cache.lease, "_SETTLE_S", 0.05)
    monkeypatch.setattr(cache.lease, "_LOOK_S", 0.01)
    path = tmp_path / STAGING / "rec.lock"
    path.parent.mkdir()
    path.write_text(OTHER)
    return path


def aged(path, seconds):
    now = time.time()
    os.utime(path, (now - seconds, now - seconds))


def claimed(root):
    with claim(root, "rec", wait=False) as mine:
        return mine


def test_what_a_living_machine_holds_is_left_to_it(lock, tmp_path):
    assert not claimed(tmp_path)
    assert in_progress(tmp_path) == ["rec"]
    sweep(tmp_path)
    assert lock.read_text() == OTHER


def test_an_expired_lease_is_taken_over_and_given_back(lock, tmp_path):
    aged(lock, cache.lease.LEASE_S + 1)
    assert in_progress(tmp_path) == []
    with claim(tmp_path, "rec", wait=False) as mine:
        assert mine
        assert lock.read_text().startswith(f"{socket.gethostname()}~")
        assert not claimed(tmp_path)
    assert not lock.exists()


def test_of_two_machines_that_take_over_one_has_it(lock, tmp_path, monkeypatch):
    """The other one signs while we wait."""
    aged(lock, cache.lease.LEASE_S + 1)
    sleep = time.sleep
    monkeypatch.setattr(cache.lease.time, "sleep", lambda s: (sleep(0), s == 0.05 and lock.write_text(OTHER)))
    assert not claimed(tmp_path)
    assert lock.read_text() == OTHER


def test_who_waits_has_it_when_it_expires(lock, tmp_path):
    threading.Timer(0, aged, (lock, cache.lease.LEASE_S + 1)).start()
    with claim(tmp_path, "rec", wait=True) as mine:
        assert mine


def test_what_was_taken_over_is_not_removed_by_who_lost_it(lock, tmp_path):
    lock.unlink()
    with claim(tmp_path, "rec", wait=False) as mine:
        assert mine
        lock.write_text(OTHER)
    assert lock.read_text() == OTHER


def test_a_file_without_a_name_has_a_moment_to_be_signed(lock, tmp_path):
    lock.write_text("")
    assert not claimed(tmp_path)
    aged(lock, 1)
    assert claimed(tmp_path)


def test_what_is_held_is_touched_until_it_is_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr(cache.lease, "LEASE_S", 0.05)
    monkeypatch.setattr(cache.lease.threading, "enumerate", list)  # a thread of this pace
    with at_work(tmp_path) as name:
        lock = tmp_path / STAGING / f"{name}.lock"
        aged(lock, 1000)
        end = time.monotonic() + 60
        while time.time() - lock.stat().st_mtime > 500:
            assert time.monotonic() < end
    assert not cache.lease._held
