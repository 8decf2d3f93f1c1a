"""What the page is given: numbers that are those of the files, test labels counted, and nothing outside the folders."""

import csv
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import cli
from cache.errors import CacheError, MissingData, UsageError
from cache.ids import folder_of
from cache.labels import LabelStore
from cache.records import Labels, Partitions, Timeline
from cache.store import FeatureCache
from fuse.feeding.locked import LOG
from fuse.prediction_files import save_predictions
from fuse.recipe import TrainRecipe
from fuse.train import run_train
from fuse.view.data import cache_of, open_shelf
from fuse.view.server import HEADERS, listen, make_app, make_server
from fuse.view.sources import open_sources

TOP = Path(__file__).parents[2]
SMALL = {"tokens": 32, "hop": 16, "batch_size": 8, "lr": 1e-2, "epochs": 2, "device": "cpu"}
HOSTILE = "../../etc/<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def run(toy_cache, tmp_path_factory):
    made = run_train(TrainRecipe("concat", toy_cache.root, tmp_path_factory.mktemp("runs"), **SMALL), quiet=True)
    return Path(made.folder)


def shelf_of(cache, *folders, partition=None, **more):
    return open_shelf(open_sources(folders), cache, partition, **more)


def test_ccc_of_the_list_is_that_of_the_curves_that_are_drawn(run, toy_cache, tmp_path):
    shutil.copytree(run / "predictions" / "validation", tmp_path / "files")
    listing = shelf_of(toy_cache, run, tmp_path / "files").listing
    assert listing["runs"] == [run.name, "files"]
    scored = [r for r in listing["recordings"] if r["partition"] == "validation"]
    assert len(scored) == 2
    for row in scored:
        by_run, by_files = row["ccc"]
        assert by_run == pytest.approx(by_files, abs=1e-5)
        assert row["seconds"] == pytest.approx(toy_cache.timelines.read(row["id"]).end)
    trained = [r for r in listing["recordings"] if r["partition"] == "train"]
    assert len(trained) == 5
    assert not any(r["traces"] for r in trained)
    assert listing["recordings"][:2] == scored  # what there is something to see of comes first


def test_a_recording_has_gaps_where_nothing_is_labelled_and_masks_as_they_are_stored(run, toy_cache):
    shelf = shelf_of(toy_cache, run)
    name = shelf.names[0]
    shown, labels = shelf.recording(0), toy_cache.labels.read("va", name)
    assert shown["id"] == name
    np.testing.assert_allclose(shown["pts"], toy_cache.timelines.read(name).pts, atol=1e-6)
    for i, dim in enumerate(("valence", "arousal")):
        values = np.array(shown["annotation"][dim], float)
        assert np.array_equal(~np.isnan(values), labels.labelled)
        np.testing.assert_allclose(values[labels.labelled], labels.va[labels.labelled, i], atol=1e-4)
    frames = len(labels.labelled)
    assert {s["name"]: s["spans"] for s in shown["streams"]} == {
        n: [[0, 10], [20, frames]] for n in ("face", "voice", "words")
    }
    assert len(shown["runs"][0]["valence"]) == frames
    assert not shown["media"]


def test_test_is_neither_listed_nor_read_unless_asked_for_and_then_counted_in_every_run(
    run, toy_cache, tmp_path, monkeypatch
):
    read, opened = LabelStore.read, []

    def watched(store, protocol, recording):
        opened.append(recording)
        return read(store, protocol, recording)

    monkeypatch.setattr(LabelStore, "read", watched)
    runs = [shutil.copytree(run, tmp_path / name) for name in ("a", "b")]
    locked = set(toy_cache.labels.partitions("va").members("test"))
    shelf = shelf_of(toy_cache, *runs)
    assert not locked & {*shelf.names, *opened, *shelf.labels}
    before = [len((r / LOG).read_text().splitlines()) for r in runs]
    shelf = shelf_of(toy_cache, *runs, partition="test")
    assert set(shelf.names) == locked == set(shelf.labels)
    assert shelf.listing["recordings"]
    assert shelf.recording(0)["annotation"]
    for folder, count in zip(runs, before, strict=True):
        rows = list(csv.reader((folder / LOG).read_text().splitlines()))
        assert len(rows) == count + 1
        assert rows[-1][1] == "view"


