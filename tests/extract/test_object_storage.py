"""Stage one to an S3 server that misbehaves, and training from there: the cache and the numbers of a folder."""

import os
import re
import signal
from collections import Counter

import fsspec
import numpy as np
import pytest

from cache.errors import CacheError
from cache.records import Aligned, Timeline
from cache.store import FeatureCache
from extract.recipe import extract_recipe
from extract.run import run_extract
from fuse.recipe import train_recipe
from fuse.train import run_train
from tests.extract.conftest import CLIPS, wait_for
from tests.faulty_s3 import PASSING, SHORT, always, at, forget_connections, now_and_then

pytestmark = pytest.mark.filterwarnings("ignore:.*ClientSession.__del__", "ignore:.*BaseConnector.__del__")


@pytest.fixture
def impatient(s3, monkeypatch):
    """A server that fails for good is given up after two tries."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(fsspec.get_filesystem_class("s3"), "retries", 2)
    forget_connections()


def files(url):
    """What is committed there, without turns."""
    fs, base = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    found = {path.removeprefix(base).lstrip("/"): fs.cat_file(path) for path in fs.find(base)}
    return {n: data for n, data in found.items() if not n.startswith(".")}


def local_files(root):
    found = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    return {n: data for n, data in found.items() if not n.startswith((".", "stats"))}


@pytest.fixture
def corpus(light_encoders, media, manifest, tmp_path):
    """What to extract: four labelled films with sound; the flags of the command but for the cache."""
    rng, rows = np.random.default_rng(0), {}
    for i in range(4):
        (tmp_path / f"{i}.csv").write_text(
            "valence,arousal\n" + "\n".join(f"{v},{-v / 2}" for v in rng.uniform(-1, 1, 50))
        )
        sound = rng.uniform(-0.3, 0.3, 32_000).astype(np.float32)
        film = media(tmp_path / f"clip{i}.mkv", np.arange(50) / 25, sound=sound)
        split = "train" if i < 2 else "validation" if i < 3 else "test"
        rows[f"clip{i}"] = {"video": film, "labels": f"{i}.csv", "partition": split}
    streams = {"visual": ["brightness"], "audio": ["loudness"], "text": []}
    return {"dataset": "manifest", "root": manifest(**rows), **streams}


def extract(corpus, cache):
    return run_extract(extract_recipe({**corpus, "cache": cache}), quiet=True)


def commits(server):
    """How often each recording's stream was committed."""
    return Counter(
        {p: n for (m, p), n in server.answered.items() if m == "PUT" and "/features/" in p and p.count("/") == 7}
    )


@pytest.mark.slow
def test_under_faults_the_cache_and_the_numbers_are_those_of_a_folder(corpus, s3, server, machine, tmp_path):
    extract(corpus, tmp_path / "near")
    server.fault = now_and_then(6)
    result = extract(corpus, s3)
    assert (result.made, result.failures) == (8, [])
    assert set(server.befell) == set(PASSING)
    assert max(commits(server).values()) == 1
    assert len(commits(server)) > 4
    server.behave()
    assert files(s3) == local_files(tmp_path / "near")
    machine("there")
    asked = {"head": "concat", "epochs": 2, "device": "cpu", "tokens": 32, "hop": 16}
    numbers = []
    for name, where in (("near", tmp_path / "near"), ("far", s3)):
        server.fault = now_and_then(3, (*PASSING, *SHORT))
        result = run_train(train_recipe(where, None, {**asked, "runs": tmp_path / f"{name}-runs"}), quiet=True)
        numbers.append(result.evaluations)
    assert numbers[0] == numbers[1]
    assert set(server.befell) == {*PASSING, *SHORT}


