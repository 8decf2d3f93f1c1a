"""Runs side by side: each batch is gathered once, and every run ends with the bits it has alone."""

import dataclasses
import json
from pathlib import Path

import pytest

from fuse.feeding.data import Corpus
from fuse.many import run_many, shared
from fuse.recipe import TrainRecipe
from fuse.train import run_together, run_train
from tests.fuse.test_resume import FILES, SMALL, killed_after

MAVEN = {"d": 8, "heads": 2, "d_proj": 8, "d_att": 8}


def five(cache, runs):
    """Heads that differ in everything that may differ: streams, random numbers drawn, schedules, when they stop."""
    ask = {**SMALL, "cache": cache.root, "runs": runs}
    return [
        TrainRecipe("concat", **ask),
        TrainRecipe("maven", **{**ask, "patience": 1, "lr": 0.05}, options=MAVEN, streams=("voice", "face")),
        TrainRecipe("ridge", **ask),
        TrainRecipe("lstm", **ask, modality_dropout=0.5, schedule="cosine"),
        TrainRecipe("unimodal", **{**ask, "epochs": 2, "weight_decay": 0.1}, streams=("words",)),
    ]


def contents(result):
    plain = {f: (Path(result.folder) / f).read_bytes() for f in FILES}
    return {**plain, "recipe.json": json.loads(plain["recipe.json"]) | {"runs": ""}}


def same(one, other):
    assert contents(one) == contents(other)
    apart = {"seconds": 0, "folder": ""}
    assert dataclasses.replace(one, **apart) == dataclasses.replace(other, **apart)


def test_runs_side_by_side_are_bit_for_bit_those_alone(toy_cache, tmp_path):
    together = run_together(five(toy_cache, tmp_path / "together"), quiet=True)
    assert len({r.epochs for r in together}) > 2  # they did not end at once
    for recipe, result in zip(five(toy_cache, tmp_path / "alone"), together, strict=True):
        same(result, run_train(recipe, quiet=True))


@pytest.mark.parametrize("resident", [False, True])
def test_a_batch_is_gathered_once_for_all(toy_cache, tmp_path, monkeypatch, resident):
    count = {"batches": 0}

    def counted(recipes):
        count["batches"] = 0
        run_together(recipes, quiet=True)
        return count["batches"]

    kind = type(run_resident(toy_cache)) if resident else Corpus
    gather = kind.batch
    monkeypatch.setattr(kind, "batch", lambda *a, **k: count.update(batches=count["batches"] + 1) or gather(*a, **k))
    ask = {**SMALL, "cache": toy_cache.root, "epochs": 6, "patience": 6, "resident": resident}
    one = counted([TrainRecipe("concat", runs=tmp_path / "1", **ask)])
    three = counted([TrainRecipe(h, runs=tmp_path / "3", **ask) for h in ("concat", "linear", "lstm")])
    assert one < three < 1.7 * one  # each is scored by itself at its end


def run_resident(cache):
    import torch

    from fuse.feeding.data import open_partition
    from fuse.feeding.resident import resident
    from fuse.feeding.snapshot import take_snapshot
    from fuse.feeding.streams import choose_streams

    snapshot = take_snapshot(cache, choose_streams(cache, ()), "va")
    return resident(open_partition(snapshot, "train"), torch.device("cpu"))


@pytest.mark.parametrize("steps", [3, 30])
def test_killed_side_by_side_and_resumed_alone_or_together(toy_cache, tmp_path, monkeypatch, steps):
    whole = run_together(five(toy_cache, tmp_path / "whole"), quiet=True)
    with killed_after(monkeypatch, steps):
        run_together(five(toy_cache, tmp_path / "cut"), quiet=True)
    run_train(five(toy_cache, tmp_path / "cut")[0], resume=True, quiet=True)  # one runs ahead of the others
    for one, other in zip(run_together(five(toy_cache, tmp_path / "cut"), resume=True, quiet=True), whole, strict=True):
        same(one, other)


@pytest.mark.slow
def test_processes_change_nothing_but_the_time(toy_cache, tmp_path):
    told = []
    here = run_many(five(toy_cache, tmp_path / "here"), told=lambda: told.append(1))
    there = run_many(five(toy_cache, tmp_path / "there"), workers=2, told=lambda: told.append(1))
    assert len(told) == 10
    for one, other in zip(here, there, strict=True):
        assert one.evaluations.keys() == other.evaluations.keys()
        assert one.evaluations["test"].raw.mean == pytest.approx(other.evaluations["test"].raw.mean, abs=1e-3)


def test_only_what_sees_the_same_batches_goes_together(toy_cache, tmp_path):
    recipes = five(toy_cache, tmp_path)
    base = recipes[0]
    apart = [
        dataclasses.replace(base, seed=1),
        dataclasses.replace(base, tokens=16),
        dataclasses.replace(base, batch_size=3),
        dataclasses.replace(base, permute_labels=True),
        dataclasses.replace(base, delay_arousal=0.5),
        dataclasses.replace(base, folds=3, fold=0),
        dataclasses.replace(base, skip_incomplete=True),
    ]
    assert shared([*recipes, *apart], 9) == [[0, 1, 2, 3, 4], *([i] for i in range(5, 12))]
    assert shared(recipes, 2) == [[0, 1], [2, 3], [4]]
