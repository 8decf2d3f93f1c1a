"""Worker processes of one machine: the cache of one process, whoever dies; blame where it belongs."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from cache.errors import ConfigError, DataError, MissingData
from extract.bench import Order, work
from extract.device import torch_device
from extract.encoders import ENCODERS
from extract.plan import Job
from extract.recipe import extract_recipe
from extract.run import prepare, run_extract
from extract.workers import threads_each

PLUGIN = Path(__file__).with_name("light_plugin.py")
CLI = Path(__file__).parents[2] / "cli.py"
CLIPS = 6


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the light encoders note what they do, and look for ``open``."""
    monkeypatch.setenv("AFFUSE_TEST_FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(CLI.parent))
    monkeypatch.setattr(ENCODERS, "_classes", dict(ENCODERS._classes))
    sys.modules.pop(f"affuse_plugin_{PLUGIN.stem}", None)
    return tmp_path


@pytest.fixture
def corpus(media, manifest, folder):
    """Writes six clips, whose transcripts are their names and what ``words`` has for them."""

    def write(**words):
        rows = {}
        for i in range(CLIPS):
            name = f"clip{i}"
            film = media(folder / f"{name}.mkv", np.arange(12) / 25)
            units = [name, *words.get(name, "").split()]
            cues = [f"{k + 1}\n00:00:00,{k}00 --> 00:00:00,{k}90\n{unit}\n" for k, unit in enumerate(units)]
            (folder / f"{name}.srt").write_text("\n".join(cues))
            rows[name] = {"video": film, "transcript": f"{name}.srt", "partition": "train"}
        return manifest(**rows)

    return write


def recipe_of(root, cache, **given):
    streams = {"visual": ["grey"], "audio": [], "text": ["spoken"], "plugins": [PLUGIN]}
    return extract_recipe({"dataset": "manifest", "root": root, "cache": cache, **streams, **given})


def contents(cache):
    return {str(p.relative_to(cache)): p.read_bytes() for p in sorted(cache.rglob("*")) if p.is_file()}


def noted(folder, kind):
    """(process id, text) of each line that the encoders noted."""
    path = folder / kind
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(pid), text) for pid, _, text in (line.partition(" ") for line in lines)]


def wait_for(find):
    """What ``find`` finds, as soon as it does. The limit only ends a test that has failed."""
    end = time.monotonic() + 120
    while not (found := find()):
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.005)
    return found


def started(root, cache, *flags):
    """The command as a process of its own, in a group of its own."""
    command = [sys.executable, CLI, "extract", "--dataset", "manifest", "--root", root, "--cache", cache, "--quiet"]
    command += ["--visual", "grey", "--audio", "none", "--text", "spoken", "--plugin", PLUGIN, *flags]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def in_hand(folder, name):
    """The process that is at work on a recording now, as soon as there is one."""
    return wait_for(lambda: [pid for pid, text in noted(folder, "encoded") if text == name])[-1]


@pytest.fixture
def whole(corpus, folder):
    """(manifest with a gate in clip1, contents of the cache that one process makes of it)."""
    root = corpus(clip1="gate")
    (folder / "open").touch()
    assert run_extract(recipe_of(root, folder / "whole"), quiet=True).made == CLIPS * 2
    for name in ("open", "built", "encoded"):
        (folder / name).unlink()
    return root, contents(folder / "whole")


def test_workers_leave_the_cache_of_one_process_and_load_their_encoders_once(whole, folder):
    root, alone = whole
    (folder / "open").touch()
    result = run_extract(recipe_of(root, folder / "cache", workers=2), quiet=True)
    assert (result.made, result.kept, result.failures) == (CLIPS * 2, 0, [])
    assert contents(folder / "cache") == alone
    encoded = noted(folder, "encoded")
    assert Counter(text for _, text in encoded) == {f"clip{i}": 1 for i in range(CLIPS)}
    workers = {pid for pid, _ in encoded}
    assert len(workers) == 2
    assert os.getpid() not in workers
    assert Counter(pid for pid, _ in noted(folder, "built") if pid in workers) == dict.fromkeys(workers, 2)
    assert run_extract(recipe_of(root, folder / "cache", workers=2), quiet=True).made == 0


