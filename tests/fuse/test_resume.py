"""A run that is killed inside an epoch and resumed is the run that never was, to the last bit."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fuse.fit
from cache.errors import CacheError, CorruptCache
from cache.store import FeatureCache
from fuse.checkpoint import load_state, save_state
from fuse.recipe import TrainRecipe
from fuse.tables.ablate import AblateRecipe, Row, run_ablate
from fuse.train import run_train

TOP = Path(fuse.fit.__file__).parents[1]
FILES = ("best.safetensors", "normalisation.safetensors", "history.csv", "statistics/test.csv", "recipe.json")
SMALL = {"tokens": 32, "hop": 16, "batch_size": 4, "lr": 1e-2, "epochs": 4, "checkpoint_s": 0.0, "device": "cpu"}


def recipe(cache, runs, **more):
    return TrainRecipe(head="concat", cache=cache.root, runs=runs, **{**SMALL, **more})


class Killed(Exception):
    """Stands for the signal, at a step of our choice."""


@contextlib.contextmanager
def killed_after(monkeypatch, steps):
    """What trains inside dies before its step number ``steps``."""
    count, clip = iter(range(steps)), torch.nn.utils.clip_grad_norm_

    def dying(*args, **kwargs):
        if next(count, None) is None:
            raise Killed
        return clip(*args, **kwargs)

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(torch.nn.utils, "clip_grad_norm_", dying)
        yield
        pytest.fail("it was not killed")


def contents(folder):
    plain = {f: (Path(folder) / f).read_bytes() for f in FILES}
    return {**plain, "recipe.json": json.loads(plain["recipe.json"]) | {"runs": ""}}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"schedule": "cosine", "modality_dropout": 0.4},
        {"schedule": "plateau", "smooth": "validation", "patience": 2, "head": "maven"},
    ],
    ids=["plain", "cosine and dropout", "plateau"],
)
@pytest.mark.parametrize("steps", [0, 3, 9, 14])
def test_killed_and_resumed_is_uninterrupted_bit_for_bit(toy_cache, tmp_path, monkeypatch, more, steps):
    more = dict(more)
    head = more.pop("head", "concat")
    options = {"d": 8, "heads": 2, "d_proj": 8, "d_att": 8} if head == "maven" else {}

    def asked(runs):
        return TrainRecipe(head=head, cache=toy_cache.root, runs=runs, options=options, **{**SMALL, **more})

    whole = run_train(asked(tmp_path / "whole"), quiet=True)
    with killed_after(monkeypatch, steps):
        run_train(asked(tmp_path / "cut"), quiet=True)
    torch.manual_seed(99)  # whatever else drew numbers in between
    again = run_train(asked(tmp_path / "cut"), resume=True, quiet=True)
    assert contents(again.folder) == contents(whole.folder)
    assert again.evaluations == whole.evaluations
    assert not (Path(again.folder) / "checkpoint.pt").exists()


def test_killed_twice_goes_on_from_the_second_time(toy_cache, tmp_path, monkeypatch):
    whole = run_train(recipe(toy_cache, tmp_path / "whole"), quiet=True)
    for resume in (False, True):
        with killed_after(monkeypatch, 5):
            run_train(recipe(toy_cache, tmp_path / "cut"), resume=resume, quiet=True)
    state = load_state(next((tmp_path / "cut").rglob("checkpoint.pt")))
    assert len(state["history"]) or state["done"] == 10  # five steps, twice
    again = run_train(recipe(toy_cache, tmp_path / "cut"), resume=True, quiet=True)
    assert contents(again.folder) == contents(whole.folder)


@pytest.mark.slow
def test_a_process_killed_by_the_system_leaves_a_whole_checkpoint(toy_cache, tmp_path):
    whole = run_train(recipe(toy_cache, tmp_path / "whole"), quiet=True)
    code = (
        "import os, signal, sys, torch; torch.set_num_threads(1)\n"
        "from pathlib import Path; from fuse.recipe import TrainRecipe; from fuse.train import run_train\n"
        "steps, clip = iter(range(7)), torch.nn.utils.clip_grad_norm_\n"
        "def dying(*a, **k):\n"
        "    next(steps, None) is None and os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return clip(*a, **k)\n"
        "torch.nn.utils.clip_grad_norm_ = dying\n"
        f"run_train(TrainRecipe('concat', {str(toy_cache.root)!r}, Path({str(tmp_path / 'cut')!r}), **{SMALL!r}))\n"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    again = run_train(recipe(toy_cache, tmp_path / "cut"), resume=True, quiet=True)
    assert contents(again.folder) | {"recipe.json": ""} == contents(whole.folder) | {"recipe.json": ""}


def test_resuming_what_is_complete_reads_it(toy_cache, tmp_path, caplog):
    first = run_train(recipe(toy_cache, tmp_path, epochs=1), quiet=True)
    before = (Path(first.folder) / "best.safetensors").stat().st_mtime_ns
    with caplog.at_level("INFO", "affuse"):
        assert run_train(recipe(toy_cache, tmp_path, epochs=1), resume=True, quiet=True) == first
    assert "complete" in caplog.text
    assert (Path(first.folder) / "best.safetensors").stat().st_mtime_ns == before


def test_a_table_resumes_run_by_run(toy_cache, tmp_path, monkeypatch):
    table = AblateRecipe(
        toy_cache.root, (Row("a", "concat"), Row("b", "unimodal", ("face",))), tmp_path, SMALL, seeds=2
    )
    with killed_after(monkeypatch, 100):
        run_ablate(table, quiet=True)
    done = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("metrics.json")}
    assert 0 < len(done) < 4
    rows = run_ablate(table, resume=True, quiet=True)
    assert [len(r.folders) for r in rows] == [2, 2]
    assert {p: p.stat().st_mtime_ns for p in done} == done


def test_a_run_does_not_go_on_with_other_labels(toy_cache, tmp_path, monkeypatch):
    shutil.copytree(toy_cache.root, tmp_path / "cache")
    cache = FeatureCache(tmp_path / "cache")
    with killed_after(monkeypatch, 5):
        run_train(recipe(cache, tmp_path / "runs"), quiet=True)
    labels = {r: cache.labels.read("va", r) for r in cache.labels.recordings("va")}
    labels["rec0"].va[:] *= 0.9
    cache.labels.write("va", labels, cache.labels.partitions("va"))
    with pytest.raises(CacheError, match=r"changed since concat-.* began: it cannot go on; .* without --resume"):
        run_train(recipe(cache, tmp_path / "runs"), resume=True, quiet=True)
    run_train(recipe(cache, tmp_path / "runs"), quiet=True)


def test_a_checkpoint_runs_no_code_and_is_whole_or_absent(tmp_path):
    path = tmp_path / "checkpoint.pt"
    assert load_state(path) is None
    save_state(path, {"a": torch.ones(2)})
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert torch.equal(load_state(path)["a"], torch.ones(2))
    torch.save({"x": Killed}, path)
    with pytest.raises(CorruptCache, match="not a checkpoint"):
        load_state(path)
    path.write_bytes(b"")
    with pytest.raises(CorruptCache, match="run without --resume"):
        load_state(path)
