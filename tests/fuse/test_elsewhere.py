"""Scoring without training: a run on another cache, and prediction files alone."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cache.errors import CacheError, DataError, MissingData
from cache.ids import folder_of
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.store import FeatureCache
from extract.recipe import extract_recipe
from extract.truth import corpus_truth
from fuse.elsewhere import cache_truth, count_corpus, evaluate_files, evaluate_run
from fuse.feeding.folds import folded
from fuse.feeding.locked import LOG
from fuse.finished import load_run
from fuse.prediction_files import read_predictions
from fuse.recipe import TrainRecipe
from fuse.tables.report import elsewhere_table
from fuse.train import run_train

SMALL = {"tokens": 32, "hop": 16, "batch_size": 8, "lr": 1e-2, "epochs": 3, "device": "cpu"}


@pytest.fixture(scope="module")
def run(toy_cache, tmp_path_factory):
    return run_train(
        TrainRecipe("concat", toy_cache.root, tmp_path_factory.mktemp("run"), smooth="validation", **SMALL), quiet=True
    )


def other_corpus(root, settings=None, rate=30.0):
    """A cache of another corpus, with the toy streams at another rate and labels over less of the range."""
    rng, cache = np.random.default_rng(5), FeatureCache.create(root, "other")
    labels = {}
    for i in range(3):
        count = 60
        cache.timelines.write(f"o{i}", Timeline(np.arange(count) / rate, count / rate))
        va = rng.uniform(-0.5, 0.5, (count, 2)).astype(np.float32)
        for name, modality, dim in (("face", "visual", 6), ("voice", "audio", 5), ("words", "text", 4)):
            spec = cache.declare(name, modality, dim, {"encoder": name, **(settings or {})}, {})
            mix = np.random.default_rng(dim).normal(size=(2, dim)).astype(np.float32)
            cache.write(spec.key, f"o{i}", Aligned(va @ mix, np.ones(count, bool)), {"rows": count})
        labels[f"o{i}"] = Labels(va, np.ones(count, bool))
    cache.labels.write("va", labels, Partitions({"o0": "train", "o1": "validation", "o2": "test"}, {}))
    return cache


def test_on_its_own_cache_a_run_scores_what_it_reported(run, toy_cache):
    for partition in ("validation", "test"):
        assert evaluate_run(Path(run.folder), toy_cache, partition, "cpu").evaluation == run.evaluations[partition]
    with open(Path(run.folder) / LOG, newline="") as file:
        assert [r["what"] for r in csv.DictReader(file)] == ["train-fusion", "evaluate on toy"]


def test_on_another_corpus_rates_and_label_ranges_are_stated(run, tmp_path):
    found = evaluate_run(Path(run.folder), other_corpus(tmp_path / "other"), "validation", "cpu")
    assert found.dataset == "other"
    assert found.trained_on.rates == pytest.approx((25, 25))
    assert found.scored_on.rates == pytest.approx((30, 30))
    assert -0.5 <= found.scored_on.valence[0] < found.scored_on.valence[1] <= 0.5 < found.trained_on.valence[1]
    assert found.evaluation.frames == 60
    saved = json.loads((Path(run.folder) / "evaluated" / "other" / "validation.json").read_text())
    assert saved["evaluation"]["raw"]["mean"] == found.evaluation.raw.mean
    caption = elsewhere_table(found).caption
    assert "trained on 25 frames a second" in caption
    assert "scored on 30 frames a second" in caption


def test_normalisation_is_that_of_the_training_corpus(run, tmp_path):
    other = other_corpus(tmp_path / "other")
    a = evaluate_run(Path(run.folder), other, "validation", "cpu").evaluation
    only = tmp_path / "only"
    shutil.copytree(other.root, only)
    for key in other.stream_keys():  # without the other corpus's train and test, nothing changes
        for name in ("o0", "o2"):
            shutil.rmtree(only / "features" / key / name)
    assert evaluate_run(Path(run.folder), FeatureCache(only), "validation", "cpu").evaluation == a


def test_a_namesake_with_other_settings_is_refused(run, tmp_path):
    other = other_corpus(tmp_path / "other", settings={"layer": 6})
    with pytest.raises(CacheError, match=r"trained on stream face-\w+; .* holds face-\w+, made with other settings"):
        evaluate_run(Path(run.folder), other, "validation", "cpu")


def test_what_is_no_complete_run_is_named(tmp_path):
    with pytest.raises(MissingData, match="no complete run"):
        load_run(tmp_path)


def test_a_run_of_a_fold_keeps_its_fold_on_its_own_corpus(toy_cache, tmp_path):
    made = run_train(TrainRecipe("concat", toy_cache.root, tmp_path, folds=3, fold=1, **SMALL), quiet=True)
    again = evaluate_run(Path(made.folder), toy_cache, "validation", "cpu")
    assert again.evaluation == made.evaluations["validation"]
    fold = folded(toy_cache.labels.partitions("va"), 3, 1, "recording")
    assert again.share.recordings == len(fold.members("validation"))


@pytest.fixture
def files(run, tmp_path):
    """A copy of the run's validation predictions, outside of any run."""
    shutil.copytree(Path(run.folder) / "predictions" / "validation", tmp_path / "files")
    return tmp_path / "files"