@pytest.mark.slow
def test_a_killed_worker_costs_only_its_recording_which_another_one_makes(whole, folder):
    root, alone = whole
    with started(root, folder / "cache", "--workers", "2") as process:
        os.kill(in_hand(folder, "clip1"), signal.SIGKILL)
        (folder / "open").touch()
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert "clip1: its worker was killed (SIGKILL" in said
    assert contents(folder / "cache") == alone
    assert Counter(text for _, text in noted(folder, "encoded")) == {f"clip{i}": 1 + (i == 1) for i in range(CLIPS)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_takes_its_workers_along_and_goes_on_later(whole, folder, kind):
    root, alone = whole
    with started(root, folder / "cache", "--workers", "2") as process:
        worker = in_hand(folder, "clip1")
        os.killpg(process.pid, kind) if kind == signal.SIGINT else process.send_signal(kind)
        said = process.stderr.read()
    assert process.returncode == 130
    assert said == "interrupted; what is committed is kept: run the same command to go on\n"
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert not any((folder / "cache" / ".staging").iterdir())
    (folder / "open").touch()
    run_extract(recipe_of(root, folder / "cache", workers=2), quiet=True)
    assert contents(folder / "cache") == alone


@pytest.mark.slow
def test_workers_end_with_a_killed_command_and_nothing_is_made_twice(whole, folder):
    root, alone = whole
    with started(root, folder / "cache", "--workers", "2") as process:
        in_hand(folder, "clip1")
        process.kill()
    (folder / "open").touch()
    run_extract(recipe_of(root, folder / "cache", workers=2), quiet=True)
    assert contents(folder / "cache") == alone
    assert set(Counter(text for _, text in noted(folder, "encoded")).values()) == {1}


@pytest.mark.slow
def test_a_recording_that_kills_its_workers_is_given_up_with_its_cause_and_the_rest_is_made(corpus, folder):
    root = corpus(clip2="poison", clip4="broken")
    with started(root, folder / "cache", "--workers", "2") as process:
        said = process.stderr.read()
    assert process.returncode == 3
    assert "clip2, worker: 2 workers died with it in hand, the last one ended with exit code 7; if memory" in said
    assert "clip4, transcript: ValueError: it is broken" in said
    assert 'clip2,worker,"2 workers died' in (folder / "cache" / "failures.csv").read_text()
    made = {path.parent.name for path in (folder / "cache").glob("features/spoken-*/*/zarr.json")}
    assert made == {f"clip{i}" for i in range(CLIPS)} - {"clip2", "clip4"}
    assert Counter(text for _, text in noted(folder, "encoded")) == {f"clip{i}": 1 + (i == 2) for i in range(CLIPS)}


def order_of(root, cache):
    recipe = recipe_of(root, cache)
    return recipe, Order.of(recipe, run_extract(recipe, quiet=True).streams)


def test_a_worker_that_sees_other_paths_or_makes_other_streams_says_so(corpus, folder):
    recipe, order = order_of(corpus(), folder / "cache")
    job = Job(prepare(recipe)[1][0], order.keys)
    with pytest.raises(MissingData, match="does not see the folder /nowhere"):
        work(Order(order.recipe, order.keys, "/nowhere"), "cpu", job, False)
    with pytest.raises(DataError, match=r"would make grey-\w+, spoken-\w+; wanted grey-0"):
        work(Order(order.recipe, ("grey-0",), order.folder), "cpu", job, False)
    assert work(order, "cpu", job, False).outcome.made == []


def test_what_travels_is_small(corpus, folder):
    """An order and a job, whatever is made of them."""
    recipe, order = order_of(corpus(), folder / "cache")
    assert len(pickle.dumps((order, Job(prepare(recipe)[1][0], order.keys)))) < 4000


def test_workers_take_the_gpus_in_turn_and_share_the_cores(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(torch_device(f"auto:{i}")) for i in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert str(torch_device("auto:5")) == "cuda"
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert [threads_each(n) for n in (1, 3, 20)] == [8, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [threads_each(n) for n in (1, 8)] == [3, 1]


def test_wrong_numbers_of_workers_are_refused(folder):
    with pytest.raises(ConfigError, match="-1 workers"):
        recipe_of(folder, folder / "cache", workers=-1)
    with pytest.raises(ConfigError, match="a scheduler, whose workers are there, and 2 workers to start"):
        recipe_of(folder, folder / "cache", workers=2, scheduler="tcp://localhost:8786")
