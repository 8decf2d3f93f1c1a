"""What a worker of a cluster is asked to do, and what is said in a line where it cannot."""

import dataclasses
import os
import sys
import threading
from pathlib import Path

import pytest
import torch

import fuse.heads.concat  # noqa: F401  (registered before a test gives back the heads that it found)
from cache.errors import ConfigError, DataError, MissingData, UsageError
from fuse.cluster import Group, Order, train
from fuse.crossval import run_folds
from fuse.heads import HEADS
from fuse.many import run_many
from fuse.recipe import TrainRecipe
from fuse.runs import RunFolder, held, packages
from fuse.train import run_train
from tests.fuse.test_many import same
from tests.fuse.test_resume import SMALL

TOP = Path(__file__).parents[2]
HEAD = """
from fuse.heads import HEADS
from fuse.heads.concat import Concat

@HEADS.register("own")
class Own(Concat):
    def __init__(self, inputs, cfg):
        super().__init__(inputs, type(cfg)(hidden={hidden}))
"""


def asked(cache, runs, head="concat", **more):
    return TrainRecipe(head, cache=cache.root, runs=runs, **{**SMALL, **more})


@pytest.fixture
def order(tmp_path, monkeypatch):
    """Of a command that was given in an empty folder; this process is the worker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(HEADS, "_classes", dict(HEADS._classes))
    return Order(str(tmp_path), resume=False, packages=packages())


def group(*recipes):
    return Group(tuple(range(len(recipes))), recipes)


def test_a_worker_trains_in_one_thread_in_the_commands_folder_and_gives_the_threads_back(
    toy_cache, order, tmp_path, monkeypatch
):
    alone = run_train(asked(toy_cache, tmp_path / "alone"), quiet=True)
    monkeypatch.chdir("/")
    torch.set_num_threads(2)
    try:
        receipt = train(order, group(asked(toy_cache, Path("runs"))))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert receipt.outcome[0]["folder"].startswith("runs/toy/concat-")
    assert (tmp_path / receipt.outcome[0]["folder"] / "metrics.json").is_file()
    assert receipt.outcome[0]["evaluations"]["test"]["raw"]["mean"] == alone.evaluations["test"].raw.mean


def test_a_worker_without_the_paths_or_the_versions_says_so_in_a_line(toy_cache, order, tmp_path):
    shared = r"workers need the same paths: run on storage that all of them share$"
    with pytest.raises(MissingData, match=rf"does not see the folder /nowhere: .*; {shared}"):
        train(dataclasses.replace(order, folder="/nowhere"), group(asked(toy_cache, tmp_path)))
    with pytest.raises(MissingData, match=rf"a worker on .*: plugin /nowhere/my.py is not a file; {shared}"):
        train(order, group(asked(toy_cache, tmp_path, plugins=(Path("/nowhere/my.py"),))))
    with pytest.raises(MissingData, match=rf"a worker on .*: .*/nowhere.*; {shared}"):
        train(order, group(dataclasses.replace(asked(toy_cache, tmp_path), cache=Path("/nowhere"))))
    other = {**packages(), "torch": "1.0"}
    with pytest.raises(DataError, match=r"a worker on .* has torch 2\S+, wanted 1\.0; give every worker the same vers"):
        train(dataclasses.replace(order, packages=other), group(asked(toy_cache, tmp_path)))
    built = {p: f"{v.partition('+')[0]}+cu999" for p, v in packages().items()}
    assert train(dataclasses.replace(order, packages=built), group(asked(toy_cache, tmp_path, epochs=1))).outcome


def test_a_worker_loads_a_plugin_anew_where_it_has_changed(toy_cache, order, tmp_path):
    plugin = tmp_path / "own.py"
    parameters = []
    for hidden, name in ((4, "Own"), (16, "Renamed")):
        plugin.write_text(HEAD.format(hidden=hidden).replace("Own", name))
        recipe = asked(toy_cache, tmp_path, "own", plugins=(plugin,), epochs=1)
        parameters.append(train(order, group(recipe)).outcome[0]["parameters"])
    assert parameters[0] < parameters[1]


def test_a_run_waits_for_whoever_is_at_work_on_it(toy_cache, tmp_path, caplog):
    first = run_train(asked(toy_cache, tmp_path), quiet=True)
    ended, said = [], threading.Event()

    def heard(record):
        if "another process is at work on" in record.getMessage():
            said.set()
        return True

    caplog.handler.addFilter(heard)
    with caplog.at_level("INFO", "affuse"):
        with held([RunFolder(Path(first.folder))]):
            other = threading.Thread(target=lambda: ended.append(run_train(asked(toy_cache, tmp_path), quiet=True)))
            other.start()
            assert said.wait(60)
            assert not ended
        other.join()
    same(ended[0], first)
    assert not (Path(first.folder) / ".lock").exists()


def test_what_is_complete_is_read_while_another_process_is_at_work_on_it(toy_cache, tmp_path):
    first = run_train(asked(toy_cache, tmp_path), quiet=True)
    with held([RunFolder(Path(first.folder))]):
        assert run_train(asked(toy_cache, tmp_path), resume=True, quiet=True) == first


def test_places_that_contradict_each_other_or_are_not_there_are_said_in_a_line(toy_cache, tmp_path, monkeypatch, run):
    recipes = [asked(toy_cache, tmp_path)]
    with pytest.raises(
        ConfigError, match="a scheduler, whose workers are there, and 2 workers to start are given; give"
    ):
        run_many(recipes, 2, scheduler="tcp://127.0.0.1:1")
    with pytest.raises(ConfigError, match="and a cluster to start are given"):
        run_many(recipes, scheduler="tcp://127.0.0.1:1", cluster="slurm:x.toml")
    with pytest.raises(UsageError, match="0 workers are asked for"):
        run_many(recipes, 0)
    there = ("--cache", toy_cache.root)
    code, _, err = run("train-fusion", "--head", "concat", *there, "--workers", 2)
    assert (code, err.count("\n")) == (2, 1)
    assert "one run is not shared by 2 workers; give --folds N" in err
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, _, err = run("ablate", "--heads", "concat", *there, "--scheduler", "tcp://127.0.0.1:1")
    assert (code, err.count("\n")) == (2, 1)
    assert "a cluster needs Dask" in err
    assert err.endswith("pip install 'affuse[dask]'\n")


def test_a_scheduler_that_is_given_takes_the_place_of_a_recipes_workers(toy_cache, monkeypatch, run):
    """The demo's recipe has two."""
    pytest.importorskip("distributed")
    monkeypatch.setattr("cache.cluster._ANSWER_S", 0.5)
    there = ("--cache", toy_cache.root, "--seeds", 1, "--set", "train.epochs=1", "--recipe", "table.toml")
    Path("table.toml").write_text('workers = 2\n[[rows]]\nlabel = "a"\nhead = "concat"\n')
    code, _, err = run("ablate", *there, "--scheduler", "tcp://127.0.0.1:1")
    assert code == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in err
    code, _, err = run("ablate", *there, "--cluster", "pbs:x.toml")
    assert code == 2
    assert "there is no cluster 'pbs:x.toml'; give slurm:FILE.toml" in err


