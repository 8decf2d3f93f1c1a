"""What corruption does to a corpus, frame by frame, and what runs lose by it."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cache.errors import UsageError
from fuse.feeding.data import open_partition
from fuse.feeding.locked import LOG
from fuse.feeding.snapshot import take_snapshot
from fuse.feeding.streams import choose_streams
from fuse.feeding.windows import make_windows
from fuse.numbers.corrupt import LEVELS, Corruption, corrupted, dropped, shifted
from fuse.numbers.plot_robustness import plot_robustness
from fuse.numbers.robustness import Plan, Point, areas, read_robustness, run_robustness, save_robustness
from fuse.recipe import TrainRecipe
from fuse.tables.report import area_table
from fuse.train import run_train

SMALL = {"tokens": 32, "hop": 16, "batch_size": 8, "lr": 1e-2, "epochs": 6, "device": "cpu"}


@pytest.fixture(scope="module")
def corpus(toy_cache):
    return open_partition(take_snapshot(toy_cache, choose_streams(toy_cache, ()), "va"), "validation")


@pytest.fixture(scope="module")
def streams(toy_cache):
    return choose_streams(toy_cache, ())


def whole(corpus, tokens=16, hop=16):
    windows = make_windows(corpus.lengths, tokens, 1, hop)
    return corpus.batch(windows, np.arange(len(windows)), torch.device("cpu"))


@pytest.mark.parametrize("pattern", ["iid", "block"])
def test_the_share_of_frames_is_as_said_and_grows_by_adding_frames(pattern):
    before = np.zeros(3200, bool)
    for level in LEVELS["drop"]:
        gone = dropped("r", 3200, Corruption("drop", "audio", level, pattern))
        assert gone.mean() == pytest.approx(level / 100)
        assert not (before & ~gone).any()
        before = gone
    if pattern == "block":
        half = dropped("r", 3200, Corruption("drop", "audio", 50, pattern)).reshape(-1, 32)
        assert set(half.sum(axis=1)) == {0, 32}


def test_frames_follow_from_recording_modality_and_seed_alone():
    what = Corruption("drop", "audio", 50, "iid")
    gone = dropped("r", 500, what)
    np.testing.assert_array_equal(gone, dropped("r", 500, what))
    np.testing.assert_array_equal(gone, dropped("r", 500, replace(what, kind="zero")))  # told or not: the same frames
    for other in (dropped("s", 500, what), dropped("r", 500, replace(what, seed=1))):
        assert 0.3 < (gone == other).mean() < 0.7


def test_dropped_frames_are_absent_and_other_modalities_untouched(corpus, streams):
    what = Corruption("drop", "audio", 50, "iid")
    clean, bad = whole(corpus), whole(corrupted(corpus, streams, what))
    for name in ("face", "words"):
        assert torch.equal(clean.x[name], bad.x[name])
        assert torch.equal(clean.present[name], bad.present[name])
    for row, recording in enumerate(corpus.recordings[i] for i in clean.recording):
        real = clean.real[row]
        gone = torch.from_numpy(dropped(recording, len(corpus.pts[recording]), what))[clean.frame[row][real]]
        assert torch.equal(bad.present["voice"][row][real], clean.present["voice"][row][real] & ~gone)
    lost = clean.present["voice"] & ~bad.present["voice"]
    assert 0.35 < lost.sum() / clean.present["voice"].sum() < 0.65
    assert (bad.x["voice"][lost] == 0).all()
    kept = bad.present["voice"]
    assert torch.equal(bad.x["voice"][kept], clean.x["voice"][kept])
    assert torch.equal(clean.va, bad.va)
    assert torch.equal(clean.labelled, bad.labelled)


def test_zeroed_frames_are_exactly_zero_and_the_mask_is_not_told(corpus, streams):
    told = whole(corrupted(corpus, streams, Corruption("drop", "visual", 30, "iid")))
    silent = whole(corrupted(corpus, streams, Corruption("zero", "visual", 30, "iid")))
    clean = whole(corpus)
    assert torch.equal(silent.present["face"], clean.present["face"])
    assert torch.equal(silent.x["face"], told.x["face"])


def test_noise_has_the_size_that_is_said_and_belongs_to_the_frame(corpus, streams):
    bad = corrupted(corpus, streams, Corruption("noise", "visual", 2.0))
    clean, noisy = whole(corpus), whole(bad)
    added = (noisy.x["face"] - clean.x["face"])[clean.present["face"]]
    assert added.std().item() == pytest.approx(2.0, rel=0.1)
    assert (noisy.x["face"][~clean.present["face"]] == 0).all()
    windows = make_windows(corpus.lengths, 24, 1, 5)  # other windows, in another order: the same frame, the same noise
    again = bad.batch(windows, np.arange(len(windows))[::-1].copy(), torch.device("cpu"))
    for row in range(0, len(windows), 7):
        at = (noisy.recording == again.recording[row]).nonzero()[:, 0]
        for token, frame in enumerate(again.frame[row].tolist()):
            same = (noisy.frame[at] == frame).nonzero()
            if frame >= 0 and len(same):
                found = noisy.x["face"][at[same[0, 0]], same[0, 1]]
                assert torch.equal(found, again.x["face"][row, token])


def test_shifts_go_the_way_that_is_said_and_ends_are_absent():
    values, present = np.arange(10.0)[:, None], np.ones(10, bool)
    present[4] = False
    for by in (3, -3):
        moved, seen = shifted(values, present, by)
        for t in range(10):
            inside = 0 <= t + by < 10
            assert seen[t] == (inside and present[t + by])
            assert not inside or moved[t] == t + by
    assert not shifted(values, present, 64)[1].any()


def test_nothing_is_done_at_level_0(corpus, streams):
    assert corrupted(corpus, streams, Corruption("shift", "audio", 0)) is corpus


@pytest.fixture(scope="module")
def runs(toy_cache, tmp_path_factory):
    base = TrainRecipe("concat", toy_cache.root, tmp_path_factory.mktemp("runs"), **SMALL)
    made = {
        "all": base,
        "dropout": replace(base, modality_dropout=0.3),
        "face": replace(base, head="unimodal", streams=("face",)),
        "no voice": replace(base, streams=("face", "words")),
    }
    return {name: run_train(r, quiet=True) for name, r in made.items()}


@pytest.fixture(scope="module")
def found(toy_cache, runs):
    plan = Plan(pattern="iid", seeds=2)
    return run_robustness([Path(r.folder) for r in runs.values()], toy_cache, "validation", plan, "cpu", quiet=True)


def curve(found, run, modality, kind):
    return [p for p in found.points if (p.run, p.modality, p.kind) == (Path(run.folder).name, modality, kind)]


def test_the_clean_end_of_each_curve_is_what_the_run_reported(found, runs):
    for run in runs.values():
        for p in found.points:
            if p.run == Path(run.folder).name and p.level == 0:
                assert p.mean == pytest.approx(run.evaluations["validation"].raw.mean, abs=1e-12)
                assert p.low < p.mean < p.high
                assert p.smoothed_mean == pytest.approx(run.evaluations["validation"].smoothed.mean, abs=1e-12)


def test_every_level_of_every_kind_is_there_once(found, runs):
    for kind, levels in LEVELS.items():
        assert [p.level for p in curve(found, runs["all"], "audio", kind)] == list(levels)
    assert not curve(found, runs["face"], "audio", "drop")
    assert {p.seeds for p in curve(found, runs["all"], "audio", "noise")} == {1, 2}
    assert {p.seeds for p in curve(found, runs["all"], "audio", "shift")} == {1}


def test_what_matters_costs_and_the_floor_is_the_run_with_what_remains(found, runs):
    drop = curve(found, runs["all"], "visual", "drop")
    assert drop[-1].mean < drop[0].mean - 0.1
    assert curve(found, runs["face"], "visual", "drop")[-1].mean == 0  # a constant has no concordance
    audio = curve(found, runs["all"], "audio", "drop")[0]
    assert audio.floor_run == Path(runs["no voice"].folder).name
    assert audio.floor == pytest.approx(runs["no voice"].evaluations["validation"].raw.mean)
    assert drop[0].floor is None  # no run without a face was given
    lost = [p.mean for p in curve(found, runs["all"], "visual", "shift")]
    assert max(lost) == lost[LEVELS["shift"].index(0)]


def test_areas_are_the_mean_height_of_the_curve():
    def at(level, mean):
        return Point("r", "audio", "drop", "iid", level, 1, 0, 0, mean, 0, None, None, 0, 0.4, "f")

    (area,) = areas([at(0, 0.6), at(50, 0.4), at(100, 0.0)])
    assert area.area == pytest.approx((0.5 * 50 + 0.2 * 50) / 100)
    assert (area.clean, area.floor) == (0.6, 0.4)


def test_curves_are_saved_as_csv_and_drawn(found, tmp_path):
    save_robustness(tmp_path / "out", found)
    with open(tmp_path / "out" / "curves.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["mean"]) for r in rows] == [p.mean for p in found.points]
    assert (
        area_table(found).row_count
        == len(found.areas)
        == len((tmp_path / "out/areas.csv").read_text().splitlines()) - 1
    )
    assert read_robustness(tmp_path / "out") == found
    plot_robustness(tmp_path / "curves.png", found)
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_the_same_again_and_test_is_counted_once_a_run(toy_cache, runs):
    plan, folder = Plan(kinds=("noise",), seeds=1, modalities=("text",)), Path(runs["all"].folder)
    before = len((folder / LOG).read_text().splitlines())
    twice = [run_robustness([folder], toy_cache, "test", plan, "cpu", quiet=True) for _ in range(2)]
    assert twice[0] == twice[1]
    lines = (folder / LOG).read_text().splitlines()
    assert len(lines) == before + 2
    assert "robustness" in lines[-1]


def test_what_does_not_exist_is_named(toy_cache, runs):
    folder = Path(runs["all"].folder)
    with pytest.raises(UsageError, match="kinds are drop, zero, noise, shift"):
        run_robustness([folder], toy_cache, "validation", Plan(kinds=("blur",)), "cpu", quiet=True)
    with pytest.raises(UsageError, match="is no corruption"):
        Corruption("drop", "audio", 10, "sometimes")
