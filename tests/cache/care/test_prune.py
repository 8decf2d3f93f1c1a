"""What may go, and that nothing else goes."""

import json
import os
import shutil
import socket
import time

import numpy as np
import pytest

from cache.care.prune import Choice, plan_prune, prune
from cache.care.verify import verify
from cache.commit import STAGING, claim, staged
from cache.errors import CacheError, UsageError
from cache.records import Aligned, Timeline
from cache.stats import stream_stats
from cache.store import FeatureCache


@pytest.fixture
def cache(tmp_path):
    """Two streams of one name and encoder, one of another; a run used the first. Statistics of two."""
    cache = FeatureCache.create(tmp_path / "cache", "demo")
    cache.timelines.write("a", Timeline(np.arange(30) / 25, 30 / 25))
    for name, layer in (("swin", 1), ("swin", 2), ("hubert", 1)):
        spec = cache.declare(name, "visual", 4, {"encoder": name, "layer": layer}, {})
        cache.write(spec.key, "a", Aligned(np.full((30, 4), layer, np.float32), np.ones(30, bool)))
    used = key(cache, "swin", 1)
    write_run(tmp_path / "runs" / "demo" / "concat-seed0", [used])
    for k in (used, key(cache, "hubert", 1)):
        stream_stats(cache, k, ["a"])
    return cache


def write_run(folder, keys):
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text("{}")
    (folder / "environment.json").write_text(json.dumps({"streams": [{"key": k} for k in keys]}))


def key(cache, name, layer):
    keys = [k for k in cache.stream_keys() if k.startswith(name)]
    return next(k for k in keys if cache.about(k)["settings"]["layer"] == layer)


def files(cache):
    return {str(p.relative_to(cache.root)): p.read_bytes() for p in cache.root.rglob("*") if p.is_file()}


def go(cache, tmp_path, **choice):
    return prune(cache.root, plan_prune(cache.root, tmp_path / "runs", Choice(**choice)))


def test_a_plan_lists_all_classes_and_removes_nothing(cache, tmp_path):
    before = files(cache)
    found = plan_prune(cache.root, tmp_path / "runs", Choice())
    kinds = {p.part: p.kind for p in found.parts}
    assert kinds == {
        "stats": "stats",
        f"features/{key(cache, 'swin', 2)}": "superseded",
        f"features/{key(cache, 'hubert', 1)}": "unused",
    }
    size = sum(len(v) for k, v in before.items() if k.startswith("stats/"))
    assert next(p.bytes for p in found.parts if p.kind == "stats") == size
    assert files(cache) == before
    assert not found.removed


def test_unused_takes_what_no_run_used_and_keeps_what_is_named(cache, tmp_path):
    used, hubert = key(cache, "swin", 1), key(cache, "hubert", 1)
    go(cache, tmp_path, unused=True, keep=(hubert,))
    assert cache.stream_keys() == sorted([used, hubert])
    assert (cache.root / "stats" / hubert).is_dir()
    go(cache, tmp_path, unused=True)
    assert cache.stream_keys() == [used]
    assert not (cache.root / "stats" / hubert).exists()
    assert verify(cache.root, deep=True, quiet=True).damages == []


@pytest.mark.parametrize("broken", ["no runs", "no environment", "no json", "no list"])
def test_nothing_is_unused_where_the_runs_do_not_say(cache, tmp_path, broken):
    run = tmp_path / "runs" / "demo" / "concat-seed0" / "environment.json"
    if broken == "no runs":
        shutil.rmtree(tmp_path / "runs")
    elif broken == "no environment":
        run.unlink()
    else:
        run.write_text("{" if broken == "no json" else '{"streams": 7}')
    found = plan_prune(cache.root, tmp_path / "runs", Choice())
    assert [p.kind for p in found.parts] == ["stats"]
    assert "no stream is called unused" in found.notes[0]
    with pytest.raises(UsageError, match="--stream KEY"):
        plan_prune(cache.root, tmp_path / "runs", Choice(unused=True))


def test_a_named_stream_goes_although_it_is_used_and_only_by_its_full_key(cache, tmp_path):
    used = key(cache, "swin", 1)
    others = [k for k in cache.stream_keys() if k != used]
    for wrong in ("swin", "../timelines", ""):
        with pytest.raises(CacheError, match="no stream has the key"):
            plan_prune(cache.root, tmp_path / "runs", Choice(streams=(wrong,)))
    (part,) = go(cache, tmp_path, streams=(used,)).parts
    assert "1 runs used it" in part.why
    assert cache.stream_keys() == others