@pytest.mark.slow
def test_a_process_that_is_killed_is_said_in_a_line(toy_cache, tmp_path, monkeypatch, run):
    plugin = Path(__file__).with_name("fated_plugin.py")
    monkeypatch.setenv("AFFUSE_TEST_FOLDER", str(tmp_path))
    monkeypatch.setattr(HEADS, "_classes", dict(HEADS._classes))
    flags = ("--heads", "fated", "--set", "train.options.fate=poison", "--set", f"train.plugins=['{plugin}']")
    code, _, err = run("ablate", *flags, "--cache", toy_cache.root, "--seeds", 1, "--workers", 2, "--quiet")
    assert code == 1
    assert "a process that trained was killed" in err
    assert "with --resume goes on" in err


@pytest.mark.slow
def test_folds_and_a_single_run_are_trained_by_the_workers_of_a_cluster(toy_cache, tmp_path, monkeypatch, cluster, run):
    pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TOP), os.environ.get("PYTHONPATH", "")]))
    address = cluster(2).address
    recipe = asked(toy_cache, tmp_path / "here", folds=3)
    here = run_folds(recipe, quiet=True)
    there = run_folds(dataclasses.replace(recipe, runs=tmp_path / "there"), scheduler=address, quiet=True)
    for one, other in zip(here.runs, there.runs, strict=True):
        same(one, other)
    assert (there.raw, there.smoothed_interval) == (here.raw, here.smoothed_interval)
    plain = ("--cache", toy_cache.root, "--head", "concat", "--epochs", 1, "--device", "cpu", "--set", "runs=one")
    code, _, err = run("train-fusion", *plain, "--scheduler", address)
    assert code == 0, err
    assert len([*tmp_path.glob("one/toy/*/metrics.json")]) == 1
