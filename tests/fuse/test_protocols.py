"""How runs may be made and scored: folds, modality dropout, schedules, bfloat16, post-processing beside raw."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import fuse.train
from cache.errors import ConfigError, UsageError
from cache.records import Partitions
from fuse.crossval import fold_lines, run_folds
from fuse.feeding.data import open_partition
from fuse.feeding.dropout import drop_modalities
from fuse.feeding.folds import folded
from fuse.feeding.locked import LOG
from fuse.feeding.snapshot import take_snapshot
from fuse.feeding.streams import choose_streams
from fuse.feeding.windows import make_windows
from fuse.numbers.compare import compare_runs
from fuse.numbers.metrics import ccc_va
from fuse.numbers.postprocess import WIDTHS, bridge, choose_width, postprocess, smooth
from fuse.plots import predicted_by
from fuse.recipe import TrainRecipe
from fuse.train import run_train

SMALL = {"tokens": 32, "hop": 16, "batch_size": 8, "lr": 1e-2, "epochs": 3}


def recipe(cache, tmp_path, **more):
    return TrainRecipe(head="concat", cache=cache.root, runs=tmp_path / "runs", **{**SMALL, **more})


def lrs(result):
    with open(Path(result.folder) / "history.csv") as file:
        return [float(r["lr"]) for r in csv.DictReader(file)]


def split_of(counts, test=2):
    """Recordings by subject, counts[i] of subject i, and an official test partition."""
    of = {f"s{i}r{j}": "train" if j % 3 else "validation" for i, n in enumerate(counts) for j in range(n)}
    of |= {f"test{i}": "test" for i in range(test)}
    return Partitions(of, {r: r.split("r")[0] for r in of})


@pytest.mark.parametrize("by", ["recording", "subject"])
def test_folds_score_every_recording_once_and_never_the_official_test(by):
    split = split_of([5, 1, 3, 2, 4, 1, 1])
    parts = [folded(split, 5, i, by) for i in range(5)]
    scored = [r for p in parts for r in p.members("test")]
    assert sorted(scored) == sorted(r for r, p in split.of.items() if p != "test")
    for p in parts:
        assert not [r for r in p.of if r.startswith("test")]
        assert set(p.of.values()) == {"train", "validation", "test"}
        if by == "subject":
            homes = [{split.subjects[r] for r in p.members(x)} for x in ("train", "validation", "test")]
            assert sum(map(len, homes)) == len(set().union(*homes))
    assert [p.of for p in parts] == [folded(split, 5, i, by).of for i in range(5)]


@pytest.mark.parametrize("by", ["recording", "subject"])
def test_people_in_one_film_are_in_one_fold(by):
    split = split_of([4, 4, 4, 4, 4, 4])
    films = {"s0r0": "party", "s1r0": "party", "s1r1": "talk", "s2r0": "talk", "test0": "party"}
    for fold in range(3):
        seen = folded(Partitions(split.of, split.subjects, films), 3, fold, by).of
        for film in ("party", "talk"):
            assert len({seen[r] for r in films if films[r] == film and r in seen}) == 1
        if by == "subject":
            assert len({seen[r] for r in seen if split.subjects[r] in ("s0", "s1", "s2")}) == 1, "linked by films"
    alone = folded(Partitions(split.of, split.subjects, {r: r for r in split.of}), 3, 0, by)
    assert alone.of == folded(split, 3, 0, by).of


def test_folds_by_recording_are_of_even_size():
    sizes = [len(folded(split_of([13]), 5, i, "recording").members("test")) for i in range(5)]
    assert sorted(sizes) == [2, 2, 3, 3, 3]


def test_folds_that_cannot_be_made_say_why(toy_cache, tmp_path):
    nameless = Partitions({"a": "train", "b": "train", "c": "validation"}, {"a": "x"})
    with pytest.raises(UsageError, match=r"subject of 2 of 3 .* --fold-by recording"):
        folded(nameless, 3, 0, "subject")
    with pytest.raises(UsageError, match="3 units do not fill 5 folds"):
        folded(nameless, 5, 0, "recording")
    with pytest.raises(ConfigError, match="folds is 2, wanted at least 3"):
        run_folds(recipe(toy_cache, tmp_path, folds=2), quiet=True)
    with pytest.raises(ConfigError, match="fold is not said"):
        run_train(recipe(toy_cache, tmp_path, folds=3), quiet=True)


def test_cross_validation_pools_frames_that_no_run_had_seen(toy_cache, tmp_path):
    found = run_folds(recipe(toy_cache, tmp_path, folds=3, fold_by="subject", epochs=2), quiet=True)
    split = toy_cache.labels.partitions("va")
    pool = split.members("train") + split.members("validation")
    assert found.recordings == len(pool)
    pred, va, seen = [], [], []
    for fold, run in enumerate(found.runs):
        for recording in folded(split, 3, fold, "subject").members("test"):
            label = toy_cache.labels.read("va", recording)
            pred.append(predicted_by(Path(run.folder), "test", recording)[1])
            va.append(label.va)
            seen.append(label.labelled)
    want = ccc_va(np.concatenate(pred), np.concatenate(va), np.concatenate(seen))
    assert found.raw.mean == pytest.approx(want.mean, abs=1e-5)
    assert found.raw_interval.mean.low < found.raw.mean < found.raw_interval.mean.high
    assert len(fold_lines(found)) == 7
    assert compare_runs(Path(found.folder), Path(found.folder)).differences["mean"].a == pytest.approx(found.raw.mean)
    assert "train-fusion, fold 0 of 3 by subject" in (Path(found.runs[0].folder) / LOG).read_text()


@pytest.fixture
def batch(toy_cache):
    corpus = open_partition(take_snapshot(toy_cache, choose_streams(toy_cache, ()), "va"), "train")
    return corpus.batch(make_windows(corpus.lengths, 4, 1, 4), np.arange(100), torch.device("cpu"))


def test_modality_dropout_drops_whole_windows_as_if_absent_and_never_all(toy_cache, batch):
    streams = choose_streams(toy_cache, ())
    dropped = drop_modalities(batch, streams, 0.5, np.random.default_rng(0))
    gone = {s.name: ~dropped.present[s.name].any(dim=1) & batch.present[s.name].any(dim=1) for s in streams}
    some = batch.present["face"].any(dim=1)
    assert not torch.stack(list(gone.values())).all(dim=0).any()
    for name, missing in gone.items():
        assert 0.3 < missing[some].float().mean() < 0.6
        assert (dropped.x[name][~dropped.present[name]] == 0).all()
        kept = ~missing
        assert torch.equal(dropped.x[name][kept], batch.x[name][kept])
        assert torch.equal(dropped.present[name][kept], batch.present[name][kept])
    almost = drop_modalities(batch, streams, 1 - 1e-9, np.random.default_rng(0))
    assert (torch.stack([almost.present[s.name][some].any(dim=1) for s in streams]).sum(dim=0) == 1).all()


def test_modality_dropout_reaches_training_and_leaves_a_head_that_learns(toy_cache, tmp_path):
    plain, with_ = (run_train(recipe(toy_cache, tmp_path, modality_dropout=p), quiet=True) for p in (0.0, 0.4))
    assert (Path(plain.folder) / "best.safetensors").read_bytes() != (
        Path(with_.folder) / "best.safetensors"
    ).read_bytes()
    assert with_.evaluations["test"].raw.mean > 0.3


def test_schedules(toy_cache, tmp_path, monkeypatch):
    assert lrs(run_train(recipe(toy_cache, tmp_path), quiet=True)) == [1e-2] * 3
    cosine = lrs(run_train(recipe(toy_cache, tmp_path, schedule="cosine", epochs=4), quiet=True))
    np.testing.assert_allclose(cosine, 1e-2 * (1 + np.cos(np.pi * np.arange(4) / 4)) / 2)
    monkeypatch.setattr("fuse.fit.PATIENCE", 0)
    plateau = lrs(run_train(recipe(toy_cache, tmp_path, schedule="plateau", lr=0.3, epochs=12), quiet=True))
    assert plateau[0] == 0.3
    assert plateau[-1] < 0.1


def test_bfloat16_trains_and_keeps_full_precision_weights(toy_cache, tmp_path):
    plain, half = (run_train(recipe(toy_cache, tmp_path, amp=a, epochs=6), quiet=True) for a in (False, True))
    difference = plain.evaluations["test"].raw.mean - half.evaluations["test"].raw.mean
    assert 0 < abs(difference) < 0.1


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"modality_dropout": 1.0}, "modality_dropout is 1.0"),
        ({"smooth": 4}, "smooth is 4"),
        ({"fold": 3, "folds": 3}, "fold is 3 of 3"),
        ({"checkpoint_s": float("nan")}, "checkpoint_s is nan"),
    ],
)
def test_numbers_that_make_no_sense_are_named(toy_cache, tmp_path, setting, told):
    with pytest.raises(ConfigError, match=told):
        run_train(recipe(toy_cache, tmp_path, **setting), quiet=True)


def test_pitfall_24_smoothing_holds_the_edges_and_is_centred():
    constant = np.full((40, 2), 0.5)
    np.testing.assert_allclose(smooth(constant, 21), constant)
    pulse = np.zeros((41, 2))
    pulse[20] = 1.0
    np.testing.assert_allclose(smooth(pulse, 5)[:, 0], np.where(abs(np.arange(41) - 20) <= 2, 0.2, 0))
    assert (smooth(np.full((5, 2), 3.0), 1) == 1.0).all()


def test_bridges_are_linear_and_their_ends_hold():
    pred = np.repeat(np.array([9.0, 1.0, 9.0, 9.0, 4.0, 9.0])[:, None], 2, axis=1)
    absent = np.array([True, False, True, True, False, True])
    np.testing.assert_allclose(bridge(pred, absent)[:, 0], [1, 1, 2, 3, 4, 4])
    np.testing.assert_array_equal(bridge(pred, np.ones(6, bool)), pred)


def test_post_processing_never_mixes_recordings():
    a, b = np.full((30, 2), 0.9), np.full((30, 2), -0.9)
    done = postprocess({"a": a, "b": b}, 11)
    np.testing.assert_allclose(done["a"], a)
    np.testing.assert_allclose(done["b"], b)


def test_pitfall_23_the_width_is_chosen_on_validation_and_test_follows(toy_cache, tmp_path, monkeypatch):
    asked = []

    def watched(predictions, labels, absent):
        asked.append(set(labels))
        return choose_width(predictions, labels, absent)

    monkeypatch.setattr(fuse.train, "choose_width", watched)
    result = run_train(recipe(toy_cache, tmp_path, smooth="validation"), quiet=True)
    assert asked == [set(toy_cache.labels.partitions("va").members("validation"))]
    widths = {e.smooth for e in result.evaluations.values()}
    assert len(widths) == 1
    assert widths <= set(WIDTHS)
    validation = result.evaluations["validation"]
    assert validation.smoothed.mean >= validation.raw.mean - 0.01  # width 1 was among the choices


def test_interpolation_changes_the_smoothed_number_and_not_the_raw_one(toy_cache, tmp_path):
    without = run_train(recipe(toy_cache, tmp_path), quiet=True).evaluations["test"]
    bridged = run_train(recipe(toy_cache, tmp_path, interpolate=True), quiet=True).evaluations["test"]
    assert bridged.raw == without.raw
    assert bridged.smoothed != without.smoothed
    base = recipe(toy_cache, tmp_path, streams=("voice",))
    no_face = [run_train(replace(base, interpolate=i), quiet=True).evaluations["test"] for i in (False, True)]
    assert no_face[0] == no_face[1]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a CPU with g++")
@pytest.mark.filterwarnings("ignore")  # those of torch's compiler about itself
def test_a_compiled_head_gives_the_numbers_and_keeps_the_names_of_its_weights(toy_cache, tmp_path):
    asked = {"tokens": 32, "hop": 16, "batch_size": 8, "epochs": 2, "device": "cpu"}
    plain, compiled = (
        run_train(TrainRecipe("concat", toy_cache.root, tmp_path, compile=c, **asked), quiet=True)
        for c in (False, True)
    )
    assert compiled.folder != plain.folder
    assert compiled.evaluations["test"].raw.mean == pytest.approx(plain.evaluations["test"].raw.mean, abs=0.03)
    one, other = (load_file(Path(r.folder) / "best.safetensors") for r in (plain, compiled))
    assert one.keys() == other.keys()