def test_partial_takes_dead_drafts_and_folders_without_record_and_nothing_committed(cache, tmp_path):
    committed = files(cache)
    dead = f"{socket.gethostname()}~{2**22 + 7}~dead"
    (cache.root / STAGING / dead / "values").mkdir(parents=True)
    (cache.root / STAGING / (dead + "2")).write_text("half")
    half = cache.folder(cache.stream_keys()[0], "b")
    (half / "values").mkdir(parents=True)
    (cache.root / "timelines" / "b" / "pts").mkdir(parents=True)
    (cache.root / "features" / "gone-0123").mkdir()
    lost = cache.root / "features" / cache.stream_keys()[1] / "zarr.json"
    content = lost.read_bytes()
    lost.unlink()  # its recordings are committed all the same
    found = go(cache, tmp_path, partial=True)
    assert {p.kind for p in found.parts} == {"partial"}
    assert len(found.parts) == 5
    lost.write_bytes(content)
    assert files(cache) == committed
    assert not half.exists()
    assert not (cache.root / "features" / "gone-0123").exists()


def test_nothing_is_removed_while_a_writer_lives(cache, tmp_path):
    before = files(cache)
    with staged(cache.root, cache.root / "labels" / "va"), pytest.raises(CacheError, match="is being written"):
        go(cache, tmp_path, stats=True)
    (cache.root / "labels" / "va").rmdir()
    with claim(cache.root, "a", wait=True):  # at work on a recording, which may take minutes until there is a draft
        assert plan_prune(cache.root, tmp_path / "runs", Choice()).notes == ["being written: a"]
        with pytest.raises(CacheError, match="is being written"):
            go(cache, tmp_path, unused=True)
    (cache.root / STAGING / "elsewhere~1~x").mkdir()
    with pytest.raises(CacheError, match="another machine"):
        go(cache, tmp_path, stats=True)
    (cache.root / STAGING / "elsewhere~1~x").rmdir()
    assert files(cache) == before


@pytest.fixture
def url(tmp_path, monkeypatch):
    """A cache at a URL with one recording of one stream, its mirror, and a second recording that is half uploaded."""
    monkeypatch.setenv("AFFUSE_MIRRORS", str(tmp_path / "mirrors"))
    url = f"file://{tmp_path}/far/cache"
    cache = FeatureCache.create(url, "demo")
    spec = cache.declare("swin", "visual", 4, {}, {})
    for recording in ("a", "b"):
        cache.timelines.write(recording, Timeline(np.arange(30) / 25, 30 / 25))
        cache.write(spec.key, recording, Aligned(np.zeros((30, 4), np.float32), np.ones(30, bool)))
    far = tmp_path / "far" / "cache" / "features" / spec.key / "b"
    (far / "zarr.json").rename(tmp_path / "record")
    return url, far


def test_at_a_url_an_upload_of_another_machine_is_left_alone_for_a_day(url, tmp_path):
    url, far = url
    there = sorted(far.rglob("*"))
    assert prune(url, plan_prune(url, tmp_path, Choice(partial=True))).parts == []
    assert sorted(far.rglob("*")) == there
    for file in there:
        os.utime(file, (time.time() - 86_400 - 60,) * 2)
    (part,) = prune(url, plan_prune(url, tmp_path, Choice(partial=True))).parts
    assert part.part.endswith("/b")
    assert not any(f.is_file() for f in far.rglob("*"))


def test_what_is_committed_between_plan_and_removal_stays(url, tmp_path):
    url, far = url
    for file in far.rglob("*"):
        os.utime(file, (time.time() - 86_400 - 60,) * 2)
    plan = plan_prune(url, tmp_path, Choice(partial=True))
    assert len(plan.parts) == 1
    (tmp_path / "record").rename(far / "zarr.json")
    assert prune(url, plan).parts == []
    cache = FeatureCache(url)
    assert cache.recordings(cache.stream_keys()[0]) == ["a", "b"]


def test_statistics_go_alone_and_come_back(cache, tmp_path):
    before = files(cache)
    go(cache, tmp_path, stats=True)
    assert not (cache.root / "stats").exists()
    for k in (key(cache, "swin", 1), key(cache, "hubert", 1)):
        stream_stats(cache, k, ["a"])
    assert files(cache) == before
