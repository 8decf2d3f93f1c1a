"""A corpus or an encoder of one's own lives in a file outside the repository: ``--plugin FILE``."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import cli
from cache.store import FeatureCache
from extract.datasets import DATASETS
from extract.encoders import ENCODERS

EXAMPLE = Path(__file__).with_name("my_corpus.py")
CFR = np.arange(50) / 25
ENCODER = """
from dataclasses import dataclass
import numpy as np
from cache.records import Track
from extract.encoders import ENCODERS, Encoder

@dataclass(frozen=True)
class Config:
    weights: str = "none"

@ENCODERS.register("redness")
class Redness(Encoder):
    modality, dim, Config = "visual", 1, Config
    def signature(self):
        return ["none"]
    def load(self, device):
        self.weights_hash = "none"
    def push(self, block):
        return Track(block.spans, np.array([[f[..., 0].mean() / 255] for f in block.rgb], np.float32))
"""


@pytest.fixture
def plugins():
    """What plugins register is forgotten after the test; what is built in and was imported meanwhile is not."""
    yield
    for registry in (DATASETS, ENCODERS):
        for name in [n for n, c in registry._classes.items() if c.__module__.startswith("affuse_plugin_")]:
            del registry._classes[name]
    for name in [m for m in sys.modules if m.startswith("affuse_plugin_")]:
        del sys.modules[name]


@pytest.fixture
def lectures(tmp_path, media) -> Path:
    root = tmp_path / "lectures"
    (root / "films").mkdir(parents=True)
    (root / "ratings").mkdir()
    for name, level in (("one", 0.1), ("two", 0.2), ("three", 0.3)):
        media(root / "films" / f"{name}.mp4", CFR, sound=np.full(32_000, level, np.float32))
    for name in ("one", "two"):
        rows = "".join(f"{t};{1 + t / 250};5\n" for t in range(0, 2000, 100))
        (root / "ratings" / f"{name}.csv").write_text("time;valence;arousal\n" + rows)
    (root / "films.csv").write_text("film,speaker,set\none,anna,train\ntwo,ben,validation\nthree,eva,test\n")
    return root


def command(name, *more):
    return CliRunner().invoke(cli.app, [name, *map(str, more)])


def test_the_readmes_corpus_goes_through_doctor_extract_and_index(lectures, tmp_path, plugins, light_encoders):
    corpus = ["--plugin", EXAMPLE, "--dataset", "lectures", "--root", lectures]
    cache = ["--cache", tmp_path / "cache"]
    examined = command("doctor", *corpus, "--json")
    assert examined.exit_code == 0, examined.output
    assert json.loads(examined.stdout)["findings"] == []
    streams = ["--visual", "brightness", "--audio", "none", "--text", "none", "--quiet"]
    assert command("extract", *corpus, *cache, *streams).exit_code == 0
    made = FeatureCache(tmp_path / "cache")
    assert made.dataset == "lectures"
    split = made.labels.partitions("va")
    assert split.of == {"one": "train", "two": "validation", "three": "test"}
    assert split.subjects["three"] == "eva"
    labels = made.labels.read("va", "one")
    assert labels.labelled[:48].all()
    np.testing.assert_allclose(labels.va[:48, 0], np.minimum(CFR[:48], 1.9) - 1, atol=1e-5)
    np.testing.assert_allclose(labels.va[:48, 1], 0, atol=1e-6)
    (lectures / "ratings" / "three.csv").write_text("time;valence;arousal\n0;1;1\n1000;9;9\n")
    assert command("index", *corpus, *cache).exit_code == 0
    assert made.labels.recordings("va") == ["one", "three", "two"]
    (lectures / "films.csv").unlink()
    result = command("extract", *corpus, *cache, *streams)
    assert result.exit_code == 1
    assert "no films.csv in" in result.stderr


def test_the_readme_shows_this_very_file():
    readme = Path(cli.__file__).with_name("README.md").read_text(encoding="utf-8")
    assert EXAMPLE.read_text(encoding="utf-8") in readme


def test_an_encoder_is_trained_on_a_corpus_of_ones_own(lectures, tmp_path, plugins):
    corpus = ["--plugin", EXAMPLE, "--dataset", "lectures", "--root", lectures, "--json"]
    settings = ["--set", "options.size=micro", "--set", f"out={tmp_path / 'out'}", "--epochs", "1", "--fps"]
    trained = command("train-encoder", "--encoder", "resnet18", *corpus, *settings, 30, "--quiet")
    assert trained.exit_code == 0, trained.output
    made = json.loads(trained.stdout)
    assert made["examples"] == {"train": 10, "validation": 10}
    assert made["use"].endswith(f" --plugin {EXAMPLE}")
    recipe = json.loads((Path(made["folder"]) / "recipe.json").read_text())
    assert (recipe["fps"], recipe["plugins"]) == (30.0, [str(EXAMPLE)])
    refused = command("train-encoder", "--encoder", "resnet18", *corpus, *settings, 0)
    assert refused.exit_code == 2
    assert "fps is 0; wanted frames a second" in refused.stderr


def test_an_encoder_of_ones_own(lectures, tmp_path, plugins, monkeypatch):
    monkeypatch.setattr("extract.streams.torch_device", lambda name: None)
    (tmp_path / "my_encoder.py").write_text(ENCODER)
    (tmp_path / "recipe.toml").write_text(f'plugins = ["{tmp_path / "my_encoder.py"}", "{EXAMPLE}"]\n')
    more = ["--recipe", tmp_path / "recipe.toml", "--visual", "redness", "--audio", "none", "--text", "none"]
    result = command("extract", "--dataset", "lectures", "--root", lectures, "--cache", tmp_path / "cache", *more)
    assert result.exit_code == 0, result.output
    cache = FeatureCache(tmp_path / "cache")
    assert cache.read(cache.resolve("redness").key, "one").values.shape == (50, 1)


def test_a_plugin_that_is_not_there_or_fails_is_one_line(tmp_path, plugins):
    result = command("doctor", "--plugin", tmp_path / "gone.py", "--dataset", "lectures", "--root", tmp_path)
    assert result.exit_code == 1
    assert "gone.py is not a file" in result.stderr
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    result = command("doctor", "--plugin", tmp_path / "broken.py", "--dataset", "lectures", "--root", tmp_path)
    assert "broken.py failed: ModuleNotFoundError" in result.stderr
    result = command("doctor", "--dataset", "lectures", "--root", tmp_path)
    assert result.exit_code == 2
    assert "unknown dataset 'lectures'" in result.stderr
