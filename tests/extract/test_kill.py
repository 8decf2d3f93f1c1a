"""Killed anywhere, the cache is either without a recording's stream or with all of it."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

DRIVER = """
import sys, time, importlib.util
from pathlib import Path
spec = importlib.util.spec_from_file_location("light", {conftest!r})
light = importlib.util.module_from_spec(spec)
spec.loader.exec_module(light)
from extract.encoders import ENCODERS
from extract.recipe import extract_recipe
from extract.run import run_extract
import extract.streams
extract.streams.torch_device = lambda name: None
ENCODERS._classes.update(light.LIGHT)
push = light.Brightness.push
light.Brightness.push = lambda self, block: (time.sleep(0.05), push(self, block))[1]
print("ready", flush=True)
recipe = {{"dataset": "manifest", "root": sys.argv[1], "cache": sys.argv[2], "visual": ["brightness"],
          "audio": ["loudness"], "text": ["length"]}}
result = run_extract(extract_recipe(recipe), quiet=True)
assert not result.failures, result.failures
"""


def write_driver(folder):
    driver = folder / "driver.py"
    driver.write_text(DRIVER.format(conftest=os.path.join(os.path.dirname(__file__), "conftest.py")))
    return driver


def committed(cache):
    return len(list(cache.glob("features/*/*/zarr.json")))


def extract(driver, root, cache, *, kill_after=None, kind=signal.SIGKILL):
    """Run the driver; with kill_after = (commits, seconds), kill it so long after so many more commits."""
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    before = committed(cache)
    with subprocess.Popen([sys.executable, driver, root, cache], **quiet) as process:
        assert process.stdout.readline() == "ready\n"
        if kill_after is not None:
            commits, seconds = kill_after
            while committed(cache) < before + commits and process.poll() is None:
                time.sleep(0.001)
            time.sleep(seconds)
            process.send_signal(kind)
        return process.wait()


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


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_pitfall_11_killed_at_20_random_moments_the_cache_is_the_uninterrupted_one(corpus, tmp_path, kind):
    driver = write_driver(tmp_path)
    assert extract(driver, corpus, tmp_path / "whole") == 0
    moments = random.Random(0)
    codes = []
    for attempt in range(20):  # several kills in a row on each of four caches
        moment = moments.randint(0, 5), moments.uniform(0, 0.05)
        codes.append(extract(driver, corpus, tmp_path / f"cut{attempt // 5}", kill_after=moment, kind=kind))
    assert sum(code != 0 for code in codes) >= 10, "the kills came too late to interrupt anything"
    for cut in range(4):
        assert extract(driver, corpus, tmp_path / f"cut{cut}") == 0
        assert contents(tmp_path / f"cut{cut}") == contents(tmp_path / "whole")
        assert not any((tmp_path / f"cut{cut}" / ".staging").iterdir())


@pytest.mark.slow
def test_pitfall_15_two_processes_on_one_list_leave_the_cache_of_one(corpus, tmp_path):
    driver = write_driver(tmp_path)
    assert extract(driver, corpus, tmp_path / "whole") == 0
    command = [sys.executable, driver, corpus, tmp_path / "shared"]
    pair = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in pair] == [0, 0]
    assert contents(tmp_path / "shared") == contents(tmp_path / "whole")
