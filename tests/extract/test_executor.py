"""Worker processes of one machine: the cache of one process, whoever dies; blame where it belongs."""

import os
import pickle
import signal
from collections import Counter

import pytest
import torch

from cache.errors import ConfigError, DataError, MissingData
from extract.bench import Order, work
from extract.device import torch_device
from extract.plan import Job
from extract.run import prepare
from extract.workers import threads_each

ONCE = {f"clip{i}": 1 for i in range(6)}


def test_workers_leave_the_cache_of_one_process_and_load_their_encoders_once(gated):
    watched, alone = gated
    watched.open_gate()
    result = watched.run(workers=2)
    assert (result.made, result.kept, result.failures) == (12, 0, [])
    assert watched.contents() == alone
    assert watched.encoded() == ONCE
    workers = {pid for pid, _ in watched.noted("encoded")}
    assert len(workers) == 2
    assert os.getpid() not in workers
    assert Counter(p for p, _ in watched.noted("built") if p in workers) == dict.fromkeys(workers, 2), "two encoders"
    assert watched.run(workers=2).made == 0


@pytest.mark.slow
def test_a_killed_worker_costs_only_its_recording_which_another_one_makes(gated):
    watched, alone = gated
    with watched.start("--workers", "2") as process:
        os.kill(watched.in_hand("clip1"), signal.SIGKILL)
        watched.open_gate()
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert "clip1: its worker was killed (SIGKILL" in said
    assert watched.run().made == 0, "but it sweeps up what the killed one left"
    assert watched.contents() == alone
    assert watched.encoded() == {**ONCE, "clip1": 2}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_takes_its_workers_along_and_goes_on_later(gated, kind):
    """Ctrl-C reaches the whole group of processes."""
    watched, alone = gated
    with watched.start("--workers", "2") as process:
        worker = watched.in_hand("clip1")
        os.killpg(process.pid, kind) if kind == signal.SIGINT else process.send_signal(kind)
        said = process.stderr.read()
    assert process.returncode == 130
    assert said == "interrupted; what is committed is kept: run the same command to go on\n"
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert not any((watched.folder / "cache" / ".staging").iterdir())
    watched.open_gate()
    watched.run(workers=2)
    assert watched.contents() == alone


@pytest.mark.slow
def test_workers_end_with_a_killed_command_and_nothing_is_made_twice(gated):
    watched, alone = gated
    with watched.start("--workers", "2") as process:
        watched.in_hand("clip1")
        process.kill()
    watched.open_gate()
    watched.run(workers=2)
    assert watched.contents() == alone
    assert watched.encoded() == ONCE


@pytest.mark.slow
def test_a_recording_that_kills_its_workers_is_given_up_with_its_cause_and_the_rest_is_made(clips):
    watched = clips(clip2="poison", clip4="broken")
    with watched.start("--workers", "2") as process:
        said = process.stderr.read()
    assert process.returncode == 3
    assert "clip2, worker: 2 workers died with it in hand, the last one ended with exit code 7; if memory" in said
    assert "clip4, transcript: ValueError: it is broken" in said
    assert 'clip2,worker,"2 workers died' in (watched.folder / "cache" / "failures.csv").read_text()
    made = {path.parent.name for path in (watched.folder / "cache").glob("features/spoken-*/*/zarr.json")}
    assert made == ONCE.keys() - {"clip2", "clip4"}
    assert watched.encoded() == {**ONCE, "clip2": 2}


@pytest.mark.slow
def test_four_commands_on_one_list_make_each_recording_once_and_take_over_from_a_killed_one(gated):
    """As the tasks of a Slurm array: nobody tells them who does what. The gate stays shut until all have begun."""
    watched, alone = gated
    four = [watched.start() for _ in range(4)]
    watched.in_hand("clip1")
    watched.until(lambda: watched.encoded().keys() >= ONCE.keys())
    os.kill(watched.in_hand("clip1"), signal.SIGKILL)
    watched.in_hand("clip1", times=2)
    watched.open_gate()
    codes = [(process.communicate(), process.returncode)[1] for process in four]
    assert sorted(codes) == [-signal.SIGKILL, 0, 0, 0]
    assert watched.run().made == 0, "but it sweeps up what the killed one left"
    assert watched.contents() == alone
    assert watched.encoded() == {**ONCE, "clip1": 2}


def order_of(recipe, streams):
    order = Order.of(recipe, streams)
    return order, Job(prepare(recipe)[1][0], order.keys)


def test_a_worker_that_sees_other_paths_or_makes_other_streams_says_so(clips):
    watched = clips()
    order, job = order_of(watched.recipe(), watched.run().streams)
    with pytest.raises(MissingData, match="does not see the folder /nowhere"):
        work(Order(order.recipe, order.keys, "/nowhere"), "cpu", job)
    with pytest.raises(DataError, match=r"would make grey-\w+, spoken-\w+; wanted grey-0"):
        work(Order(order.recipe, ("grey-0",), order.folder), "cpu", job)
    assert work(order, "cpu", job).outcome.made == []


def test_what_travels_is_small(clips):
    watched = clips()
    assert len(pickle.dumps(order_of(watched.recipe(), watched.run().streams))) < 4000


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


def test_wrong_numbers_of_workers_are_refused(clips):
    watched = clips()
    with pytest.raises(ConfigError, match="-1 workers"):
        watched.recipe(workers=-1)
    with pytest.raises(ConfigError, match="a scheduler, whose workers are there, and 2 workers to start"):
        watched.recipe(workers=2, scheduler="tcp://localhost:8786")
