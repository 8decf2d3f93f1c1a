"""The same cache at a URL: object storage on loopback, as S3 would be, and fsspec's own file systems."""

import contextlib
import errno
import json
import os
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr
from fsspec.implementations.memory import MemoryFileSystem

import cache.refresh as cache_refresh
from cache.care.convert import convert
from cache.care.info import describe
from cache.care.prune import Choice, plan_prune, prune
from cache.care.verify import verify
from cache.commit import discard, publish_file
from cache.errors import AffuseError, CacheError, CorruptCache, UsageError
from cache.far import Far, _file_system
from cache.mark import MIRROR_FILES, Mark
from cache.packed import Packing
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.remote import mirror, remote_of
from cache.stats import stream_stats
from cache.store import FeatureCache
from fuse.recipe import train_recipe
from fuse.train import run_train
from tests.conftest import write_cache
from tests.faulty_s3 import forget_connections

pytestmark = pytest.mark.filterwarnings("ignore:.*ClientSession.__del__", "ignore:.*BaseConnector.__del__")
FRAMES = 700


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


def test_zarr_opens_the_url_without_us(s3, monkeypatch):
    monkeypatch.setattr(_file_system(s3)[0], "makedirs", None)  # object storage has no folders to make
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
    get = type(remote.far).get
    monkeypatch.setattr(type(remote.far), "get", lambda self, files: fetched.extend(files) or get(self, files))
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
    put, seen = fs._put_file, set()

    for left in range(1, 16, 2):
        budget = iter(range(left))

        async def breaks(*args, budget=budget, **kwargs):
            if next(budget, None) is None:
                raise OSError("the line is dead")
            return await put(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(fs, "_put_file", breaks)
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
    there = FeatureCache(s3)
    assert there.recordings(key) == ["a", "b/ä"]
    there.write(key, "d", Aligned(np.ones((FRAMES, 5), np.float32), np.ones(FRAMES, bool)))
    machine("elsewhere")
    assert (FeatureCache(s3).read(key, "d").values == 1).all(), "a record without its arrays is in nobody's way"


def test_names_at_the_url_cannot_leave_the_mirror(machine, tmp_path):
    far = f"memory://{tmp_path.name}/evil"
    fs, base = fsspec.core.url_to_fs(far)
    for name in ("../../outside", "a/../../../outside", "/etc/x", "c:\\x"):
        fs.store[f"{base}/{name}"] = fs.store.get(base) or fsspec.implementations.memory.MemoryFile(fs, name, b"x")
    root = mirror(far)
    assert {p.name for p in root.rglob("*")} <= MIRROR_FILES
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


def timeline(frames=FRAMES):
    return Timeline(np.arange(frames) / 25, frames / 25)


def labels_of(value, frames=FRAMES):
    return Labels(np.full((frames, 2), value, np.float32), np.ones(frames, bool))


def during(monkeypatch, owner, name, act, *, after=True):
    """``act`` runs once, right after (or before) the next call of that method: as another process at that moment."""
    method = getattr(owner, name)
    left = [act]

    def interrupted(*args, **kwargs):
        if not after and left:
            left.pop()()
        found = method(*args, **kwargs)
        if after and left:
            left.pop()()
        return found

    monkeypatch.setattr(owner, name, interrupted)


@pytest.fixture
def bare():
    """What a file system says of a file: nothing but what ``bare["keys"]`` adds to its size."""
    told = {"keys": {}}

    class Bare(MemoryFileSystem):
        protocol, store, pseudo_dirs, cachable = "bare", {}, [""], False

        def info(self, path, **kwargs):
            return told_of(super().info(path, **kwargs))

        def find(self, path, maxdepth=None, withdirs=False, detail=False, **kwargs):
            found = super().find(path, maxdepth, withdirs, detail=True, **kwargs)
            return {n: told_of(about) for n, about in found.items()} if detail else [*found]

    def told_of(about):
        more = {new: about[old] for new, old in told["keys"].items() if old in about}
        return {**{k: about[k] for k in ("name", "size", "type") if k in about}, **more}

    fsspec.register_implementation("bare", Bare, clobber=True)
    _file_system.cache_clear()
    return told


@pytest.mark.parametrize("key", [None, "modificationTime", "last_write_time", "blob_id"])
def test_a_change_of_equal_size_is_seen_whatever_the_store_tells_of_files(key, bare, machine, tmp_path):
    bare["keys"] = {key: "created"} if key else {}
    url = f"bare://{tmp_path.name}/cache"
    cache, stream = fill(url)
    machine("there")
    there = FeatureCache(url)
    old = there.read(stream, "a").values
    machine("here")
    cache.labels.write("va", dict.fromkeys(["a", "b/ä", "d"], labels_of(-0.5)), Partitions({"a": "train"}))
    discard(cache.root, cache.folder(stream, "a"))
    cache.write(stream, "a", Aligned(-old, np.ones(FRAMES, bool)))
    machine("there")
    there = FeatureCache(url)
    assert (there.labels.read("va", "d").va == -0.5).all()
    np.testing.assert_array_equal(there.read(stream, "a").values, -old)
    value = there.folder(stream, "a") / "values/c/0/0"
    before = value.stat().st_ino
    FeatureCache(url)
    assert value.stat().st_ino == before, "what did not change is kept"


def test_a_deep_check_of_a_url_leaves_an_extraction_beside_it_unharmed(machine, monkeypatch, tmp_path):
    url = f"file://{tmp_path}/far"
    cache, key = fill(url)

    def extract():
        cache.timelines.write("new", timeline())
        cache.write(key, "new", Aligned(np.ones((FRAMES, 5), np.float32), np.ones(FRAMES, bool)))

    during(monkeypatch, Far, "tags", extract)
    assert verify(url, deep=True, quiet=True).damages == []
    assert cache.has(key, "new")
    assert f"features/{key}/new/zarr.json" in files(url)
    assert FeatureCache(url).recordings(key) == ["a", "b/ä", "d", "new"]
    assert [p.name for p in cache.root.parent.iterdir() if p.is_dir()] == [cache.root.name], "nothing is left of it"


def test_a_deep_check_names_the_url_where_no_cache_is(machine, tmp_path):
    with pytest.raises(CacheError, match=f"no feature cache at file://{tmp_path}/far"):
        verify(f"file://{tmp_path}/far", deep=True)


def test_what_a_killed_deep_check_left_is_removed_by_the_next_one(machine, tmp_path):
    url = f"file://{tmp_path}/far"
    cache, _ = fill(url)
    left = cache.root.with_name(f"{cache.root.name}.fresh-0123")
    left.mkdir()
    verify(url, deep=True, quiet=True)
    assert not left.exists()


def test_damage_that_its_tag_does_not_tell_is_found_and_healed_all_the_same(machine, tmp_path):
    from cache.care.heal import clear_damaged

    url = f"file://{tmp_path}/far"
    cache, key = fill(url)
    path = tmp_path / "far/features" / key / "a/values/c/0/0"
    about, data = path.stat(), bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert [d.part for d in verify(url, deep=True, quiet=True).damages] == [f"features/{key}/a"]
    cache = FeatureCache.create(url, "toy")
    assert clear_damaged(cache, [key], ["a", "d"]) == [f"features/{key}/a"]
    assert not path.exists()


def test_a_writer_whose_mirror_was_removed_fails_and_writes_nothing(machine, tmp_path):
    url = f"file://{tmp_path}/far"
    cache, _ = fill(url)
    shutil.rmtree(cache.root)
    for write in (
        lambda: cache.timelines.write("new", timeline()),
        lambda: publish_file(cache.root, cache.root / "failures.csv", b"x"),
    ):
        with pytest.raises(CacheError, match="was removed while it was in use"):
            write()
    assert "failures.csv" not in files(url)


@pytest.mark.parametrize("moment", ["tags", "get"])
def test_a_refresh_leaves_what_another_process_commits_meanwhile(moment, machine, monkeypatch, tmp_path):
    url = f"file://{tmp_path}/far"
    cache, key = fill(url)
    machine("elsewhere")
    elsewhere = FeatureCache(url)
    elsewhere.labels.write("va", {"a": labels_of(0.1)}, Partitions({"a": "test"}))
    machine("here")

    def commit():
        cache.timelines.write("new", timeline())
        cache.labels.write("va", {"a": labels_of(0.9)}, Partitions({"a": "train"}))
        discard(cache.root, cache.folder(key, "d"))

    during(monkeypatch, Far, moment, commit)
    FeatureCache(url)
    for look in (lambda: cache, lambda: FeatureCache(url)):
        seen = look()
        assert seen.timelines.has("new")
        assert (seen.labels.read("va", "a").va == np.float32(0.9)).all()
        assert seen.labels.partitions("va").of == {"a": "train"}
        assert seen.recordings(key) == ["a", "b/ä"]
    assert local_files(cache.root) == files(url)


def test_files_that_vanish_while_a_refresh_looks_are_none(machine, monkeypatch, tmp_path):
    url = f"file://{tmp_path}/far"
    cache, key = fill(url)
    walk = os.walk

    def vanishing(top):
        for found in walk(top):
            if str(found[0]).endswith("/d/values/c/0"):
                discard(cache.root, cache.folder(key, "d"))
            yield found

    monkeypatch.setattr("cache.refresh.os.walk", vanishing)
    assert FeatureCache(url).recordings(key) == ["a", "b/ä"]


@pytest.mark.parametrize("seconds_later", [False, True])
def test_killed_between_the_url_and_the_mirror_the_mirror_believes_nothing_it_has_not(
    seconds_later, machine, monkeypatch, tmp_path
):
    url = f"file://{tmp_path}/far"
    cache, _ = fill(url)
    given = {r: labels_of(0.9) for r in ("a", "d")}

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if seconds_later:
            patch.setattr(Mark, "note", killed)
        else:
            patch.setattr("cache.commit._publish", killed)
        with pytest.raises(KeyboardInterrupt):
            cache.labels.write("va", given, Partitions({"a": "test"}))
    again = FeatureCache(url)
    assert again.labels.recordings("va") == ["a", "d"]
    assert (again.labels.read("va", "a").va == np.float32(0.9)).all()
    assert local_files(again.root) == files(url)


@pytest.mark.parametrize("after", range(6))
def test_a_refresh_that_is_killed_shows_nothing_half_and_the_next_one_ends_it(after, machine, monkeypatch, tmp_path):
    url = f"file://{tmp_path}/far"
    cache, _ = fill(url)
    machine("there")
    root = FeatureCache(url).root
    machine("here")
    cache.labels.write("va", {"a": labels_of(0.9), "d": labels_of(0.8)}, Partitions({"a": "train"}))
    machine("there")
    put, left = cache_refresh.put_file, iter(range(after))

    def killed(draft, path):
        if next(left, None) is None:
            raise KeyboardInterrupt
        put(draft, path)

    with monkeypatch.context() as patch:
        patch.setattr(cache_refresh, "put_file", killed)
        with contextlib.suppress(KeyboardInterrupt):
            FeatureCache(url)
    found = FeatureCache(root).labels
    if "va" in found.protocols():
        assert [found.read("va", r).va[0, 0] for r in found.recordings("va")] == [np.float32(0.9), np.float32(0.8)]
    assert local_files(FeatureCache(url).root) == {n: data for n, data in files(url).items() if "/values/c/" not in n}


def test_of_files_another_machine_committed_first_ours_are_not_believed(machine, monkeypatch, tmp_path):
    url = f"file://{tmp_path}/far"
    cache, key = fill(url, ("a",))
    cache.timelines.write("n", timeline())
    machine("there")
    there = FeatureCache(url)
    ones, present = np.ones((FRAMES, 5), np.float32), np.ones(FRAMES, bool)
    there.write(key, "n", Aligned(ones, present))
    machine("here")
    during(monkeypatch, Far, "tags", lambda: cache.write(key, "n", Aligned(2 * ones, present)))
    FeatureCache(url)
    monkeypatch.undo()
    machine("here")
    np.testing.assert_array_equal(FeatureCache(url).read(key, "n").values, ones)


def test_a_copy_of_a_mirror_is_read_and_not_written(machine, tmp_path):
    url = f"file://{tmp_path}/far"
    fill(url)
    machine("there")
    _, key = FeatureCache(url), FeatureCache(url).stream_keys()[0]
    copied = tmp_path / "copy"
    shutil.copytree(mirror(url), copied)
    before = files(url)
    copy = FeatureCache.create(copied, "toy")
    assert copy.read(key, "a").values.shape == (FRAMES, 5)
    for write in (
        lambda: copy.timelines.write("new", timeline()),
        lambda: copy.labels.write("va", {}, Partitions({})),
        lambda: discard(copied, copy.folder(key, "a")),
        lambda: prune(copied, plan_prune(copied, tmp_path, Choice(streams=(key,)))),
    ):
        with pytest.raises(CacheError, match="is a copy of a mirror of"):
            write()
    assert files(url) == before
    assert copy.has(key, "a")
    assert len(stream_stats(copy, key, ["a"]).mean) == 5


@pytest.mark.parametrize("harm", ["a name", "no UTF-8", "a line cut short", "the first line"])
def test_a_damaged_mark_costs_another_fetch_and_no_more(harm, machine, tmp_path):
    url = f"file://{tmp_path}/far"
    cache, key = fill(url)
    mark = cache.root / ".mirror.jsonl"
    data = mark.read_bytes()
    at = data.index(b'"features')
    mark.write_bytes(
        {
            "a name": data[:at] + b"'" + data[at + 1 :],
            "no UTF-8": data[:at] + b"\xba" + data[at + 1 :],
            "a line cut short": data[:-5],
            "the first line": b"x" + data[1:],
        }[harm]
    )
    if harm == "the first line":
        with pytest.raises(CacheError, match="open the cache by its URL"):
            cache.timelines.write("new", timeline())
    else:
        cache.timelines.write("new", timeline())  # another process notes what it committed
    again = FeatureCache(url)
    assert again.timelines.has("new") == (harm != "the first line")
    assert again.read(key, "d").values.shape == (FRAMES, 5)
    assert verify(url, deep=True, quiet=True).damages == []


def test_a_mirror_that_cannot_be_kept_is_told_in_one_line(machine, monkeypatch, tmp_path):
    fill(f"file://{tmp_path}/far")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AFFUSE_MIRRORS", str(tmp_path / "file"))
    for act in (FeatureCache, lambda url: verify(url, deep=True)):
        with pytest.raises(CacheError, match=r"cannot keep a mirror of .*AFFUSE_MIRRORS"):
            act(f"file://{tmp_path}/far")


def test_a_disk_that_is_full_while_fetching_is_not_called_a_bad_address(machine, monkeypatch, tmp_path):
    url = f"file://{tmp_path}/far"
    _, key = fill(url)
    machine("there")
    there = FeatureCache(url)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_file_system(url)[0], "get", full)
    with pytest.raises(CacheError, match=r"cannot keep a mirror of .*: No space left.*make room"):
        there.read(key, "a")
    assert not list(there.root.glob(".fetched-*"))


