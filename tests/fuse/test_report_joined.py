"""The report of several runs as one row: an ensemble, a cross-validation; only numbers that their folders hold."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache.errors import DataError, MissingData, UsageError
from fuse.crossval import run_folds
from fuse.ensemble import run_ensemble
from fuse.feeding.locked import LOG
from fuse.numbers.moments import read_moments
from fuse.page.source import read_source
from fuse.page.write import write_report
from fuse.recipe import TrainRecipe
from fuse.train import run_train

SMALL = {"tokens": 32, "hop": 16, "batch_size": 8, "lr": 1e-2, "epochs": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def made(toy_cache, tmp_path_factory):
    """Two heads of the official split, and three folds with two seeds."""
    root = tmp_path_factory.mktemp("joined")
    base = TrainRecipe("concat", toy_cache.root, root, **SMALL)
    for head in ("concat", "late"):
        run_train(replace(base, head=head), quiet=True)
    for seed in (0, 1):
        run_folds(replace(base, folds=3, seed=seed), quiet=True)
    return root / "toy"


@pytest.fixture
def home(made, tmp_path):
    """A copy of it: a report of test is counted there."""
    return Path(shutil.copytree(made, tmp_path / "toy"))


def single(home):
    recipes = home.glob("*/recipe.json")
    return sorted(r.parent for r in recipes if json.loads(r.read_text())["fold"] is None)


def crossed(home):
    return sorted(f.parent for f in home.glob("*/crossvalidation.json"))


def folds_of(folder):
    return [
        folder.parent / Path(r["folder"]).name
        for r in json.loads((folder / "crossvalidation.json").read_text())["runs"]
    ]


def written(home, paths, partition, **more):
    made = write_report(paths, home.parent / "report.html", partition, **more)
    return made, Path(made.path).read_text(encoding="utf-8")


def cells(text, name):
    """Texts of the row that begins with this, in the table of what a row is made of."""
    row = re.search(rf'<tr><th scope="row"><code>{re.escape(name)}</code></th>(.*?)</tr>', text)[1]
    return re.findall(r"<td>(.*?)</td>", row)


def counted(run):
    with open(run / LOG, newline="") as file:
        return [row["what"].split(",")[0] for row in csv.DictReader(file)]


def test_an_ensemble_is_a_row_with_its_numbers_and_each_run_alone(home):
    runs = single(home)
    found = run_ensemble(runs)
    made, text = written(home, [Path(found.folder), runs[0]], "validation")
    assert (made.rows, made.runs, made.lacking) == (2, 3, "")
    row = read_source([Path(found.folder)], "validation").table.rows[0]
    assert row.raw["mean"].mean == pytest.approx(found.evaluation.raw.mean, abs=1e-9)
    assert row.smoothed["arousal"].mean == pytest.approx(found.evaluation.smoothed.arousal, abs=1e-9)
    assert row.per_recording["mean"].mean == pytest.approx(found.evaluation.per_recording.mean, abs=1e-9)
    assert row.intervals["raw"] == found.evaluation.raw_interval
    assert f"{found.evaluation.raw.mean:.3f}" in text
    for run, alone in zip(runs, found.alone, strict=True):
        assert cells(text, run.name)[3] == f"{alone:.3f}"
        assert f"recipe.json of {run.name}" in text
    assert "the mean of what 2 runs predicted for each frame; 2 of 2 labelled recordings" in text
    assert "moved by" not in text
    assert "centred" not in text
    assert "over 1 seed" not in text
    assert text.count("data:image/png;base64,") == 3


def test_a_centred_ensemble_tells_its_shifts_and_is_not_chosen_by_test(home):
    found = run_ensemble(single(home), partition="test", centre=True)
    _, text = written(home, [Path(found.folder)], "test")
    for run, shift in zip(single(home), found.shifts, strict=True):
        assert cells(text, run.name)[4:6] == [f"{s:+.3f}" for s in shift]
        assert counted(run) == ["train-fusion", "ensemble on toy", "report"]
    assert "comes first, as none was scored on validation" in text
    assert "predicted for each frame, centred by what validation told, clipped to [-1, 1]; 2 of 2" in text
    assert "data:image/png" in text
    worst = read_source([Path(found.folder), single(home)[1]], "test")
    assert worst.best == 1  # the run: validation says nothing of the ensemble


def test_a_cross_validation_is_a_row_of_its_folds(home):
    folder = crossed(home)[0]
    told = json.loads((folder / "crossvalidation.json").read_text())
    made, text = written(home, [folder], "test")
    assert (made.rows, made.runs, made.lacking) == (1, 3, "")
    row = read_source([folder], "test").table.rows[0]
    assert row.raw["mean"].mean == pytest.approx(told["raw"]["mean"], abs=1e-12)
    assert row.intervals["smoothed"].mean.low == pytest.approx(told["smoothed_interval"]["mean"]["low"])
    for run, fold in zip(folds_of(folder), told["runs"], strict=True):
        raw = fold["evaluations"]["test"]["raw"]
        shown = [str(fold["data"]["test"]["recordings"]), *(f"{raw[d]:.3f}" for d in ("valence", "arousal", "mean"))]
        assert cells(text, run.name)[:4] == shown
        assert counted(run) == ["train-fusion", "report"]
    recordings = read_moments(folder / "statistics" / "test.csv", "raw").recordings
    assert all(f'<th scope="row">{r}</th>' in text for r in recordings)
    assert len(recordings) == 7  # of train and validation, all
    assert "NOT THE SAME" not in text


def test_seeds_of_a_cross_validation_are_one_row_with_their_spread(home):
    both = crossed(home)
    row = read_source([Path(str(both[0]).removesuffix("-seed0"))], "test").table.rows[0]
    each = [json.loads((f / "crossvalidation.json").read_text())["raw"]["mean"] for f in both]
    assert row.raw["mean"].values == pytest.approx(each)
    assert row.raw["mean"].std == pytest.approx(np.std(each, ddof=1))
    whole = run_ensemble(both, partition="test")
    made, text = written(home, [Path(whole.folder), *both], "test")
    assert (made.rows, made.runs, made.lacking) == (3, 12, "")
    assert "3 folds put together" in text
    rows = read_source([Path(whole.folder), both[0]], "test").table.rows
    assert rows[0].parameters == 2 * rows[1].parameters  # two seeds predict each recording


def test_folds_without_predictions_say_what_is_lacking_and_open_nothing(home):
    folder = crossed(home)[0]
    shutil.rmtree(folds_of(folder)[1] / "predictions")
    made, text = written(home, [folder], "test", anonymous=True)
    assert "there is no" in made.lacking
    assert not re.search(r"rec\d", text + made.lacking)
    assert [counted(f) for f in folds_of(folder)] == [["train-fusion"]] * 3


def test_what_was_not_measured_is_refused(home):
    ensemble = Path(run_ensemble(single(home)).folder)
    for paths, partition, error, told in (
        ([crossed(home)[0]], "validation", UsageError, "no numbers for 'validation'; add --partition test"),
        ([ensemble], "test", MissingData, "was not scored on 'test'; run: python cli.py ensemble"),
        ([crossed(home)[0], single(home)[0]], "test", UsageError, "not scored on the same recordings"),
    ):
        with pytest.raises(error, match=told):
            write_report(paths, home / "x.html", partition)
    kept = json.loads((ensemble / "validation.json").read_text())
    (ensemble / "validation.json").write_text(json.dumps({**kept, "dataset": "elsewhere"}))
    with pytest.raises(UsageError, match="was scored on elsewhere, and its runs on toy"):
        write_report([ensemble], home / "x.html")
    (ensemble / "validation.json").write_text(
        json.dumps({**kept, "alone": [kept["alone"][0] + 0.01, kept["alone"][1]]})
    )
    with pytest.raises(DataError, match="was trained again since"):
        write_report([ensemble], home / "x.html")
