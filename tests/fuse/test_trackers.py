"""Numbers while a run trains: log.jsonl always, trackers through their own libraries, nothing told twice."""

import csv
import importlib.util
import json
import struct
from pathlib import Path

import pytest
import torch

from cache.errors import ConfigError, UsageError
from fuse.recipe import TrainRecipe
from fuse.trackers import LOG, TRACKERS, numbers_of
from fuse.train import run_together, run_train

SMALL = {"tokens": 32, "hop": 16, "batch_size": 4, "lr": 1e-2, "epochs": 4, "checkpoint_s": 0.0, "device": "cpu"}
NEEDS = {n: pytest.mark.skipif(not importlib.util.find_spec(n), reason=f"{n} is not installed") for n in TRACKERS if n}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    """As on a machine where no tracker was ever set up."""
    for name in ("WANDB_MODE", "MLFLOW_TRACKING_URI", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def recipe(toy_cache, tmp_path):
    def make(**more):
        return TrainRecipe(**{"head": "concat", "cache": toy_cache.root, "runs": tmp_path / "runs", **SMALL, **more})

    return make


class Killed(Exception):
    """Stands for the signal."""


def killed_in_epoch(monkeypatch, recipe, epoch):
    """Train until that epoch's first step, where the process dies; the run's folder."""
    steps = []
    clip = torch.nn.utils.clip_grad_norm_

    def dying(*args, **kwargs):
        steps.append(len(lines_so_far(recipe)))
        if steps[-1] >= epoch:
            raise Killed
        return clip(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", dying)
        with pytest.raises(Killed):
            run_train(recipe, quiet=True)


def lines_so_far(recipe):
    found = list(recipe.runs.glob(f"*/*/{LOG}"))
    return [json.loads(line) for line in found[0].read_text().splitlines()] if found else []


def history(result):
    with open(Path(result.folder) / "history.csv") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_every_epoch_is_a_line_that_is_there_before_the_next_one_ends(recipe, monkeypatch):
    killed_in_epoch(monkeypatch, recipe(), 2)
    assert [row["epoch"] for row in lines_so_far(recipe())] == [0, 1]
    result = run_train(recipe(), quiet=True)
    assert lines_so_far(recipe()) == history(result)


def test_a_resumed_run_has_each_epoch_once(recipe, monkeypatch):
    killed_in_epoch(monkeypatch, recipe(), 2)
    result = run_train(recipe(), resume=True, quiet=True)
    assert lines_so_far(recipe()) == history(result)
    assert len(history(result)) == 4


def test_heads_that_are_solved_for_have_one_line(recipe):
    run_train(recipe(head="ridge"), quiet=True)
    assert [row["epoch"] for row in lines_so_far(recipe())] == [0]


def test_a_tracker_is_no_part_of_a_run_s_name_and_changes_no_number(recipe, tmp_path):
    plain = run_train(recipe(runs=tmp_path / "a"), quiet=True)
    with_ = run_train(recipe(runs=tmp_path / "b", tracker="tensorboard"), quiet=True)
    assert Path(plain.folder).name == Path(with_.folder).name
    files = [(Path(r.folder) / "best.safetensors").read_bytes() for r in (plain, with_)]
    assert files[0] == files[1]
    assert plain.evaluations == with_.evaluations


@pytest.mark.parametrize("tracker", [t for t in TRACKERS if t])
def test_a_missing_library_is_one_line_before_anything_is_done(run, toy_cache, tmp_path, monkeypatch, tracker):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == tracker else find(name, *more))
    args = ("train-fusion", "--head", "concat", "--cache", toy_cache.root, "--tracker", tracker)
    code, _, err = run(*args)
    assert code == 2
    assert f"pip install 'affuse[{tracker}]'" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "var").exists()


def test_an_unknown_tracker_is_named(run, toy_cache):
    code, _, err = run("train-fusion", "--head", "concat", "--cache", toy_cache.root, "--set", "tracker=tensorbord")
    assert code == ConfigError.exit_code == UsageError.exit_code
    assert "tracker" in err
    assert "'tensorboard'" in err


def events(folder):
    """(scalars by name as [(step, value)], the accumulator) of a TensorBoard folder."""
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    found = EventMultiplexer({"run": str(folder)}).Reload()
    names = found.Runs()["run"]["scalars"]
    return {n: [(e.step, e.value) for e in found.Scalars("run", n)] for n in names}, found


