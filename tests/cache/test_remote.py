"""The same cache at a URL: object storage on loopback, as S3 would be, and fsspec's own file systems."""

import gc
import json
import os
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr

from cache.care.convert import convert
from cache.care.info import describe
from cache.care.prune import Choice, plan_prune, prune
from cache.care.verify import verify
from cache.commit import discard
from cache.errors import AffuseError, CacheError, CorruptCache, UsageError
from cache.packed import Packing
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.remote import _file_system, mirror, remote_of
from cache.stats import stream_stats
from cache.store import FeatureCache
from fuse.recipe import train_recipe
from fuse.train import run_train
from tests.conftest import write_cache

pytestmark = pytest.mark.filterwarnings("ignore:.*ClientSession.__del__", "ignore:.*BaseConnector.__del__")
FRAMES = 700


@pytest.fixture(scope="module")
def server():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """machine(name): from now on we are that machine, which has mirrors of its own."""

    def become(name):
        monkeypatch.setenv("AFFUSE_MIRRORS", str(tmp_path / name))

    become("here")
    return become


def forget_connections():
    _file_system.cache_clear()
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    gc.collect()


@pytest.fixture
def s3(server, monkeypatch, machine, tmp_path):
    """The URL of a cache to be, in a bucket of its own."""
    for key, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "us",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(key, value)
    forget_connections()
    bucket = f"bucket-{abs(hash(str(tmp_path))):x}"
    fsspec.filesystem("s3").mkdir(bucket)
    yield f"s3://{bucket}/lab/cache"
    forget_connections()


def files(url):
    fs, base = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    return {path.removeprefix(base).lstrip("/"): fs.cat_file(path) for path in fs.find(base)}


def local_files(root):
    found = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    return {n: data for n, data in found.items() if not n.startswith((".", "stats"))}


def fill(where, recordings=("a", "b/ä", "d"), seed=0):
    cache = FeatureCache.create(where, "toy")
    key = cache.declare("vision", "visual", 5, {"encoder": "x", "name": "vision"}, {}).key
    rng = np.random.default_rng(seed)
    for recording in recordings:
        cache.timelines.write(recording, Timeline(np.arange(FRAMES) / 25, FRAMES / 25))
        values = rng.standard_normal((FRAMES, 5)).astype(np.float32)
        cache.write(key, recording, Aligned(values, np.arange(FRAMES) % 7 > 0))
    va = Labels(np.full((FRAMES, 2), 0.5, np.float32), np.ones(FRAMES, bool))
    cache.labels.write("va", dict.fromkeys(recordings, va), Partitions({recordings[0]: "train"}))
    return cache, key


@pytest.mark.parametrize("scheme", ["s3", "file", "memory"])
def test_a_cache_at_a_url_is_byte_for_byte_the_one_in_a_folder(scheme, request, machine, tmp_path):
    urls = {"file": f"file://{tmp_path}/far/cache", "memory": f"memory://{tmp_path.name}/cache"}
    url = urls.get(scheme) or request.getfixturevalue("s3")
    local, key = fill(tmp_path / "near")
    fill(url)
    assert files(url) == local_files(local.root)
    machine("there")
    far = FeatureCache(url)
    assert far.recordings(key) == local.recordings(key)
    for recording in local.recordings(key):
        np.testing.assert_array_equal(far.read(key, recording).values, local.read(key, recording).values)
        np.testing.assert_array_equal(far.labels.read("va", recording).va, local.labels.read("va", recording).va)
    assert verify(url, deep=True).damages == []


def test_zarr_opens_the_url_without_us(s3):
    cache, key = fill(s3)
    group = zarr.open_group(s3, mode="r")
    np.testing.assert_array_equal(
        group[f"features/{key}/d/values"][10:20].astype(np.float32), cache.read(key, "d").values[10:20]
    )