@pytest.mark.parametrize("after", [0, 45])
def test_a_server_that_fails_for_good_is_told_in_one_line_and_the_next_run_ends_it(
    after, corpus, s3, server, machine, impatient, run, tmp_path
):
    extract(corpus, tmp_path / "near")
    server.fault = always("slow down", after=after)
    flags = ["--dataset", "manifest", "--root", corpus["root"], "--visual", "brightness", "--audio", "loudness"]
    code, _, said = run("extract", *flags, "--text", "none", "--cache", s3, "--quiet")
    assert code == 1
    assert s3 in said
    assert re.search("reduce your request rate|Service Unavailable", said), "an answer to HEAD has no text"
    assert said.count("\n") == 1
    assert said.endswith("run again; what is committed is safe\n")
    server.behave()
    machine("looks on")
    if after:
        seen, near = FeatureCache(s3), FeatureCache(tmp_path / "near")
        for key in seen.stream_keys():
            for recording in seen.recordings(key):
                np.testing.assert_array_equal(seen.read(key, recording).values, near.read(key, recording).values)
    machine("here")
    assert extract(corpus, s3).failures == []
    assert files(s3) == local_files(tmp_path / "near")


def test_a_server_that_falls_silent_is_asked_again_after_the_time_the_user_has_set(s3, server, machine, monkeypatch):
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 0.5}})
    often = now_and_then(3, ("silent",))
    server.fault = lambda method, path: often(method, path) if method in ("GET", "HEAD") else None
    cache = FeatureCache.create(s3, "toy")
    cache.timelines.write("a", Timeline(np.arange(5) / 25, 0.2))
    key = cache.declare("vision", "visual", 2, {}, {}).key
    cache.write(key, "a", Aligned(np.ones((5, 2), np.float32), np.ones(5, bool)))
    machine("there")
    assert (FeatureCache(s3).read(key, "a").values == 1).all()
    assert server.befell["silent"] > 2


def test_a_server_that_listens_and_never_answers_ends_in_a_line(s3, server, monkeypatch):
    monkeypatch.setattr("cache.far._PUT_S", 1.0)
    server.fault = lambda method, _path: "silent" if method == "PUT" else None
    with pytest.raises(CacheError, match=f"cannot reach {s3}: FSTimeoutError"):
        FeatureCache.create(s3, "toy")


@pytest.mark.parametrize("kind", SHORT)
def test_what_comes_cut_short_is_no_file_of_the_mirror(kind, s3, server, machine, impatient):
    cache = FeatureCache.create(s3, "toy")
    cache.timelines.write("a", Timeline(np.arange(5) / 25, 0.2))
    machine("there")
    server.fault = lambda method, path: kind if method == "GET" and "/pts/c/0?" in path else None
    with pytest.raises(CacheError, match=f"{s3}.*(pts/c/0 comes cut short|FlexibleChecksumError)"):
        FeatureCache(s3)
    server.behave()
    assert FeatureCache(s3).timelines.read("a").end == 0.2


@pytest.mark.slow
def test_killed_in_the_middle_of_an_upload_the_same_command_ends_it(gated, s3, server):
    """All arrays of a recording's stream are there, and its commit record is on its way."""
    watched, _ = gated
    watched.open_gate()
    server.fault = at(1, "silent", "PUT", "/clip2/zarr.json")
    with watched.start("--cache", s3) as process:
        wait_for(lambda: server.befell["silent"])
        process.send_signal(signal.SIGKILL)
    server.behave()
    with watched.start("--cache", s3) as process:
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert watched.encoded()["clip5"] == 1
    assert watched.encoded()["clip0"] == 1
    assert max(commits(server).values()) == 1
    assert files(s3) == local_files(watched.folder / "alone")


@pytest.mark.slow
def test_two_machines_at_one_url_make_each_recording_once(gated, s3, server, machine, monkeypatch):
    watched, _ = gated
    machine("one")
    with watched.start("--cache", s3) as one:
        watched.in_hand("clip1")
        machine("other")
        with watched.start("--cache", s3) as other:
            wait_for(lambda: {name for _, name in watched.noted("encoded")} == {*CLIPS})
            watched.open_gate()
            said = other.stderr.read() + one.stderr.read()
    assert (one.returncode, other.returncode) == (0, 0), said
    assert watched.encoded() == dict.fromkeys(CLIPS, 1)
    assert len({pid for pid, _ in watched.noted("encoded")}) == 2
    assert max(commits(server).values()) == 1
    assert files(s3) == local_files(watched.folder / "alone")
    assert not [n for n in fsspec.filesystem("s3").find(os.path.dirname(s3)) if n.endswith(".turn")]
