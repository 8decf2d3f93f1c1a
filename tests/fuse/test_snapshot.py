"""Training while extraction goes on: a run sees what was committed when it began, and says how much that was."""

import json
from pathlib import Path

import numpy as np
import pytest

import fuse.train
from cache.commit import discard
from cache.records import Aligned, Labels, Partitions, Timeline
from fuse.recipe import train_recipe
from fuse.tables.ablate import AblateRecipe, Row, run_ablate
from fuse.tables.ranked import conclude
from fuse.tables.report import ablation_table, run_table
from fuse.train import run_train
from tests.conftest import write_cache


@pytest.fixture
def growing(tmp_path):
    """A cache of nine recordings: the third lacks a stream, the eighth (validation) has no labels yet."""
    cache = write_cache(tmp_path / "cache")
    discard(cache.root, cache.folder(cache.resolve("voice").key, "rec2"))
    labels = {r: cache.labels.read("va", r) for r in cache.labels.recordings("va") if r != "rec6"}
    cache.labels.write("va", labels, cache.labels.partitions("va"))
    return cache


def asked(cache, runs, **more):
    given = {"head": "concat", "epochs": 2, "device": "cpu", "runs": runs, "skip_incomplete": True, **more}
    return train_recipe(cache.root, None, given)


def grow(cache):
    """What extraction and a new split do meanwhile: another recording, and one that moves from training to test."""
    cache.timelines.write("rec9", Timeline(np.arange(80) / 25, 3.2))
    for key in cache.stream_keys():
        values = np.full((80, cache.stream(key).dim), 3.0, np.float32)
        cache.write(key, "rec9", Aligned(values, np.ones(80, bool)))
    for recording in ("rec2",):
        dim = cache.resolve("voice").dim
        frames = len(cache.timelines.read(recording))
        late = Aligned(np.ones((frames, dim), np.float32), np.ones(frames, bool))
        cache.write(cache.resolve("voice").key, recording, late)
    split = cache.labels.partitions("va")
    labels = {r: cache.labels.read("va", r) for r in cache.labels.recordings("va")}
    labels["rec9"] = Labels(np.zeros((80, 2), np.float32), np.ones(80, bool))
    cache.labels.write("va", labels, Partitions({**split.of, "rec9": "test", "rec0": "test", "rec2": "test"}))


def test_a_run_says_which_share_of_the_data_its_numbers_rest_on(growing, tmp_path, caplog):
    result = run_train(asked(growing, tmp_path / "runs"), quiet=True)
    shares = {p: (s.recordings, s.of, s.unlabelled, s.incomplete) for p, s in result.data.items()}
    assert shares == {"train": (4, 5, 0, 1), "validation": (1, 2, 1, 0), "test": (2, 2, 0, 0)}
    labels = [growing.labels.read("va", r) for r in ("rec7", "rec8")]
    assert result.data["test"].frames == sum(la.labelled.sum() for la in labels)
    assert "train: numbers rest on 4 of 5 recordings (1 without some stream)" in caplog.text
    saved = json.loads((Path(result.folder) / "metrics.json").read_text())
    assert saved["data"]["validation"]["unlabelled"] == 1
    assert "validation: 1 of 2 recordings (1 without labels in the cache)" in run_table(result).caption


def test_what_is_committed_during_a_run_changes_nothing_of_it(growing, tmp_path, monkeypatch):
    still = run_train(asked(growing, tmp_path / "still"), quiet=True)
    fit = fuse.train.fit

    def meanwhile(*args, **kwargs):
        history = fit(*args, **kwargs)
        grow(growing)
        return history

    monkeypatch.setattr(fuse.train, "fit", meanwhile)
    moved = run_train(asked(growing, tmp_path / "moved"), quiet=True)
    assert moved.evaluations == still.evaluations
    assert moved.data == still.data
    monkeypatch.undo()
    grown = run_train(asked(growing, tmp_path / "still"), quiet=True)
    assert grown.data["test"].of == 5
    assert grown.folder != still.folder


def test_a_table_whose_rows_rest_on_different_data_says_so(growing, tmp_path, monkeypatch):
    rows = (Row("all", "concat"), Row("face", "unimodal", streams=("face",)))
    settings = {"epochs": 1, "device": "cpu", "skip_incomplete": True}
    results = run_ablate(AblateRecipe(growing.root, rows, tmp_path / "runs", settings, seeds=1), quiet=True)
    caption = ablation_table(conclude(results, "test")).caption
    assert "train: 4 of 5 recordings (1 without some stream); 5 of 5 recordings, NOT THE SAME FOR ALL ROWS" in caption
    whole = write_cache(tmp_path / "whole")
    results = run_ablate(AblateRecipe(whole.root, rows, tmp_path / "runs2", settings, seeds=1), quiet=True)
    assert "train: " not in ablation_table(conclude(results, "test")).caption


def test_test_labels_that_were_changed_during_a_run_are_not_scored(growing, tmp_path, monkeypatch, caplog):
    fit = fuse.train.fit

    def meanwhile(*args, **kwargs):
        labels = {r: growing.labels.read("va", r) for r in growing.labels.recordings("va")}
        labels["rec8"] = Labels(-labels["rec8"].va, labels["rec8"].labelled)
        growing.labels.write("va", labels, growing.labels.partitions("va"))
        return fit(*args, **kwargs)

    monkeypatch.setattr(fuse.train, "fit", meanwhile)
    result = run_train(asked(growing, tmp_path / "runs"), quiet=True)
    assert "test" not in result.evaluations
    assert "the labels of 'rec8' were changed since this run began" in caplog.text
