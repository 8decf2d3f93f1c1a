"""Shipped recipes are trained as they are, on caches that hold the streams they name."""

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import cli
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.registry import names_of
from cache.store import FeatureCache
from fuse.recipe import SHIPPED, read_table, train_recipe
from fuse.train import run_train

MODALITY = {"r2plus1d": "visual", "resnet50": "visual", "swin": "visual", "spectrogram": "audio"}
DIM = {"r2plus1d": 12, "resnet50": 20, "swin": 6, "spectrogram": 12}
PRESETS = {"two-stream": ("r2plus1d", "spectrogram"), "abaw-resnet50": ("resnet50",)}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Six recordings of 70 frames with labels that any of the streams half tells."""
    rng = np.random.default_rng(0)
    cache = FeatureCache.create(tmp_path_factory.mktemp("preset") / "cache", "toy")
    names, labels, split = [f"r{i}" for i in range(6)], {}, {}
    for i, name in enumerate(names):
        cache.timelines.write(name, Timeline(np.arange(70) / 25, 70 / 25))
        va = np.clip(np.cumsum(rng.normal(size=(70, 2)), 0) * 0.1, -1, 1).astype(np.float32)
        labels[name] = Labels(va, np.ones(70, bool))
        split[name] = ("train", "train", "train", "train", "validation", "test")[i]
        for stream, dim in DIM.items():
            spec = cache.declare(stream, MODALITY[stream], dim, {"encoder": stream}, {})
            mix = np.random.default_rng(dim).normal(size=(2, dim))
            values = (va @ mix + rng.normal(size=(70, dim)) * 0.2).astype(np.float32)
            cache.write(spec.key, name, Aligned(values, np.ones(70, bool)))
    cache.labels.write("va", labels, Partitions(split, {n: n for n in names}))
    return cache


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_trains_its_streams_and_no_others(cache, tmp_path, preset):
    recipe = train_recipe(cache.root, Path(preset), {"runs": tmp_path, "epochs": 60, "batch_size": 4, "lr": 3e-2})
    result = run_train(recipe, quiet=True)
    assert (result.head, tuple(result.streams)) == ("linear", PRESETS[preset])
    assert result.parameters == 2 * sum(DIM[s] for s in PRESETS[preset]) + 2
    assert result.evaluations["validation"].raw.mean > 0.5


def test_a_preset_is_named_on_the_command_line_and_flags_go_over_it(cache, tmp_path):
    command = [
        "train-fusion",
        "--recipe",
        "two-stream",
        "--cache",
        str(cache.root),
        "--epochs",
        "1",
        "--quiet",
        "--json",
    ]
    done = CliRunner().invoke(cli.app, [*command, "--visual", "swin", "--set", f"runs={tmp_path}"])
    assert done.exit_code == 0, done.output
    assert '"swin"' in done.output
    assert '"r2plus1d"' not in done.output


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda p: p.stem)
def test_recipes_name_encoders_that_exist_in_commands_that_exist(path):
    data = read_table(Path(path.stem))
    plays = data.get("streams", {})
    streams = {s for part in (data.get("train", {}), *data.get("rows", [])) for s in part.get("streams", [])}
    streams = {plays.get(s, s) for s in streams}
    assert streams <= set(names_of("extract.encoders"))
    for told in re.findall(r"--(?:visual|audio|encoder) ([a-z0-9,-]+)", path.read_text()):
        assert set(told.split(",")) <= set(names_of("extract.encoders"))
