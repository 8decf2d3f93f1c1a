"""The command line: help that helps, one line for each mistake, the right exit code, the user's own two commands."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer

import cli
from cache.records import Aligned, Timeline
from cache.store import FeatureCache

TOP = Path(__file__).parents[1]


def _commands(group, before=""):
    """Every command there is, as it is typed."""
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from _commands(one, f"{before}{name} ")
        else:
            yield f"{before}{name}"


COMMANDS = sorted(_commands(typer.main.get_command(cli.app)))


def test_commands_of_all_rooms_are_found():
    assert {"extract", "train-fusion", "demo", "cache verify", "cache import", "cache inspect"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_starts_like_the_command(run, command):
    code, out, _ = run(*command.split(), "--help")
    assert code == 0
    assert f"Example: python cli.py {command}" in re.sub(r"\s+", " ", out)


def test_unknown_head_is_one_line_with_a_suggestion(run, toy_cache):
    code, _, err = run("train-fusion", "--head", "mavne", "--cache", toy_cache.root)
    assert code == 2
    assert "did you mean 'maven'" in err
    assert err.count("\n") == 1


def test_missing_cache_says_how_to_make_one(run):
    code, _, err = run("train-fusion", "--head", "maven")
    assert code == 1
    assert "make demo" in err
    assert err.count("\n") == 1


def test_several_caches_are_listed(run, tmp_path):
    for name in ("affwild2", "recola"):
        FeatureCache.create(tmp_path / "var" / "cache" / name, name)
    code, _, err = run("train-fusion", "--head", "maven")
    assert code == 2
    assert "affwild2, recola" in err
    assert "--dataset affwild2" in err


def test_wrong_root_is_one_line(run, tmp_path):
    code, _, err = run("extract", "--dataset", "affwild2")
    assert code == 1
    assert "no folder at data/affwild2" in err
    (tmp_path / "data" / "affwild2").mkdir(parents=True)
    code, _, err = run("extract", "--dataset", "affwild2")
    assert code == 1
    assert "Train_Set and Validation_Set" in err
    assert err.count("\n") == 1


def test_unknown_dataset_and_option(run, tmp_path):
    code, _, err = run("extract", "--dataset", "afwild2", "--root", tmp_path)
    assert code == 2
    assert "did you mean 'affwild2'" in err
    (tmp_path / "manifest.csv").write_text("id,video\na,b.mp4\n")
    code, _, err = run("extract", "--dataset", "manifest", "--root", tmp_path, "--set", "swin.sise=micro")
    assert code == 2
    assert "did you mean 'size'" in err


def test_pitfall_32_no_weights_offline_is_one_line(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "manifest.csv").write_text("id,video\na,b.mp4\n")
    args = ("extract", "--dataset", "manifest", "--root", tmp_path, "--audio", "none", "--text", "none")
    process = subprocess.run(
        [sys.executable, TOP / "cli.py", *args], capture_output=True, text=True, cwd=tmp_path, env=_offline(tmp_path)
    )
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1
    assert "weights" in process.stderr
    assert "Traceback" not in process.stderr


def _offline(home):
    import os

    return {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home / "hub")}


@pytest.mark.slow
def test_some_failed_recordings_are_exit_3_and_json_is_alone_on_stdout(run, media, tmp_path):
    media(tmp_path / "good.mp4", np.arange(30) / 25)
    (tmp_path / "bad.mp4").write_text("not a film")
    (tmp_path / "manifest.csv").write_text("id,video\ngood,good.mp4\nbad,bad.mp4\n")
    sizes = ("--set", "swin.size=micro", "--set", "swin.weights=random:0")
    args = (
        "extract",
        "--dataset",
        "manifest",
        "--root",
        tmp_path,
        "--audio",
        "none",
        "--text",
        "none",
        *sizes,
        "--json",
    )
    code, out, _ = run(*args)
    assert code == 3
    result = json.loads(out)
    assert result["made"] == 1
    assert result["failures"][0]["recording"] == "bad"
    code, out, _ = run("cache", "info", "--json")
    assert json.loads(out)["streams"][0]["recordings"] == 1


@pytest.mark.slow
def test_a_plugin_head_trains_from_the_command_line(run, toy_cache, tmp_path):
    (tmp_path / "my_head.py").write_text(PLUGIN)
    args = ("train-fusion", "--head", "gated", "--plugin", tmp_path / "my_head.py", "--cache", toy_cache.root)
    code, out, _ = run(*args, "--epochs", 1, "--tokens", 32, "--json")
    assert code == 0
    result = json.loads(out)
    assert result["head"] == "gated"
    environment = json.loads(Path(result["folder"], "environment.json").read_text())
    assert len(environment["plugins"]["my_head.py"]) == 64


PLUGIN = '''
import torch
from torch import nn
from fuse.heads import HEADS, Head, visible


@HEADS.register("gated")
class Gated(Head):
    """Each stream votes, weighted by a gate that only streams that are there may open."""

    def __init__(self, inputs, cfg):
        super().__init__(inputs, cfg)
        self.vote = nn.ModuleDict({m: nn.Linear(d, 2) for m, d in inputs.dims.items()})
        self.gate = nn.ModuleDict({m: nn.Linear(d, 1) for m, d in inputs.dims.items()})

    def forward(self, x, present, real):
        x, seen = visible(x, present, real)
        votes = [torch.sigmoid(self.gate[m](x[m])) * self.vote[m](x[m]) * seen[m].unsqueeze(-1) for m in x]
        return torch.stack(votes).sum(0)  # (B, L, 2)
'''


def test_lists_name_what_there_is(run):
    assert "maven" in run("list", "heads")[1]
    assert "swin" in run("list", "encoders")[1]
    assert json.loads(run("list", "datasets", "--json")[1]) == ["affwild2", "demo", "manifest", "recola"]
    assert run("list", "models")[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_pitfall_16_interrupted_is_exit_130_and_says_what_is_kept(toy_cache, tmp_path, kind):
    args = ["train-fusion", "--head", "concat", "--cache", toy_cache.root, "--epochs", "100000", "--tokens", "8"]
    args += ["--set", "patience=100000", "--set", "hop=8"]
    pipe = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True, "cwd": tmp_path}
    with subprocess.Popen([sys.executable, TOP / "cli.py", *map(str, args)], **pipe) as process:
        time.sleep(0.3)
        while not list(tmp_path.glob("var/runs/*/*/recipe.json")):
            time.sleep(0.1)
        process.send_signal(kind)
        assert process.wait(30) == 130
        assert "run the same command with --resume to go on" in process.stderr.read()


def test_a_stream_is_explained_compared_and_pruned(run, tmp_path):
    cache = FeatureCache.create(tmp_path / "cache", "toy")
    cache.timelines.write("a", Timeline([0.0, 0.04], 0.08))
    keys = [cache.declare("face", "visual", 2, {"encoder": "face", "layer": n}, {}).key for n in (1, 2)]
    for i, key in enumerate(keys):
        cache.write(key, "a", Aligned([[1, i], [0, 1]] * np.ones((1, 1), np.float32), np.ones(2, bool)))
    there = ("--cache", cache.root)
    assert "layer" in run("cache", "why", keys[0], *there)[1]
    assert json.loads(run("cache", "why", keys[0], *there, "--json")[1])["apart"] == {keys[1]: {"layer": [1, 2]}}
    assert run("cache", "why", "face", *there)[0] == 1
    code, out, _ = run("cache", "diff", *keys, *there, "--json")
    assert code == 0
    assert json.loads(out)["recordings"][0]["cosine_worst"] == pytest.approx(0.5**0.5, abs=1e-6)
    assert run("cache", "prune", *there, "--yes")[0] == 2
    assert "nothing is removed without --yes" in run("cache", "prune", *there, "--stream", keys[0])[1]
    assert run("cache", "prune", *there, "--stream", keys[0], "--yes")[0] == 0
    assert cache.stream_keys() == keys[1:]


def test_a_receipt_is_written_and_compared_with(run, toy_cache, tmp_path):
    there = ("--cache", toy_cache.root, "--quiet")
    code, out, _ = run("cache", "receipt", *there)
    assert code == 0
    receipt = json.loads(out)
    run("cache", "receipt", *there, "--out", tmp_path / "r.json")
    assert (tmp_path / "r.json").read_text() == out
    assert run("cache", "verify", *there, "--against", tmp_path / "r.json")[0] == 0
    receipt["recordings"]["rec3"]["sha256"] = "0" * 64
    (tmp_path / "r.json").write_text(json.dumps(receipt))
    code, out, _ = run("cache", "verify", *there, "--against", tmp_path / "r.json", "--json")
    assert code == 1
    assert json.loads(out)["differences"] == [
        {"what": "timeline", "recording": "rec3", "stream": "", "how": "frame times differ"}
    ]
    (tmp_path / "r.json").write_text("{}")
    code, _, err = run("cache", "verify", *there, "--against", tmp_path / "r.json")
    assert code == 1
    assert err.count("\n") == 1


def test_a_recording_is_drawn(run, toy_cache, tmp_path):
    code, out, _ = run("cache", "inspect", "rec3", "--cache", toy_cache.root)
    assert code == 0
    assert "--root" in out
    assert (tmp_path / "var" / "inspect" / "rec3.png").is_file()
    code, _, err = run("cache", "inspect", "rec99", "--cache", toy_cache.root)
    assert code == 1
    assert "did you mean 'rec" in err


def test_help_lists_commands_in_the_order_they_are_met(run):
    code, out, _ = run("--help")
    listed = re.findall(r"^│ ([a-z]+(?:-[a-z]+)*)  +\S", out, re.MULTILINE)
    assert code == 0
    assert listed[:6] == ["demo", "doctor", "extract", "index", "train-encoder", "train-fusion"]
    assert listed[-1] == "cache"
    assert set(listed) == set(cli.ORDER) & set(listed)