def test_tensorboard_holds_epochs_settings_and_the_end(recipe, monkeypatch):
    killed_in_epoch(monkeypatch, recipe(tracker="tensorboard"), 2)
    result = run_train(recipe(tracker="tensorboard"), resume=True, quiet=True)
    scalars, found = events(Path(result.folder) / "tensorboard")
    rows = history(result)
    for name, column in (("validation/mean", "mean"), ("train/loss", "loss"), ("train/lr", "lr")):
        assert [s for s, _ in scalars[name]] == [0, 1, 2, 3]
        assert [v for _, v in scalars[name]] == pytest.approx([r[column] for r in rows], rel=1e-6)
    test = result.evaluations["test"]
    assert scalars["final/test/raw/mean"][0][1] == pytest.approx(test.raw.mean, rel=1e-6)
    assert scalars["final/test/smoothed/mean_low"][0][1] == pytest.approx(test.smoothed_interval.mean.low, rel=1e-6)
    about = found.SummaryMetadata("run", "_hparams_/session_start_info").plugin_data.content
    assert b"temporal_options.width" in about
    assert result.folder.encode() in about


@NEEDS["wandb"]
def test_wandb_writes_offline_and_a_resumed_run_is_the_same_one(recipe, monkeypatch):
    killed_in_epoch(monkeypatch, recipe(tracker="wandb"), 2)
    result = run_train(recipe(tracker="wandb"), resume=True, quiet=True)
    folders = sorted((Path(result.folder) / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    ids = {f.name.rpartition("-")[2] for f in folders}
    assert len(ids) == 1
    told = [wandb_records(f) for f in folders]
    assert sorted(row["_step"] for rows, _ in told for row in rows) == [0, 1, 2, 3]
    rows = {row["_step"]: row for rows, _ in told for row in rows}
    assert [rows[i]["validation/mean"] for i in range(4)] == pytest.approx([r["mean"] for r in history(result)])
    summary = {k: v for _, s in told for k, v in s.items()}
    assert summary["final/test/raw/mean"] == pytest.approx(result.evaluations["test"].raw.mean)


def wandb_records(folder):
    """(history rows, summary) of an offline run's own file, once its writer, a process beside, has ended."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # as at the end of a process
    rows, summary = [], {}
    for data in leveldb_records(next(folder.glob("*.wandb")).read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        items = record.history.item if kind == "history" else record.summary.update if kind == "summary" else []
        found = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
        rows += [found] if kind == "history" else []
        summary |= found if kind == "summary" else {}
    return rows, summary


def leveldb_records(data, block=32768):
    """Records of LevelDB's log format behind W&B's 7 bytes: blocks of (crc 4, length 2, type 1, part)."""
    at, part = 7, b""
    while at < len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        part, at = part + data[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield part
            part = b""


@NEEDS["mlflow"]
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
def test_mlflow_holds_epochs_settings_and_the_end(recipe, monkeypatch):
    from mlflow.tracking import MlflowClient

    killed_in_epoch(monkeypatch, recipe(tracker="mlflow"), 2)
    client = MlflowClient(f"sqlite:///{recipe().runs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("toy")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    result = run_train(recipe(tracker="mlflow"), resume=True, quiet=True)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == Path(result.folder).name
    assert run.data.params["epochs"] == "4"
    assert run.data.params["folder"] == result.folder
    told = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "validation/mean")]
    assert sorted(told) == [(i, pytest.approx(r["mean"])) for i, r in enumerate(history(result))]
    assert run.data.metrics["final/test/raw/mean"] == pytest.approx(result.evaluations["test"].raw.mean)
    run_train(recipe(tracker="mlflow"), quiet=True)  # anew, not resumed: another run
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_final_numbers_are_all_that_was_measured(recipe):
    result = run_train(recipe(), quiet=True)
    found = numbers_of(result.evaluations)
    assert found["final/validation/per_recording/arousal"] == result.evaluations["validation"].per_recording.arousal
    assert len(found) == 2 * 3 * 3 * 3


@pytest.mark.parametrize("tracker", ["tensorboard", pytest.param("wandb", marks=NEEDS["wandb"])])
def test_runs_side_by_side_each_have_their_own(recipe, tracker):
    recipes = [recipe(tracker=tracker, epochs=2), recipe(tracker=tracker, head="late", epochs=3)]
    for result in run_together(recipes, quiet=True):
        folder, rows = Path(result.folder), history(result)
        assert len((folder / LOG).read_text().splitlines()) == len(rows) == result.epochs
        if tracker == "tensorboard":
            told = [v for _, v in events(folder / "tensorboard")[0]["validation/mean"]]
        else:
            told = [r["validation/mean"] for r in wandb_records(next((folder / "wandb").glob("offline-run-*")))[0]]
        assert told == pytest.approx([r["mean"] for r in rows], rel=1e-6)
