"""Test labels are locked: one function opens them, it counts, and nothing that tunes can pass it."""

import ast
import csv
from pathlib import Path

import pytest

import fuse.feeding.data
import fuse.train
from cache.errors import UsageError
from cache.labels import LabelStore
from fuse.feeding.data import open_partition, open_test
from fuse.feeding.locked import LOG
from fuse.feeding.snapshot import take_snapshot
from fuse.feeding.streams import choose_streams
from fuse.recipe import TrainRecipe
from fuse.train import run_train

FUSE = Path(fuse.train.__file__).parent
SMALL = {"tokens": 32, "hop": 16, "batch_size": 8, "lr": 1e-2, "epochs": 2}


def recipe(cache, tmp_path, **more):
    return TrainRecipe(head="concat", cache=cache.root, runs=tmp_path / "runs", **{**SMALL, **more})


def count(run):
    with open(Path(run) / LOG, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("partition", ["test", "somewhere"])
def test_pitfall_28_what_tunes_cannot_open_test(toy_cache, partition):
    snapshot = take_snapshot(toy_cache, choose_streams(toy_cache, ()), "va")
    with pytest.raises(UsageError, match=f"labels of partition '{partition}' are locked"):
        open_partition(snapshot, partition)


def test_pitfall_28_no_other_file_of_stage_two_reads_labels():
    """``x.labels.read`` stands in the one door, and only there; tests hold it, not good will."""
    readers = set()
    for path in FUSE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            reads = isinstance(node, ast.Attribute) and node.attr == "read" and "timelines" not in ast.unparse(node)
            if reads or "LabelStore" in getattr(node, "id", ""):
                readers.add(path.name)
    assert readers == {"locked.py"}


def test_pitfall_28_training_and_choosing_touch_no_test_label(toy_cache, tmp_path, monkeypatch):
    """Until the weights are saved, no label of a test recording is read from disk by any way."""
    hidden, read, opened = set(toy_cache.labels.partitions("va").members("test")), LabelStore.read, []

    def watched(store, protocol, recording):
        opened.append(recording)
        return read(store, protocol, recording)

    def door(snapshot, run, *rest, **more):
        assert not hidden & set(opened)
        assert (run / "best.safetensors").is_file()
        return open_test(snapshot, run, *rest, **more)

    monkeypatch.setattr(LabelStore, "read", watched)
    monkeypatch.setattr(fuse.train, "open_test", door)
    run_train(recipe(toy_cache, tmp_path), quiet=True)
    assert hidden <= set(opened)


def test_every_evaluation_on_test_is_counted_and_repeating_a_run_goes_on_counting(toy_cache, tmp_path):
    run = run_train(recipe(toy_cache, tmp_path), quiet=True).folder
    rows = count(run)
    assert [(r["evaluation"], r["what"], r["recordings"]) for r in rows] == [("1", "train-fusion", "2")]
    run_train(recipe(toy_cache, tmp_path), quiet=True)
    rows = count(run)
    assert [r["evaluation"] for r in rows] == ["1", "2"]
    assert rows[0]["weights"] == rows[1]["weights"]  # the same weights, scored again
    snapshot = take_snapshot(toy_cache, choose_streams(toy_cache, ()), "va")
    open_test(snapshot, Path(run), "by hand", open_partition(snapshot, "train").stats)
    assert count(run)[-1]["evaluation"] == "3"