def test_the_mark_is_read_once_for_all_sizes(machine, monkeypatch, tmp_path):
    from cache import mark

    url = f"file://{tmp_path}/far"
    fill(url)
    machine("there")
    parsed, read = mark._noted, []
    monkeypatch.setattr(mark, "_noted", lambda data: read.append(len(data)) or parsed(data))
    assert verify(url, quiet=True).damages == []
    assert len([n for n in read if n]) <= 1


def test_labels_go_up_in_batches_and_only_those_that_changed(machine, monkeypatch, tmp_path):
    url = f"memory://{tmp_path.name}/cache"
    cache = FeatureCache.create(url, "toy")
    fs, _ = _file_system(url)
    asked = []
    for name in ("put", "put_file", "info", "exists", "find", "rm_file", "pipe_file"):
        method = getattr(fs, name)

        def counted(*args, method=method, name=name, **kwargs):
            asked.append((name, args[0]))
            return method(*args, **kwargs)

        monkeypatch.setattr(fs, name, counted)

    def count(name):
        return sum(what == name for what, _ in asked)

    labels = {f"r{i}": labels_of(i / 100) for i in range(30)}
    cache.labels.write("va", labels, Partitions({}))
    assert (count("put"), count("put_file"), count("find")) == (4, 30 * 5 + 1, 2)
    assert count("info") + count("exists") + count("rm_file") == 0
    asked.clear()
    cache.labels.write("va", labels | {"r3": labels_of(-1)}, Partitions({}))
    assert count("put_file") == 2 + 1, "the values of r3, its record, and that of the protocol"
    asked.clear()
    cache.labels.write("va", labels | {"r3": labels_of(-1)}, Partitions({"r1": "train"}))
    assert (count("put_file"), count("rm_file")) == (1, 0), "the partitions alone: the protocol is there all the time"
    assert local_files(cache.root) == files(url)


@pytest.mark.parametrize("told", [None, "AWS_MAX_ATTEMPTS", "fsspec", "aws config"])
def test_s3_is_asked_again_for_long_unless_the_user_says_how_often(told, s3, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    (tmp_path / "config").write_text("[default]\nmax_attempts = 2\n" if told == "aws config" else "")
    if told == "AWS_MAX_ATTEMPTS":
        monkeypatch.setenv(told, "2")
    if told == "fsspec":
        monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 60}})
    forget_connections()
    wanted = {None: {"retries": {"mode": "standard", "total_max_attempts": 6}}, "fsspec": {"read_timeout": 60}}
    assert _file_system(s3)[0].config_kwargs == wanted.get(told, {})
