"""A run's streams made again from their records alone: crops, words and aliases included."""

import json

import numpy as np
import pytest

from cache.errors import DataError, UnknownName, UsageError
from cache.store import FeatureCache
from extract.again import Again, run_again
from extract.detector import Face
from extract.faces import TEMPLATE
from extract.recipe import extract_recipe
from extract.run import run_extract
from fuse.feeding.streams import describe

PTS = np.cumsum(np.tile([0.03, 0.05], 20))


def red(i):
    rgb = np.full((160, 160, 3), 30, np.uint8)
    rgb[10:120, 10:120] = 200 - 2 * i
    return rgb


@pytest.fixture
def detector(monkeypatch):
    """Instead of YuNet: always a face in the upper left, but for the darkest pictures."""

    def detect(rgb):
        seen = rgb[60, 60, 0] > 140
        return [Face(np.array([0.0, 0, 112, 112]), TEMPLATE.copy(), 0.9)] if seen else []

    monkeypatch.setattr("extract.faces.find_detector", lambda spec: spec)
    monkeypatch.setattr("extract.faces.weights_hash", lambda path: f"sha-of-{path}".rpartition("/")[2])
    monkeypatch.setattr("extract.faces.open_detector", lambda path: detect)


@pytest.fixture
def film(media, tmp_path):
    sound = np.random.default_rng(0).normal(size=32_000).astype(np.float32) * 0.2
    return media(tmp_path / "a.mp4", PTS, picture=red, size=160, sound=sound)


def extract(root, cache, **streams):
    none = {"visual": [], "audio": [], "text": []}
    data = {"dataset": "manifest", "root": root, "cache": cache, "device": "cpu", **none, **streams}
    assert not run_extract(extract_recipe(data), quiet=True).failures


def records(cache):
    """As a run keeps them: through JSON."""
    store = FeatureCache(cache)
    return json.loads(json.dumps(describe(store, [store.stream(k) for k in store.stream_keys()])))


def same(old, new):
    """Whether every stream of a corpus's recording ``a`` is, bit for bit, that of the new media."""
    store, made = FeatureCache(old), FeatureCache(new.cache)
    for key in store.stream_keys():
        was, now = store.read(key, "a"), made.read(key, new.recordings["a"])
        np.testing.assert_array_equal(was.values, now.values)
        np.testing.assert_array_equal(was.present, now.present)
    return len(store.stream_keys())


def test_whole_frames_and_crops_side_by_side_aliases_and_boxes(light_encoders, detector, film, manifest, tmp_path):
    root, cache = manifest(a={"video": film}), tmp_path / "cache"
    extract(root, cache, visual=["whole=brightness@gain=2"], audio=["loudness"], align="nearest", dtype="float32")
    extract(root, cache, visual=["face=brightness"], faces="largest", face_weights="yunet.onnx")
    pushed = light_encoders["loudness"].pushed
    new = run_again([film], records(cache), Again(tmp_path / "new", device="cpu"), quiet=True)
    assert same(cache, new) == 4  # face-box among them
    assert light_encoders["loudness"].pushed == pushed + 1
    face = FeatureCache(new.cache).read(new.keys["face"], new.recordings["a"]).present
    assert 0 < face.sum() < len(PTS)
    assert run_again([film], records(cache), Again(tmp_path / "new", device="cpu"), quiet=True).made == 0


def test_another_detector_is_another_stream(light_encoders, detector, film, manifest, tmp_path):
    extract(manifest(a={"video": film}), tmp_path / "cache", visual=["brightness"], faces="largest")
    how = Again(tmp_path / "new", face_weights="other.onnx")
    for key, about in records(tmp_path / "cache").items():  # brightness and face-box
        told = r"faces.weights = .sha-of-hub., here .sha-of-other.onnx.*; .*--face-weights"
        with pytest.raises(DataError, match=told):
            run_again([film], {key: about}, how, quiet=True)
    with pytest.raises(UsageError, match=r"crops faces itself \(largest\)"):
        run_again([film], records(tmp_path / "cache"), Again(tmp_path / "new", faces="tracked"), quiet=True)


def test_an_encoder_that_is_not_here_is_named(light_encoders, film, manifest, tmp_path, monkeypatch):
    extract(manifest(a={"video": film}), tmp_path / "cache", visual=["brightness"])
    monkeypatch.undo()
    with pytest.raises(UnknownName, match="unknown encoder 'brightness'"):
        run_again([film], records(tmp_path / "cache"), Again(tmp_path / "new"), quiet=True)


def test_an_options_of_no_stream_is_refused(light_encoders, film, manifest, tmp_path):
    extract(manifest(a={"video": film}), tmp_path / "cache", visual=["brightness"])
    with pytest.raises(UsageError, match="options for lightness are given; the run's streams are brightness"):
        run_again([film], records(tmp_path / "cache"), Again(tmp_path / "new", {"lightness": {"gain": 2}}))
    with pytest.raises(DataError, match=r"gain = 1.0, here 2.0"):
        run_again([film], records(tmp_path / "cache"), Again(tmp_path / "new", {"brightness": {"gain": 2}}))


def test_crops_alone_are_media_too(light_encoders, film, manifest, tmp_path):
    from PIL import Image

    folder = tmp_path / "a"
    folder.mkdir()
    for i in (0, 1, 4):
        Image.fromarray(red(i)).save(folder / f"{i + 1:05d}.png")
    film.unlink()
    extract(manifest(a={"crops": folder}), tmp_path / "cache", visual=["brightness"], fps=25)
    new = run_again([folder], records(tmp_path / "cache"), Again(tmp_path / "new", fps=25.0), quiet=True)
    assert same(tmp_path / "cache", new) == 1
    assert not [n for n in new.notes if "whole frames" in n]