def test_partitions_that_cannot_be_viewed_are_named(run, toy_cache):
    with pytest.raises(MissingData, match="no recording is in partition 'dev'; there are: test, train, validation"):
        shelf_of(toy_cache, run, partition="dev")
    assert {*shelf_of(toy_cache, run, partition="train").split.values()} >= {"train"}
    with pytest.raises(MissingData, match="no predictions in"):
        open_sources([toy_cache.root])
    with pytest.raises(CacheError):
        FeatureCache(cache_of([run], run / "nowhere", None))
    assert cache_of([run], None, None) == str(toy_cache.root)


def test_files_of_other_frames_are_told_and_not_drawn(toy_cache, tmp_path):
    pts = toy_cache.timelines.read("rec5").pts
    save_predictions(tmp_path / "short", "rec5", pts[:-1], np.zeros((len(pts) - 1, 2)))
    save_predictions(tmp_path / "late", "rec5", pts + 0.5, np.zeros((len(pts), 2)))
    shelf = shelf_of(toy_cache, tmp_path / "short", tmp_path / "late")
    notes = [r["note"] for r in shelf.recording(shelf.names.index("rec5"))["runs"]]
    assert "it predicts" in notes[0]
    assert "0.500 s away" in notes[1]
    assert shelf.listing["recordings"][shelf.names.index("rec5")]["ccc"] == [None, None]


def test_labels_that_changed_since_a_run_was_scored_are_told(run, toy_cache, tmp_path):
    changed = shutil.copytree(toy_cache.root, tmp_path / "cache")
    cache, split = FeatureCache(changed), toy_cache.labels.partitions("va")
    labels = {r: toy_cache.labels.read("va", r) for r in toy_cache.labels.recordings("va")}
    name = split.members("validation")[0]
    cache.labels.write("va", {**labels, name: Labels(-labels[name].va, labels[name].labelled)}, split)
    shelf = shelf_of(cache, run)
    shown = shelf.recording(shelf.names.index(name))
    assert "its labels have changed since" in shown["notes"][0]
    then, now = shelf.listing["recordings"][shelf.names.index(name)]["ccc"][0], shown["runs"][0]["ccc"]
    assert f"scored {then[0]:.3f}" in shown["notes"][0]
    assert now != pytest.approx(then, abs=0.01)
    assert not shelf_of(toy_cache, run).recording(0)["notes"]


def test_a_damaged_recording_is_one_line_and_the_others_are_there(hostile, ask):
    root, cache = hostile
    path = root / "cache" / "timelines" / folder_of("c") / "pts" / "c" / "0"
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    try:
        status, _, body = ask(f"/token/recordings/{ask.shelf.names.index('c')}")
        listing = shelf_of(cache, root / "out").listing
    finally:
        path.write_bytes(whole)
    assert {r["id"]: r["seconds"] for r in listing["recordings"]}["c"] is None
    assert status == 500
    assert "\n" not in json.loads(body)["error"]
    assert ask(f"/token/recordings/{ask.shelf.names.index(HOSTILE)}")[0] == 200


def test_what_was_predicted_for_loose_media_needs_no_cache_of_it(toy_cache, tmp_path):
    save_predictions(tmp_path, "holiday", np.arange(30) / 30, np.full((30, 2), 0.25))
    (tmp_path / LOG).write_text("evaluation,what\n")
    shelf = shelf_of(toy_cache, tmp_path, words=lambda name: [("hello", 0.1, 0.4)])
    assert shelf.names[0] == "holiday"
    shown = shelf.recording(0)
    assert shown["runs"][0]["arousal"] == [0.25] * 30
    assert shown["end"] == pytest.approx(1.0)
    assert (shown["annotation"], shown["streams"]) == (None, [])
    assert shown["words"] == [["hello", 0.1, 0.4]]


