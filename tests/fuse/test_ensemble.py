"""Several runs as one: by hand, on folds, on another corpus, centred; and what must not be averaged."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache.errors import DataError, MissingData, UsageError
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.store import FeatureCache
from fuse.crossval import run_folds
from fuse.elsewhere import evaluate_run
from fuse.ensemble import ensemble_lines, run_ensemble
from fuse.feeding.folds import folded
from fuse.feeding.locked import LOG
from fuse.numbers.compare import compare_runs
from fuse.numbers.metrics import ccc_va
from fuse.plots import predicted_by
from fuse.recipe import TrainRecipe
from fuse.train import run_train

SMALL = {"tokens": 32, "hop": 16, "batch_size": 8, "lr": 1e-2, "epochs": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def made(toy_cache, tmp_path_factory):
    """Three seeds, and another head; their folders are for reading."""
    root = tmp_path_factory.mktemp("ensemble")
    base = TrainRecipe("concat", toy_cache.root, root, **SMALL)
    seeds = [run_train(replace(base, seed=s), quiet=True) for s in range(3)]
    return [*seeds, run_train(replace(base, head="late"), quiet=True)]


@pytest.fixture
def runs(made, tmp_path):
    """Copies of them."""
    copies = [tmp_path / "toy" / Path(r.folder).name for r in made]
    for result, copy in zip(made, copies, strict=True):
        shutil.copytree(result.folder, copy)
    return copies


def pooled(cache, predictions):
    labels = {r: cache.labels.read("va", r) for r in predictions}
    parts = zip(*((predictions[r], labels[r].va, labels[r].labelled) for r in predictions), strict=True)
    return ccc_va(*(np.concatenate(p) for p in parts))


def counted(run):
    with open(run / LOG, newline="") as file:
        return [row["what"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("partition", ["validation", "test"])
def test_the_mean_of_seeds_is_the_mean_frame_by_frame(toy_cache, runs, partition):
    found = run_ensemble(runs[:3], partition=partition)
    names = toy_cache.labels.partitions("va").members(partition)
    means = {r: np.mean([predicted_by(f, partition, r)[1] for f in runs[:3]], axis=0) for r in names}
    want = pooled(toy_cache, means)
    assert found.evaluation.raw.mean == pytest.approx(want.mean, abs=1e-9)
    assert (found.evaluation.recordings, found.of, found.folds) == (2, 2, 0)
    for r in names:
        np.testing.assert_allclose(predicted_by(Path(found.folder), partition, r)[1], means[r], atol=1e-6)
    assert found.evaluation.raw_interval.mean.low < want.mean < found.evaluation.raw_interval.mean.high


def test_what_is_left_can_be_compared_and_test_is_counted_in_every_run(runs):
    found = run_ensemble(runs, partition="test")
    told = compare_runs(Path(found.folder), runs[0], "test")
    assert told.differences["mean"].a == pytest.approx(found.evaluation.raw.mean)
    assert [counted(r) for r in runs] == [["train-fusion", "ensemble on toy"]] * 4
    run_ensemble(runs)
    assert len(counted(runs[0])) == 2  # validation is not


def test_runs_alone_are_told_beside_their_mean(runs, made):
    found = run_ensemble(runs)
    assert found.alone == pytest.approx([r.evaluations["validation"].raw.mean for r in made])
    lines = "\n".join(ensemble_lines(found))
    assert "mean of 4 runs on toy, validation" in lines
    assert f"{max(found.alone):.3f}" in lines


def test_a_path_without_seed_is_all_its_seeds(run, runs, toy_cache):
    base = str(runs[0]).removesuffix("-seed0")
    code, out, err = run("ensemble", base, "--cache", toy_cache.root)
    assert code == 0, err
    assert "mean of 3 runs" in out


def crossed(cache, root, **more):
    return run_folds(TrainRecipe("concat", cache.root, root, folds=3, **{**SMALL, **more}), quiet=True)


def test_folds_are_put_together_each_recording_by_the_run_that_held_it_out(toy_cache, tmp_path):
    found = crossed(toy_cache, tmp_path)
    whole = run_ensemble([Path(found.folder)], partition="test")
    assert whole.evaluation.raw.mean == pytest.approx(found.raw.mean, abs=1e-6)
    assert (whole.folds, whole.evaluation.recordings) == (3, found.recordings)
    split = toy_cache.labels.partitions("va")
    for fold, one in enumerate(found.runs):
        assert counted(Path(one.folder))[-1] == f"ensemble on toy, fold {fold} of 3"
        for r in folded(split, 3, fold, "recording").members("test"):
            alone, kept = (predicted_by(Path(f), "test", r)[1] for f in (one.folder, whole.folder))
            np.testing.assert_allclose(alone, kept, atol=2e-6)
    assert not set(split.members("test")) & {p.stem for p in Path(whole.folder).rglob("predictions/test/*.csv")}


def test_seeds_of_folds_are_averaged_within_each_fold(toy_cache, tmp_path):
    each = [crossed(toy_cache, tmp_path, seed=s) for s in (0, 1)]
    whole = run_ensemble([Path(c.folder) for c in each], partition="test")
    means = {}
    for fold in range(3):
        for r in folded(toy_cache.labels.partitions("va"), 3, fold, "recording").members("test"):
            means[r] = np.mean([predicted_by(Path(c.runs[fold].folder), "test", r)[1] for c in each], axis=0)
    assert whole.evaluation.raw.mean == pytest.approx(pooled(toy_cache, means).mean, abs=1e-6)
    base = Path(each[0].folder.removesuffix("-seed0"))
    assert run_ensemble([base], partition="test") == whole
    assert len(compare_runs(base, base).a) == 2
    with pytest.raises(UsageError, match="of 3 folds there are 2, 2, 1 runs"):
        run_ensemble([Path(each[0].folder), *(Path(r.folder) for r in each[1].runs[:2])], partition="test")


def test_a_fold_is_never_scored_on_what_it_trained_on(toy_cache, tmp_path, runs):
    found = crossed(toy_cache, tmp_path)
    folder, other = (Path(found.runs[i].folder) for i in (0, 1))
    with pytest.raises(UsageError, match=r"different partitions .* the official split, 3 folds by recording"):
        run_ensemble([runs[0], folder])
    with pytest.raises(UsageError, match="of 3 folds there are 1, 1, 0 runs"):
        run_ensemble([folder, other], partition="test")
    trained_on = folded(toy_cache.labels.partitions("va"), 3, 0, "recording").members("train")[0]
    held = next((folder / "predictions" / "test").glob("*.csv"))
    shutil.copy(held, held.with_name(f"{trained_on}.csv"))
    with pytest.raises(DataError, match=f"holds {trained_on!r}, which is not in 'test'"):
        run_ensemble([Path(found.folder)], partition="test")
    assert len(counted(folder)) == 1  # nothing was opened


def test_centring_takes_levels_from_validation_and_nothing_from_what_is_scored(toy_cache, runs):
    """A run that is 0.5 too high everywhere is brought to the level of those that were right on validation."""
    plain = run_ensemble(runs[:3], partition="test")
    lift(runs[0], 0.5)
    off, centred = (run_ensemble(runs[:3], partition="test", centre=c) for c in (False, True))
    assert off.evaluation.raw.mean < plain.evaluation.raw.mean - 0.02
    shifts = np.array(centred.shifts)
    assert shifts[0, 0] < -0.25
    np.testing.assert_allclose(shifts[0] - shifts[1], -0.5 + bias(runs[1]) - bias(runs[0], 0.5), atol=1e-5)
    assert off.evaluation.raw.mean < centred.evaluation.raw.mean
    assert centred.folder != off.folder
    before = centred.shifts
    for path in (runs[1] / "predictions" / "test").glob("*.csv"):
        table = np.loadtxt(path, delimiter=",", skiprows=1)
        write_table(path, table * [1, 1, 0.1, 3])
    again = run_ensemble(runs[:3], partition="test", centre=True)
    assert again.shifts == before
    saved = next(Path(again.folder).rglob("predictions/test/*.csv"))
    assert np.abs(np.loadtxt(saved, delimiter=",", skiprows=1)[:, 2:]).max() <= 1
    with pytest.raises(UsageError, match="fitted on validation, so it cannot be scored there"):
        run_ensemble(runs[:3], centre=True)


def write_table(path, table):
    fmt = ["%d", "%.6f", "%.6f", "%.6f"]
    np.savetxt(path, table, fmt=fmt, delimiter=",", comments="", header="frame,time_s,valence,arousal")


def lift(run, by):
    """As if the head had answered so much more, on every partition."""
    for path in run.glob("predictions/*/*.csv"):
        write_table(path, np.loadtxt(path, delimiter=",", skiprows=1) + np.array([0, 0, by, by]))
    for path in run.glob("statistics/*.csv"):
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            row |= {c: repr(float(row[c]) + by) for c in ("valence_mean_pred", "arousal_mean_pred")}
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def bias(run, lifted=0.0):
    """Mean error on validation, before it was lifted."""
    with open(run / "statistics" / "validation.csv", newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["scored"] == "raw"]
    frames = np.array([float(r["frames"]) for r in rows])
    columns = [[float(r[f"{d}_mean_{s}"]) for r in rows] for d in ("valence", "arousal") for s in ("pred", "true")]
    v_pred, v_true, a_pred, a_true = np.array(columns)
    errors = np.stack([v_pred - v_true, a_pred - a_true])
    return (errors * frames).sum(1) / frames.sum() - lifted


def other_corpus(root):
    rng, cache = np.random.default_rng(5), FeatureCache.create(root, "other")
    labels = {}
    for name in ("o0", "o1"):
        cache.timelines.write(name, Timeline(np.arange(60) / 25, 60 / 25))
        va = rng.uniform(-0.5, 0.5, (60, 2)).astype(np.float32)
        for stream, modality, dim in (("face", "visual", 6), ("voice", "audio", 5), ("words", "text", 4)):
            spec = cache.declare(stream, modality, dim, {"encoder": stream}, {})
            mix = np.random.default_rng(dim).normal(size=(2, dim)).astype(np.float32)
            cache.write(spec.key, name, Aligned(va @ mix, np.ones(60, bool)))
        labels[name] = Labels(va, np.ones(60, bool))
    cache.labels.write("va", labels, Partitions({"o0": "validation", "o1": "test"}))
    return cache


def test_on_another_corpus_all_folds_are_one_mean(toy_cache, tmp_path):
    found = crossed(toy_cache, tmp_path)
    other = other_corpus(tmp_path / "other")
    with pytest.raises(MissingData, match=r"evaluate .* --dataset other --partition validation"):
        run_ensemble([Path(found.folder)], other)
    for one in found.runs:
        evaluate_run(Path(one.folder), other, "validation", "cpu")
    whole = run_ensemble([Path(found.folder)], other, centre=True)
    tables = [predicted_by(Path(r.folder) / "evaluated" / "other", "validation", "o0")[1] for r in found.runs]
    want = np.clip(np.mean([t + s for t, s in zip(tables, whole.shifts, strict=True)], axis=0), -1, 1)
    np.testing.assert_allclose(predicted_by(Path(whole.folder), "validation", "o0")[1], want, atol=2e-6)
    assert (whole.dataset, whole.folds, len(whole.alone)) == ("other", 0, 3)


def test_what_is_no_ensemble_is_named(runs, tmp_path, toy_cache):
    with pytest.raises(UsageError, match="1 runs"):
        run_ensemble(runs[:1])
    with pytest.raises(UsageError, match="2 runs, of which 1 differ"):
        run_ensemble([runs[0], runs[0]])
    shutil.copytree(runs[1], tmp_path / "elsewhere" / runs[1].name)
    with pytest.raises(UsageError, match=r"different corpora .* elsewhere, toy"):
        run_ensemble([runs[0], tmp_path / "elsewhere" / runs[1].name])
    with pytest.raises(MissingData, match=r"there are no predictions .* not scored on 'train'"):
        run_ensemble(runs, partition="train")
    first = sorted((runs[1] / "predictions" / "validation").glob("*.csv"))[0]
    text = first.read_text().splitlines()
    first.write_text("\n".join(text[:-1]) + "\n")
    with pytest.raises(DataError, match="did not predict the same frames"):
        run_ensemble(runs)
    first.unlink()
    with pytest.raises(DataError, match="did not predict the same recordings: 1 of only one"):
        run_ensemble(runs)
    (runs[2] / "metrics.json").unlink()
    with pytest.raises(MissingData, match="no complete run"):
        run_ensemble(runs)