def test_a_head_trains_from_the_url_as_from_the_folder(s3, machine, tmp_path):
    local = write_cache(tmp_path / "near")
    write_cache(s3)
    machine("there")
    asked = {"head": "concat", "epochs": 2, "device": "cpu"}
    results = [
        run_train(train_recipe(where, None, {**asked, "runs": tmp_path / name}), quiet=True)
        for name, where in (("near-runs", local.root), ("far-runs", s3))
    ]
    assert results[0].evaluations == results[1].evaluations
    assert json.loads((Path(results[1].folder) / "recipe.json").read_text())["cache"] == s3


def test_values_are_fetched_when_they_are_read_and_what_was_uploaded_never(s3, machine, monkeypatch):
    cache, key = fill(s3)
    remote = remote_of(cache.root)
    fetched = []
    download = type(remote)._download
    monkeypatch.setattr(
        type(remote), "_download", lambda self, names: download(self, [fetched.append(n) or n for n in names])
    )
    FeatureCache(s3).reader(key)
    assert fetched == []
    machine("there")
    there = FeatureCache(s3)
    assert fetched
    assert not any("/values/c/" in n for n in fetched)
    fetched.clear()
    assert describe(s3).bytes == sum(map(len, files(s3).values()))
    assert fetched == []
    there.read(key, "a")
    assert fetched == [f"features/{key}/a/values/c/0/0"]
    stream_stats(there, key, ["a", "d"])
    assert len(fetched) == 3
    stream_stats(FeatureCache(s3), key, ["a", "d"])
    assert len(fetched) == 3
    assert not any(n.startswith("stats") for n in files(s3))


def test_an_upload_that_breaks_off_leaves_nothing_half_and_the_next_one_ends_it(s3, machine, monkeypatch, tmp_path):
    local, key = fill(tmp_path / "near")
    fs, _ = _file_system(s3)
    put, seen = fs.put_file, set()

    for left in range(1, 16, 2):
        budget = iter(range(left))

        def breaks(*args, budget=budget):
            if next(budget, None) is None:
                raise OSError("the line is dead")
            return put(*args)

        with monkeypatch.context() as patch:
            patch.setattr(fs, "put_file", breaks)
            with pytest.raises(CacheError, match="the line is dead"):
                fill(s3)
        machine(f"looks-after-{left}")
        there = FeatureCache(s3)
        for recording in there.recordings(key):
            np.testing.assert_array_equal(there.read(key, recording).values, local.read(key, recording).values)
        seen.add(len(there.recordings(key)))
    assert len(seen) > 1
    fill(s3)
    assert files(s3) == local_files(local.root)


def test_new_labels_and_removed_parts_reach_those_who_have_a_mirror(s3, machine, tmp_path):
    cache, key = fill(s3)
    machine("there")
    FeatureCache(s3).reader(key)
    machine("here")
    cache.labels.write("va", {"a": cache.labels.read("va", "a")}, Partitions({"a": "test"}))
    discard(cache.root, cache.folder(key, "d"))
    machine("there")
    there = FeatureCache(s3)
    assert there.labels.recordings("va") == ["a"]
    assert there.labels.partitions("va").of == {"a": "test"}
    assert there.recordings(key) == ["a", "b/ä"]
    environment = tmp_path / "runs" / "one" / "environment.json"
    environment.parent.mkdir(parents=True)
    environment.write_text('{"streams": [{"key": "another-0123456789ab"}]}')
    planned = plan_prune(s3, tmp_path / "runs", Choice(unused=True))
    assert prune(s3, planned).parts
    assert not any(n.startswith(f"features/{key}/") for n in files(s3))


