"""Maps that the page is given: a head's own numbers, of the right window, without a label, a window at a time."""

import base64
import csv
import dataclasses
import http.client
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from cache.labels import LabelStore
from cache.records import Aligned, Timeline
from cache.store import FeatureCache
from fuse.feeding.locked import LOG
from fuse.feeding.windows import make_windows
from fuse.finished import load_run
from fuse.heads._base import look
from fuse.prediction_files import save_predictions
from fuse.recipe import TrainRecipe
from fuse.train import run_train
from fuse.view import maps
from fuse.view.data import open_shelf
from fuse.view.maps import SIDE, Maps, binned, most_central
from fuse.view.server import listen, make_app, make_server
from fuse.view.sources import open_sources

SMALL = {"epochs": 1, "device": "cpu", "batch_size": 8}
KINDS = {
    "maven": {"options": {"d": 16, "d_proj": 24, "d_att": 8}, "tokens": 40, "hop": 20},
    "can": {"options": {"width": 8}, "tokens": 40, "hop": 20},
    "jca": {"options": {"width": 8, "k": 4}, "tokens": 4, "hop": 2, "stride": 8},
    "concat": {"tokens": 40, "hop": 20},
}


@pytest.fixture(scope="module")
def runs(toy_cache, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    made = (run_train(TrainRecipe(h, toy_cache.root, root, **SMALL, **k), quiet=True) for h, k in KINDS.items())
    return {h: Path(run.folder) for h, run in zip(KINDS, made, strict=True)}


def maps_of(cache, *folders, **more):
    shelf = open_shelf(open_sources(folders), cache, **more)
    return Maps(shelf), shelf


@pytest.fixture(scope="module")
def app(runs, toy_cache):
    """Sends one raw request to a running server; returns (status, body)."""
    sock = listen(0)
    server = make_server(make_app(open_shelf(open_sources([runs["maven"]]), toy_cache), "token"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()

    def send(path):
        connection = http.client.HTTPConnection("127.0.0.1", sock.getsockname()[1], timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    yield send
    server.should_exit = True
    thread.join()
    sock.close()


def decoded(one):
    codes = np.frombuffer(base64.b64decode(one["values"]), np.uint8).reshape(one["rows"], one["columns"]).astype(float)
    if one["over"] == "features":
        return (codes - 128) / 127 * one["top"]
    return np.where(codes > 0, (codes - 1) / 254 * one["top"], 0)


@pytest.mark.parametrize(("head", "frame"), [("maven", 0), ("maven", 61), ("can", 124), ("jca", 70)])
def test_maps_are_the_heads_own_of_that_window(runs, toy_cache, head, frame):
    made, shelf = maps_of(toy_cache, runs[head])
    answer = made.around(shelf.names.index("rec5"), 0, frame)
    frames = answer["frames"]
    assert frame in answer["shows"]
    assert set(answer["shows"]) <= set(frames)
    run = load_run(runs[head])
    x, present = {}, {}
    for spec in run.streams:
        stored, there = toy_cache.reader(spec.key).recording("rec5")
        stats = run.stats[spec.name]
        values = np.where(there[frames][:, None], (np.asarray(stored)[frames] - stats.mean) / stats.std, 0)
        x[spec.name], present[spec.name] = (
            torch.tensor(values, dtype=torch.float32)[None],
            torch.tensor(there[frames])[None],
        )
    wanted = look(run.head, x, present, torch.ones(1, len(frames), dtype=torch.bool))
    sent = [one for stage in answer["stages"] for one in stage["maps"]]
    assert [(o["query"], tuple(o["keys"]), o["over"]) for o in sent] == [(w.query, w.keys, w.over) for w in wanted]
    for one, want in zip(sent, wanted, strict=True):
        weights = want.weights[0].numpy()
        np.testing.assert_allclose(decoded(one), weights, atol=one["top"] / 200)
        if one["over"] != "features":
            assert (
                np.array_equal(decoded(one) == 0, weights == 0) or (weights[decoded(one) == 0] < one["top"] / 254).all()
            )
            assert not decoded(one)[weights == 0].any()


def test_every_frame_has_the_window_that_it_is_most_central_in():
    for tokens, stride, hop, length in ((5, 1, 2, 23), (4, 3, 2, 40), (8, 1, 8, 5), (6, 2, 1, 31)):
        windows = make_windows([length], tokens, stride, hop)
        chosen = most_central(windows, length)
        for frame, row in enumerate(chosen):
            margins = {}
            for r, held in enumerate(windows.frame):
                real = held[held >= 0].tolist()
                if frame in real:
                    margins[r] = min(real.index(frame), len(real) - 1 - real.index(frame))
            assert margins[row] == max(margins.values())


def test_a_window_is_computed_once_and_the_last_few_are_kept(runs, toy_cache, monkeypatch):
    made, _ = maps_of(toy_cache, runs["jca"])
    looked, real_look = [], maps.look
    monkeypatch.setattr(maps, "look", lambda *given: looked.append(1) or real_look(*given))
    first = made.around(0, 0, 3)
    assert made.around(0, 0, 3) is first
    assert len(looked) == 1
    for frame in range(40):
        made.around(0, 0, frame)
    windows = len(looked)
    assert windows > maps.LAST
    assert sum(key[0] == "answer" for key in made._kept) == maps.LAST
    made.around(0, 0, 39)
    assert len(looked) == windows
    made.around(0, 0, 3)
    assert len(looked) == windows + 1


def test_maps_of_test_open_no_label_and_are_not_counted(runs, toy_cache, tmp_path, monkeypatch):
    run = shutil.copytree(runs["maven"], tmp_path / "run")
    made, shelf = maps_of(toy_cache, run, partition="test")
    before = list(csv.reader((run / LOG).read_text().splitlines()))

    def never(*_):
        raise AssertionError("a label was read")

    monkeypatch.setattr(LabelStore, "read", never)
    for number in range(len(shelf.names)):
        assert made.around(number, 0, 50)["stages"]
    assert list(csv.reader((run / LOG).read_text().splitlines())) == before


def test_where_there_is_no_map_a_line_says_why(runs, toy_cache, tmp_path):
    shutil.copytree(runs["maven"] / "predictions" / "validation", tmp_path / "files")
    save_predictions(tmp_path / "files", "holiday", np.arange(30) / 30, np.zeros((30, 2)))
    made, shelf = maps_of(toy_cache, runs["concat"], tmp_path / "files", runs["maven"])
    number = shelf.names.index("rec5")
    answer = made.around(number, 0, 5)
    assert answer["note"] == "This head (concat on face, voice, words) has no attention to show."
    assert answer["stages"] == []
    assert "predictions alone" in made.around(number, 1, 5)["note"]
    assert "not in the cache" in made.around(shelf.names.index("holiday"), 2, 5)["note"]

    bare = FeatureCache.create(tmp_path / "bare", "toy")
    pts = toy_cache.timelines.read("rec5").pts
    bare.timelines.write("rec5", Timeline(pts, 9.0))
    spec = bare.declare("face", "visual", 6, {"encoder": "another"}, {})
    bare.write(spec.key, "rec5", Aligned(np.zeros((len(pts), 6), np.float32), np.ones(len(pts), bool)))
    made, shelf = maps_of(bare, runs["maven"])
    note = made.around(shelf.names.index("rec5"), 0, 5)["note"]
    assert "made with other settings" in note
    assert "\n" not in note


def test_a_head_that_diverged_is_a_line(runs, toy_cache, monkeypatch):
    def diverged(*given):
        return [dataclasses.replace(one, weights=one.weights * float("nan")) for one in look(*given)]

    monkeypatch.setattr(maps, "look", diverged)
    made, _ = maps_of(toy_cache, runs["maven"])
    assert "not finite" in made.around(0, 0, 30)["note"]


def test_a_recording_that_lacks_a_stream_is_a_line(runs, toy_cache, tmp_path):
    cache = FeatureCache(shutil.copytree(toy_cache.root, tmp_path / "cache"))
    pts = np.arange(60) / 25
    cache.timelines.write("new", Timeline(pts, 2.4))
    key = next(k for k in cache.stream_keys() if k.startswith("face"))
    cache.write(key, "new", Aligned(np.zeros((60, 6), np.float32), np.ones(60, bool)))
    made, shelf = maps_of(cache, runs["maven"])
    assert "lacks voice of 'new'" in made.around(shelf.names.index("new"), 0, 5)["note"]


def test_long_windows_are_summed_into_cells_that_keep_their_total():
    weights = np.random.default_rng(0).dirichlet(np.ones(1000), 1000).astype(np.float32)
    small = binned(weights, total=True)
    assert small.shape == (250, 250)
    np.testing.assert_allclose(small.sum(axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(small[3, 7], weights[12:16, 28:32].sum(axis=1).mean(), rtol=1e-4)
    assert max(binned(weights[:301, :301], total=True).shape) <= SIDE
    np.testing.assert_allclose(binned(weights, total=False)[3, 7], weights[12:16, 28:32].mean(), rtol=1e-4)
    assert np.array_equal(binned(weights[:300, :300].copy(), total=True), weights[:300, :300])


@pytest.mark.parametrize("path", [
    "/recordings/99/maps/0/0", "/recordings/0/maps/9/0", "/recordings/0/maps/0/100000", "/recordings/-1/maps/0/0",
    "/recordings/0/maps/-1/0", "/recordings/0/maps/0/-1", "/recordings/0/maps/0/1e3", "/recordings/0/maps/0/",
    "/recordings/0/maps/0/..%2f0", "/recordings/%00/maps/0/0", f"/recordings/{10**30}/maps/0/0",
    f"/recordings/0/maps/{10**30}/0", f"/recordings/0/maps/0/{10**30}", f"/recordings/0/maps/0/{'9' * 5000}",
    f"/recordings/{'9' * 5000}", f"/media/{'9' * 5000}",
])  # fmt: skip
def test_addresses_that_are_none_of_a_map_are_refused(app, path):
    assert app(f"/token{path}")[0] == 404


def test_an_address_of_a_map_answers(app):
    status, body = app("/token/recordings/0/maps/0/3")
    assert status == 200
    assert json.loads(body)["head"] == "maven"
