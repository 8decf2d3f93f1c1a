"""Killed anywhere, the cache is either without a recording's stream or with all of it."""

import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

DRIVER = Path(__file__).with_name("kill_driver.py")


def committed(cache):
    return len(list(cache.glob("features/*/*/zarr.json")))


@dataclass
class Ended:
    """How a driver ended. made: what it says it made, where it lived to say so."""

    code: int
    made: int | None


def extract(root, cache, *, kill_after=None, kind=signal.SIGKILL, room=None):
    """Run stage one; with kill_after = (commits, seconds), kill it so long after so many more commits."""
    command = [sys.executable, DRIVER, root, cache, *([str(room)] if room is not None else [])]
    before = committed(cache)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        if kill_after is not None:
            commits, seconds = kill_after
            while committed(cache) < before + commits and process.poll() is None:
                time.sleep(0.001)
            time.sleep(seconds)
            process.send_signal(kind)
        said = process.stdout.read()
        return Ended(process.wait(), int(said) if said.strip() else None)


def contents(cache):
    return {str(p.relative_to(cache)): p.read_bytes() for p in sorted(cache.rglob("*")) if p.is_file()}


@pytest.fixture
def corpus(media, manifest, tmp_path):
    (tmp_path / "a.txt").write_text("valence,arousal\n" + "0.1,-0.2\n" * 60)
    rows = {}
    for i in range(12):
        sound = np.random.default_rng(i).uniform(-0.3, 0.3, 40_000).astype(np.float32)
        path = media(tmp_path / f"clip{i}.mkv", np.arange(60) / 25, sound=sound)
        rows[f"clip{i}"] = {"video": path, "labels": "a.txt", "partition": "train"}
    return manifest(**rows)


STREAMS = 12 * 3


def finished(corpus, cache, whole):
    """Run to the end: it makes just what is missing, and the cache is the one of an uninterrupted run."""
    missing = STREAMS - committed(cache)
    ended = extract(corpus, cache)
    assert ended == Ended(0, missing), "what was committed is not made again"
    assert contents(cache) == whole
    assert not any((cache / ".staging").iterdir())


@pytest.fixture
def kills(request):
    """How often: ``pytest tests/extract/test_kill.py --kills 100`` takes its time."""
    return request.config.getoption("kills")


@pytest.fixture
def whole(corpus, tmp_path):
    """Contents of the cache of a run that nobody disturbed."""
    assert extract(corpus, tmp_path / "whole") == Ended(0, STREAMS)
    return contents(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_pitfall_11_killed_at_random_moments_the_cache_is_the_uninterrupted_one(
    corpus, whole, tmp_path, kind, kills, capsys
):
    """Every cache is cut short five times in a row, then finished."""
    moments, cut_short = random.Random(0), 0
    for attempt in range(kills):
        cache = tmp_path / f"cut{attempt // 5}"
        moment = moments.randint(0, 6), moments.uniform(0, 0.05)
        cut_short += extract(corpus, cache, kill_after=moment, kind=kind).code != 0
        if attempt % 5 == 4:
            finished(corpus, cache, whole)
            shutil.rmtree(cache)
    with capsys.disabled():
        print(f"\n{kind.name}: {kills} sent, {cut_short} in the middle of the work; nothing lost, nothing made twice")
    assert cut_short >= kills * 0.6, "the kills came too late to interrupt anything"


@pytest.mark.slow
def test_pitfall_11_a_full_disk_again_and_again_and_then_room(corpus, whole, tmp_path, kills, capsys):
    needed, stopped = sum(map(len, whole.values())), 0
    rooms = random.Random(1)
    for attempt in range(kills // 4):
        cache = tmp_path / f"full{attempt}"
        stopped += extract(corpus, cache, room=rooms.randrange(needed)).code != 0
        finished(corpus, cache, whole)
    with capsys.disabled():
        print(f"\nfull disk: {stopped} of {kills // 4} runs stopped; all went on where they were")
    assert stopped == kills // 4


@pytest.mark.slow
def test_pitfall_15_two_writers_on_one_list_with_kills_leave_the_cache_of_one(corpus, whole, tmp_path):
    """Nobody makes what the other makes; a killed one's share is taken over."""
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    for attempt in range(3):
        cache = tmp_path / f"shared{attempt}"
        pair = [subprocess.Popen([sys.executable, DRIVER, corpus, cache], **quiet) for _ in range(2)]
        if attempt:
            while committed(cache) < 5 * attempt:
                time.sleep(0.001)
            pair[0].kill()
        said = [process.communicate()[0].split() for process in pair]
        assert pair[1].returncode == 0
        assert committed(cache) == STREAMS
        finished(corpus, cache, whole)  # makes nothing, but sweeps up what a killed one left
        if not attempt:
            assert sum(int(words[-1]) for words in said) == STREAMS