def test_new_media_are_found_in_the_cache_that_predict_made(tmp_path):
    cache, pts = FeatureCache.create(tmp_path / "cache", "media"), np.arange(25) / 25
    for name in ("mine~0a", "twice~1b", "twice~2c"):
        cache.timelines.write(name, Timeline(pts, 1.0))
    for name in ("mine", "twice"):
        save_predictions(tmp_path / "out", name, pts, np.zeros((25, 2)))
    listing = shelf_of(cache, tmp_path / "out").listing["recordings"]
    assert {r["id"]: r["traces"] for r in listing} == {
        "mine~0a": True, "twice": True, "twice~1b": False, "twice~2c": False,
    }  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A cache whose ids are markup, paths and half of a surrogate pair, with a file to steal beside it."""
    root = tmp_path_factory.mktemp("hostile")
    cache, pts = FeatureCache.create(root / "cache", "<b>toy</b>"), np.arange(25) / 25
    names = [HOSTILE, "x\udcff\u202ey", "c"]
    for name in names:
        cache.timelines.write(name, Timeline(pts, 1.0))
        save_predictions(root / "out", name, pts, np.zeros((25, 2)))
    va = np.zeros((25, 2), np.float32)
    cache.labels.write(
        "va", {n: Labels(va, np.ones(25, bool)) for n in names}, Partitions(dict.fromkeys(names, "train"))
    )
    (root / "film.mp4").write_bytes(bytes(range(256)) * 4)
    (root / "secret.txt").write_text("stolen")
    return root, cache


@pytest.fixture(scope="module")
def ask(hostile):
    """Sends one raw request to a running server; returns (status, headers, body)."""
    root, cache = hostile
    shelf = open_shelf(open_sources([root / "out"]), cache, media={HOSTILE: root / "film.mp4", "c": root / "gone.mp4"},
                       words=lambda name: [("<script>alert(1)</script>", 0.0, 0.5)])  # fmt: skip
    sock = listen(0)
    server = make_server(make_app(shelf, "token"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()

    def send(path, method="GET", host="127.0.0.1", **headers):
        port = sock.getsockname()[1]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.putrequest(method, path, skip_host=True)
        for key, value in {"Host": f"{host}:{port}", **headers}.items():
            connection.putheader(key, value)
        connection.endheaders()
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found

    send.shelf = shelf
    yield send
    server.should_exit = True
    thread.join()
    sock.close()


def test_every_answer_forbids_what_the_page_does_not_need(ask):
    for path, status in (
        ("/token/", 200),
        ("/token/recordings", 200),
        ("/token/static/main.js", 200),
        ("/nowhere", 404),
    ):
        found, headers, _ = ask(path)
        assert found == status
        lower = {k.lower(): v for k, v in headers.items()}
        assert all(lower[k.lower()] == v for k, v in HEADERS.items())
        assert "server" not in lower
    _, headers, body = ask("/token/")
    assert headers["content-type"].startswith("text/html")
    page = body.decode()
    assert "http:" not in page.replace("http://www.w3.org", "")
    assert "<script>" not in page
    assert "style=" not in page


def test_only_this_machine_by_its_own_name_with_the_token_and_to_read(ask):
    assert ask("/token/recordings", host="evil.example")[0] == 400
    assert ask("/token/recordings", host="localhost")[0] == 200
    for path in ("/", "/recordings", "/media/0", "/other/recordings"):
        assert ask(path)[0] == 404
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert ask("/token/recordings", method)[0] == 405
    with listen(0) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "path",
    [
        "/token/media/../../secret.txt",
        "/token/media/..%2f..%2fsecret.txt",
        "/token/media/%2e%2e/%2e%2e/secret.txt",
        "/token/media//etc/passwd",
        "/token/media/-1",
        "/token/sound/0",
        "/token/other/0",
        "/token/media/99",
        "/token/media/0/../../secret.txt",
        "/token/static/../data.py",
        "/token/static/..%2fdata.py",
        "/token/static/%2e%2e%2fserver.py",
        "/token/static/..\\data.py",
        "/token/static//etc/passwd",
        "/token/recordings/../secret.txt",
        "/token/recordings/1e3",
        "/token/recordings/99",
        "/token/recordings/%00",
        "/token/../secret.txt",
    ],
)
def test_no_address_leads_out(ask, path):
    status, _, body = ask(path)
    assert status == 404
    assert b"stolen" not in body
    assert b"root:" not in body
    assert b"def " not in body


def test_media_come_by_ranges(ask):
    number = ask.shelf.names.index(HOSTILE)
    whole = bytes(range(256)) * 4
    status, headers, body = ask(f"/token/media/{number}")
    assert (status, body, headers["content-type"]) == (200, whole, "video/mp4")
    status, headers, body = ask(f"/token/media/{number}", Range="bytes=100-199")
    assert (status, body) == (206, whole[100:200])
    assert headers["content-range"] == "bytes 100-199/1024"
    assert ask(f"/token/media/{number}", Range="bytes=2000-")[0] == 416
    assert ask(f"/token/media/{ask.shelf.names.index('c')}")[0] == 404  # its file is gone


def test_hostile_names_are_data_and_nothing_else(ask):
    listing = json.loads(ask("/token/recordings")[2])
    assert {r["id"] for r in listing["recordings"]} == {HOSTILE, "x\\udcff\u202ey", "c"}
    assert listing["dataset"] == "<b>toy</b>"
    for number, name in enumerate(ask.shelf.names):
        status, headers, body = ask(f"/token/recordings/{number}")
        assert status == 200
        assert headers["content-type"] == "application/json"
        assert json.loads(body)["media"] == (name in ask.shelf.media)
        assert json.loads(body)["words"] == [["<script>alert(1)</script>", 0.0, 0.5]]
    assert folder_of(HOSTILE) not in str(listing)


def test_without_its_packages_view_says_which_extra_to_install(run, toy_cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with pytest.raises(UsageError, match=r"view needs starlette and uvicorn; pip install 'affuse\[view\]'"):
        make_app(shelf_of(toy_cache, run), "t")


def test_a_port_that_is_taken_is_one_line():
    with listen(0) as sock, pytest.raises(UsageError, match="cannot be had"):
        listen(sock.getsockname()[1])


def test_the_page_is_shipped():
    import tomllib

    shipped = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["fuse.view"]
    there = {p.name for p in (TOP / "fuse" / "view" / "static").iterdir()}
    assert {p.name for pattern in shipped for p in (TOP / "fuse" / "view").glob(pattern)} == there
    assert {"index.html", "style.css", "main.js"} <= there


def test_a_setting_that_view_does_not_have_is_an_error(run):
    done = CliRunner().invoke(cli.app, ["view", str(run), "--no-browser", "--set", "datset_options.language=DE"])
    assert done.exit_code == 2
    assert "datset_options" in done.output


@pytest.mark.slow
def test_the_command_prints_its_address_and_ends_by_ctrl_c(run, toy_cache, tmp_path):
    command = [sys.executable, TOP / "cli.py", "view", run, "--no-browser", "--json"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as process:
        said = ""
        while not said.endswith("}\n"):
            line = process.stdout.readline()
            assert line, f"it ended: {said}"
            said += line
        host, token = json.loads(said)["url"].removeprefix("http://").split("/")[:2]
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request("GET", f"/{token}/recordings")
        assert json.loads(connection.getresponse().read())["runs"] == [run.name]
        connection.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