def test_files_alone_score_what_the_run_reported(run, toy_cache, files):
    wanted, truth = cache_truth(toy_cache, "va", "validation", files)
    found = evaluate_files(files, wanted, truth, "toy", "validation", run.evaluations["validation"].smooth)
    want = run.evaluations["validation"]
    assert found.evaluation.raw.mean == pytest.approx(want.raw.mean, abs=1e-5)
    assert found.evaluation.smoothed.mean == pytest.approx(want.smoothed.mean, abs=1e-5)
    assert found.evaluation.frames == want.frames
    assert elsewhere_table(found).caption == f"2 recordings, {want.frames:,} labelled frames"


def test_scoring_files_on_test_is_counted_in_their_run(run, toy_cache, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run.folder, copy)
    before = len((copy / LOG).read_text().splitlines())
    cache_truth(toy_cache, "va", "test", copy / "predictions" / "test")
    assert len((copy / LOG).read_text().splitlines()) == before + 1
    loose = tmp_path / "loose"
    cache_truth(toy_cache, "va", "test", loose)
    assert (loose / LOG).is_file()


def test_a_missing_file_or_frame_is_an_error_not_a_smaller_partition(toy_cache, files):
    def scored():
        return evaluate_files(files, *cache_truth(toy_cache, "va", "validation", files), "toy", "validation")

    path = files / "rec5.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match=r"rec5.csv has 124 frames, 'rec5' has 125"):
        scored()
    late = [lines[0]]
    late += [f"{i},{i / 25 + 0.5:.6f},{','.join(line.split(',')[2:])}" for i, line in enumerate(lines[1:])]
    path.write_text("".join(late))
    with pytest.raises(DataError, match=r"'rec5' are up to 0.500 s away"):
        scored()
    path.unlink()
    with pytest.raises(MissingData, match=r"lacks 1 labelled recordings of 'validation', such as \['rec5'\]"):
        scored()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "begins with 'nothing'"),
        ("time,v,a\n", "wanted frame,time_s,valence,arousal"),
        ("frame,time_s,valence,arousal\n0,0,x,0\n", "not a table of four numbers"),
        ("frame,time_s,valence,arousal\n0,0,0\n", "not hold every frame|not a table"),
        ("frame,time_s,valence,arousal\n0,0,0,0\n2,1,0,0\n", "not hold every frame once"),
        ("frame,time_s,valence,arousal\n0,0,nan,0\n", "not finite"),
        ("frame,time_s,valence,arousal\n0,1,0,0\n1,1,0,0\n", "do not increase"),
        ("frame,time_s,valence,arousal\n", "not hold every frame once"),
    ],
)
def test_a_file_that_is_not_one_of_predictions_is_named(tmp_path, text, told):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=told):
        read_predictions(tmp_path / "a.csv")


def test_files_are_scored_against_a_corpus_without_any_cache(tmp_path):
    rng, root = np.random.default_rng(0), tmp_path / "corpus"
    root.mkdir()
    lines = ["id,video,labels,partition"]
    for i, name in enumerate(("a", "b", "c")):
        va = rng.uniform(-1, 1, (40, 2))
        (root / f"{name}.mp4").write_bytes(b"")
        np.savetxt(root / f"{name}.txt", va, delimiter=",", header="valence,arousal", comments="", fmt="%.6f")
        lines.append(f"{name},{name}.mp4,{name}.txt,{'train' if i == 0 else 'test'}")
        pred = np.column_stack([np.arange(40), 0.3 + np.arange(40) / 25, va])
        np.savetxt(tmp_path / f"{folder_of(name)}.csv", pred, delimiter=",", header="frame,time_s,valence,arousal",
                   comments="", fmt=["%d", "%.6f", "%.6f", "%.6f"])  # fmt: skip
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    split, truth = corpus_truth(extract_recipe({"dataset": "manifest", "root": root}))
    wanted = count_corpus(split, "test", tmp_path)
    found = evaluate_files(tmp_path, wanted, truth, "manifest", "test")
    assert found.evaluation.raw.mean == pytest.approx(1, abs=1e-9)
    assert (tmp_path / LOG).read_text().count("\n") == 2
    (tmp_path / "b.csv").unlink()
    with pytest.raises(MissingData, match="lacks 1 labelled"):
        evaluate_files(tmp_path, wanted, truth, "manifest", "test")
    with pytest.raises(MissingData, match="there are: test, train"):
        count_corpus(split, "dev", tmp_path)