def test_damage_at_the_url_is_named_and_healed(s3, machine):
    from cache.care.heal import clear_damaged

    cache, key = fill(s3)
    name = f"features/{key}/a/values/c/0/0"
    fs, base = fsspec.core.url_to_fs(s3)
    data = bytearray(fs.cat_file(f"{base}/{name}"))
    data[100] ^= 1
    fs.pipe_file(f"{base}/{name}", bytes(data))
    [damage] = verify(s3, deep=True).damages
    assert damage.part == f"features/{key}/a"
    cache = FeatureCache.create(s3, "toy")
    assert clear_damaged(cache, [key], ["a", "d"]) == [f"features/{key}/a"]
    assert name not in files(s3)
    fill(s3)
    assert verify(s3, deep=True).damages == []
    fs.rm_file(f"{base}/features/{key}/d/values/c/0/0")
    [damage] = verify(s3).damages
    assert damage.part == f"features/{key}/d"


def test_a_listing_that_catches_a_commit_halfway_is_no_commit(s3, machine):
    _, key = fill(s3)
    fs, base = fsspec.core.url_to_fs(s3)
    for path in fs.find(f"{base}/features/{key}/d/present"):
        fs.rm_file(path)
    machine("there")
    assert FeatureCache(s3).recordings(key) == ["a", "b/ä"]


def test_names_at_the_url_cannot_leave_the_mirror(machine, tmp_path):
    far = f"memory://{tmp_path.name}/evil"
    fs, base = fsspec.core.url_to_fs(far)
    for name in ("../../outside", "a/../../../outside", "/etc/x", "c:\\x"):
        fs.store[f"{base}/{name}"] = fs.store.get(base) or fsspec.implementations.memory.MemoryFile(fs, name, b"x")
    root = mirror(far)
    assert sorted(p.name for p in root.rglob("*")) == [".mirror.jsonl"]
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("url", ["nosuch://bucket/cache", "s3://no-such-bucket/cache"])
def test_what_cannot_be_opened_is_told_in_one_line(s3, url):
    with pytest.raises(AffuseError) as told:
        FeatureCache(url)
    assert url in str(told.value)
    assert "\n" not in str(told.value)
    assert isinstance(told.value, (CacheError, UsageError))


def test_a_server_that_is_not_there_is_told(s3, monkeypatch, machine):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    forget_connections()
    with pytest.raises(CacheError, match="check the address and the credentials"):
        FeatureCache(s3 + "-elsewhere")


def test_a_mark_that_a_kill_cut_short_is_read_up_to_there(s3, machine):
    cache, key = fill(s3)
    mark = cache.root / ".mirror.jsonl"
    os.truncate(mark, mark.stat().st_size - 5)
    assert FeatureCache(s3).recordings(key) == ["a", "b/ä", "d"]


def test_a_packed_cache_at_a_url_is_converted_read_checked_and_fetched_chunk_by_chunk(machine, tmp_path):
    url, (local, key) = f"file://{tmp_path}/far", fill(tmp_path / "near")
    (done,) = convert(local.root, url, dtype="bfloat16", packing=Packing("zstd", 100), quiet=True).streams
    machine("there")
    far = FeatureCache(url)
    assert not list(far.root.glob("features/*/*/values/c")), "values are fetched when they are read"
    assert verify(url, quiet=True).damages == []
    convert(local.root, tmp_path / "same", dtype="bfloat16", quiet=True)
    same = FeatureCache(tmp_path / "same")
    for recording in local.recordings(key):
        np.testing.assert_array_equal(far.read(done.key, recording).values, same.read(done.key, recording).values)
    assert describe(url).bytes == sum(map(len, files(url).values()))
    assert verify(url, deep=True, quiet=True).damages == []
    gone = next((tmp_path / "far").glob("features/*/d/values/c/3/0"))
    gone.unlink()
    machine("elsewhere")
    with pytest.raises(CorruptCache, match="c/3/0 is missing"):
        FeatureCache(url).read(done.key, "d")
    assert [d.recording for d in verify(url, quiet=True).damages] == ["d"]
    assert convert(local.root, url, dtype="bfloat16", packing=Packing("zstd", 100), quiet=True).streams[0].made == 1
    assert gone.is_file()
