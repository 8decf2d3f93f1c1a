"""Committed is committed: layout, atomicity, immutability, hostile ids, ambiguity, other readers."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading

import google_crc32c
import numpy as np
import pytest
import xarray
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import cache.labels as cache_labels
from cache.commit import STAGING, claim, discard, in_progress, leftovers, staged
from cache.errors import AmbiguousStream, CacheError, CorruptCache, DataError
from cache.ids import folder_of, recording_of
from cache.reader import _open_maps, open_array
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.stats import stream_stats
from cache.store import FeatureCache


@pytest.fixture
def cache(tmp_path):
    return FeatureCache.create(tmp_path / "cache", "demo")


def timeline(frames):
    return Timeline(np.arange(frames) / 25, frames / 25)


def aligned(frames, dim=8, seed=0):
    rng = np.random.default_rng(seed)
    present = rng.random(frames) > 0.2
    return Aligned(np.where(present[:, None], rng.normal(size=(frames, dim)), 0).astype(np.float32), present)


def add(cache, recording="a", frames=300, settings=None, seed=0, dtype="float16"):
    spec = cache.declare("swin", "visual", 8, settings or {"layer": 1}, {})
    cache.timelines.write(recording, timeline(frames))
    data = aligned(frames, seed=seed)
    cache.write(spec.key, recording, data, dtype=dtype)
    return spec, data


@pytest.mark.parametrize("frames", [1, 255, 256, 257, 512, 1000])
def test_what_is_written_is_read(cache, frames):
    spec, data = add(cache, frames=frames)
    back = cache.read(spec.key, "a")
    np.testing.assert_allclose(back.values, data.values, atol=2e-3)
    assert np.array_equal(back.present, data.present)
    assert np.array_equal(back.values, data.values.astype(np.float16).astype(np.float32))


def test_zarr_and_xarray_read_it_without_our_code(cache):
    spec, data = add(cache, recording="täst/1", frames=700)
    group = zarr.open_group(cache.root, mode="r")
    (recording,) = (g for _, g in group[f"features/{spec.key}"].groups())
    assert np.array_equal(recording["values"][...], data.values.astype(np.float16))
    assert np.array_equal(recording["present"][...], data.present)
    assert recording["values"].metadata.dimension_names == ("frame", "feature")
    with xarray.open_zarr(cache.root, group=recording.path, consolidated=False) as dataset:
        assert dict(dataset.sizes) == {"frame": 700, "feature": 8}
        assert np.array_equal(dataset["values"], data.values.astype(np.float16))
    assert np.array_equal(group[f"timelines/{folder_of('täst/1')}/pts"][...], np.arange(700) / 25)


def test_a_window_is_one_slice_of_the_file(cache):
    spec, data = add(cache, frames=700)
    file = cache.root / "features" / spec.key / "a" / "values" / "c" / "0" / "0"
    assert file.read_bytes().startswith(data.values.astype(np.float16).tobytes())
    view = cache.reader(spec.key).window("a", slice(100, 400))
    assert not view.flags.owndata
    assert not view.flags.writeable


def test_the_commit_record_holds_a_checksum_of_every_inner_chunk(cache):
    spec, _ = add(cache, frames=700)
    record = cache.commit_record(spec.key, "a")["arrays"]["values"]
    folder = cache.root / "features" / spec.key / "a" / "values"
    assert len(record["crc32c"]) == 3
    data, step = (folder / "c" / "0" / "0").read_bytes(), 256 * 8 * 2
    assert record["crc32c"] == [google_crc32c.value(data[i : i + step]) for i in range(0, 3 * step, step)]


def test_a_store_rewritten_with_compression_is_still_read(cache, tmp_path):
    spec, data = add(cache, frames=700)
    folder = cache.root / "features" / spec.key / "a" / "values"
    shutil.rmtree(folder)
    array = zarr.create_array(folder, shape=(700, 8), dtype="float16", chunks=(100, 8))
    array[...] = data.values.astype(np.float16)
    assert np.array_equal(open_array(folder), data.values.astype(np.float16))


def test_committed_streams_never_change(cache):
    spec, data = add(cache)
    cache.write(spec.key, "a", aligned(300, seed=9))
    assert np.array_equal(cache.read(spec.key, "a").present, data.present)


def test_absent_values_are_stored_as_zero_whatever_came_in(cache):
    spec = cache.declare("swin", "visual", 8, {}, {})
    cache.timelines.write("a", timeline(3))
    cache.write(spec.key, "a", Aligned(np.full((3, 8), np.nan, np.float32), np.zeros(3, bool)))
    assert (cache.read(spec.key, "a").values == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_values_that_float16_cannot_hold_are_refused(cache, bad):
    spec = cache.declare("swin", "visual", 8, {}, {})
    cache.timelines.write("a", timeline(3))
    with pytest.raises(DataError, match="cannot hold"):
        cache.write(spec.key, "a", Aligned(np.full((3, 8), bad, np.float32), np.ones(3, bool)))
    assert not cache.has(spec.key, "a")


def test_two_fingerprints_of_one_name_are_kept_and_the_bare_name_explains(cache):
    first, _ = add(cache, settings={"layer": 1, "size": "base"})
    second, _ = add(cache, settings={"layer": 2, "size": "base"})
    assert first.key != second.key
    assert cache.resolve(first.key) == first
    with pytest.raises(AmbiguousStream, match="layer=1") as error:
        cache.resolve("swin")
    assert "layer=2" in str(error.value)
    assert "size" not in str(error.value)


def test_the_settings_of_an_ambiguous_name_are_told_as_they_are_in_the_key(cache):
    for some in ({"fps": None}, {"fps": 1}, {"fps": 1.0}, {}):
        cache.declare("swin", "visual", 8, some, {})
    with pytest.raises(AmbiguousStream) as caught:
        cache.resolve("swin")
    for told in ("fps=null", "fps=1)", "fps=1.0", "fps=(absent)"):
        assert told in str(caught.value)


def test_unknown_stream_suggests_the_nearest(cache):
    add(cache)
    with pytest.raises(CacheError, match="did you mean 'swin'"):
        cache.resolve("swim")


def test_missing_and_foreign_folders_are_named(tmp_path):
    with pytest.raises(CacheError, match="no feature cache at"):
        FeatureCache(tmp_path / "nothing")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    with pytest.raises(CacheError, match="not a feature cache"):
        FeatureCache.create(tmp_path / "photos")


def test_more_recordings_than_open_files_are_read(tmp_path):
    """In a process of its own, whose limit is 64 files; a map holds one."""
    code = """
import resource, sys, numpy as np
from pathlib import Path
from cache.records import Aligned, Timeline
from cache.store import FeatureCache
cache = FeatureCache.create(Path(sys.argv[1]))
spec = cache.declare("s", "visual", 4, {}, {})
for i in range(100):
    cache.timelines.write(f"r{i}", Timeline(np.arange(3) / 25, 0.12))
    cache.write(spec.key, f"r{i}", Aligned(np.full((3, 4), i, np.float32), np.ones(3, bool)))
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
reader = cache.reader(spec.key)
for _ in range(2):
    assert [reader.window(f"r{i}", slice(0, 1))[0, 0] for i in range(100)] == list(range(100))
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "cache"], check=True)


def test_shapes_that_do_not_fit_are_refused(cache):
    spec = cache.declare("swin", "visual", 8, {}, {})
    cache.timelines.write("a", timeline(3))
    with pytest.raises(DataError, match=r"shape \(3, 5\); wanted \[T, D\] = \(3, 8\)"):
        cache.write(spec.key, "a", aligned(3, dim=5))
    with pytest.raises(DataError, match="wanted"):
        Aligned(np.zeros((3, 8), np.float32), np.ones(2, bool))


def test_replacing_labels_never_leaves_a_reader_without(cache):
    label = Labels(np.zeros((4, 2), np.float32), np.ones(4, bool))
    cache.labels.write("va", {"a": label}, Partitions({"a": "train"}))
    stop, missing = threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                cache.labels.partitions("va")
            except CacheError as error:
                missing.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(40):
        cache.labels.write("va", {"a": label}, Partitions({"a": f"p{i}"}))
    stop.set()
    reader.join()
    assert not missing


def test_a_claim_is_held_by_one_and_freed_with_its_process(tmp_path):
    with claim(tmp_path, "rec", wait=False) as mine, claim(tmp_path, "rec", wait=False) as other:
        assert mine
        assert not other
    with claim(tmp_path, "rec", wait=False) as again:
        assert again


def test_a_cache_holds_one_dataset(cache):
    with pytest.raises(CacheError, match="holds 'demo', not 'recola'"):
        FeatureCache.create(cache.root, "recola")


def test_another_timeline_for_the_same_recording_is_an_error(cache):
    cache.timelines.write("a", timeline(10))
    cache.timelines.write("a", timeline(10))
    with pytest.raises(DataError, match="its media changed"):
        cache.timelines.write("a", timeline(11))


HOSTILE = [
    "../x",
    "..",
    ".",
    "/etc/passwd",
    "a/b",
    "zarr.json",
    "c",
    "ü" * 300,
    "x" * 300,
    "a b",
    "%2e",
    "a\\b",
    "\n",
    "CON",
    "~",
]


@pytest.mark.parametrize("recording", HOSTILE)
def test_pitfall_13_hostile_ids_stay_inside_and_come_back(cache, recording):
    spec, data = add(cache, recording=recording, frames=5)
    folder = (cache.root / "features" / spec.key / folder_of(recording)).resolve()
    assert folder.parent == (cache.root / "features" / spec.key).resolve()
    assert cache.recordings(spec.key) == [recording]
    assert np.array_equal(cache.read(spec.key, recording).present, data.present)


def test_an_empty_id_is_refused(cache):
    """Its folder would be that of all recordings."""
    for write in (
        lambda: cache.timelines.write("", timeline(5)),
        lambda: cache.labels.write("", {}, Partitions({})),
        lambda: folder_of(""),
    ):
        with pytest.raises(DataError, match="an id is empty"):
            write()
    assert [f.name for f in (cache.root / "timelines").iterdir()] == ["zarr.json"]


@given(st.lists(st.text(min_size=1, max_size=20), unique=True, min_size=2, max_size=8))
def test_ids_are_folder_names_one_to_one(ids):
    folders = [folder_of(i) for i in ids]
    assert len(set(folders)) == len(ids)
    assert [recording_of(f) for f in folders] == ids
    assert all(len(f.encode()) <= 255 and "/" not in f and "\0" not in f for f in folders)


@given(st.integers(1, 600), st.integers(1, 9), st.sampled_from(["float16", "float32"]))
@settings(max_examples=15)
def test_any_shape_round_trips_through_zarr(tmp_path_factory, frames, dim, dtype):
    cache = FeatureCache.create(tmp_path_factory.mktemp("c") / "cache")
    spec = cache.declare("s", "audio", dim, {}, {})
    cache.timelines.write("r", timeline(frames))
    data = aligned(frames, dim)
    cache.write(spec.key, "r", data, dtype=dtype)
    stored = zarr.open_array(cache.root / "features" / spec.key / "r" / "values", mode="r")[...]
    assert np.array_equal(stored, data.values.astype(dtype))


def test_an_unfinished_write_leaves_nothing_behind(cache):
    def write_half_and_fail():
        with staged(cache.root, cache.root / "features" / "x") as folder:
            (folder / "half").write_bytes(b"x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half_and_fail()
    assert not (cache.root / "features" / "x").exists()
    assert not list((cache.root / STAGING).iterdir())


def lock_of(draft):
    return draft.with_name(f"{draft.name}.lock")


def test_leftovers_of_dead_writers_are_swept_and_living_ones_kept(cache):
    """Whoever lives holds his draft: process numbers tell nothing of writers in another container."""
    dead = cache.root / STAGING / f"{socket.gethostname()}~{os.getpid()}~aa"  # ours, in an earlier life
    left = cache.root / STAGING / f"{socket.gethostname()}~{os.getpid()}~bb.lock"
    elsewhere = cache.root / STAGING / "other-host~1~cc"
    dead.mkdir(parents=True)
    left.touch()
    elsewhere.mkdir()
    with staged(cache.root, cache.root / "labels" / "x") as alive:
        assert in_progress(cache.root) == sorted([alive.name, elsewhere.name])
        assert leftovers(cache.root) == [dead]
        unseen = alive.with_name(f"{socket.gethostname()}~999999999~dd")  # as if its process were in another container
        for old, new in ((alive, unseen), (lock_of(alive), lock_of(unseen))):
            old.rename(new)
        FeatureCache.create(cache.root)
        for old, new in ((alive, unseen), (lock_of(alive), lock_of(unseen))):
            new.rename(old)
    assert not dead.exists()
    assert not left.exists()
    assert elsewhere.exists()


def test_pitfall_12_a_truncated_file_is_named(cache):
    spec, _ = add(cache)
    file = cache.root / "features" / spec.key / "a" / "values" / "c" / "0" / "0"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CorruptCache, match="bytes, wanted"):
        cache.read(spec.key, "a")


def test_damaged_metadata_is_named(cache):
    spec, _ = add(cache)
    (cache.root / "features" / spec.key / "a" / "values" / "zarr.json").write_text("{")
    with pytest.raises(CorruptCache, match="not a readable array"):
        cache.read(spec.key, "a")


def test_labels_are_replaced_whole_and_only_when_they_differ(cache):
    label = Labels(np.zeros((4, 2), np.float32), np.ones(4, bool))
    split = Partitions({"a": "train"}, {"a": "s1"})
    assert cache.labels.write("va", {"a": label}, split)
    assert not cache.labels.write("va", {"a": label}, split)
    assert cache.labels.write("va", {"b": label}, Partitions({"b": "test"}))
    assert cache.labels.recordings("va") == ["b"]
    assert cache.labels.partitions("va").members("test") == ["b"]
    with pytest.raises(CacheError, match="there are: va"):
        cache.labels.partitions("expr")


def test_pitfall_23_statistics_count_present_frames_of_the_named_recordings_only(cache):
    spec, a = add(cache, "a", 300, seed=1)
    _, b = add(cache, "b", 40, seed=2)
    add(cache, "c", 500, seed=3)
    rows = np.concatenate([x.values[x.present].astype(np.float16).astype(np.float64) for x in (a, b)])
    stats = stream_stats(cache, spec.key, ["b", "a"])
    np.testing.assert_allclose(stats.mean, rows.mean(0), atol=1e-6)
    np.testing.assert_allclose(stats.std, rows.std(0), atol=1e-6)
    again = stream_stats(cache, spec.key, ["a", "b"])
    assert np.array_equal(again.mean, stats.mean)
    assert len([p for p in (cache.root / "stats" / spec.key).iterdir() if p.is_dir()]) == 1


def test_metadata_is_plain_json_with_every_setting(cache):
    spec, _ = add(cache, settings={"layer": 1, "weights": "abc"})
    about = json.loads((cache.root / "features" / spec.key / "zarr.json").read_text())["attributes"]["affuse"]
    assert about["settings"] == {"layer": 1, "weights": "abc"}


def write_one(cache, key, value, present):
    if cache.has(key, "a"):
        discard(cache.root, cache.folder(key, "a"))
    cache.write(key, "a", Aligned(np.full((50, 4), value, np.float32), present))


def test_a_reader_never_mixes_two_makings_of_a_recording(tmp_path):
    cache = FeatureCache.create(tmp_path / "other")
    cache.timelines.write("a", Timeline(np.arange(50) / 25, 2.0))
    key = cache.declare("s", "visual", 4, {}, {}).key
    first, second = np.arange(50) < 10, np.arange(50) >= 10
    write_one(cache, key, 1.0, first)
    old = cache.reader(key)
    old.recording("a")
    write_one(cache, key, 2.0, second)
    values, present = cache.reader(key).recording("a")
    assert np.array_equal(present, second)
    assert (values[second] == 2).all()
    values, present = old.recording("a")
    assert np.array_equal(present, first)
    assert (values[first] == 1).all()
    _open_maps.clear()  # as if many others had been opened since
    with pytest.raises(CorruptCache, match="made anew"):
        old.recording("a")


def test_a_flipped_mask_is_never_read(tmp_path):
    cache = FeatureCache.create(tmp_path / "other")
    cache.timelines.write("a", Timeline(np.arange(50) / 25, 2.0))
    key = cache.declare("s", "visual", 4, {}, {}).key
    write_one(cache, key, 1.0, np.ones(50, bool))
    path = cache.folder(key, "a") / "present" / "c" / "0"
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptCache, match=r"present is damaged.*cache verify --deep"):
        cache.reader(key).window("a", slice(0, 5))


def test_labels_that_are_replaced_while_they_are_read_are_of_one_writing(tmp_path, monkeypatch):
    cache = FeatureCache.create(tmp_path / "other")
    labels = [Labels(np.full((50, 2), v, np.float32), np.arange(50) % 2 == v) for v in (0, 1)]
    cache.labels.write("va", {"a": labels[0]}, Partitions({"a": "train"}))
    real = cache_labels.open_array

    def replaced(folder):
        monkeypatch.setattr(cache_labels, "open_array", real)
        found = real(folder).copy()
        cache.labels.write("va", {"a": labels[1]}, Partitions({"a": "train"}))
        return found

    monkeypatch.setattr(cache_labels, "open_array", replaced)
    found = cache.labels.read("va", "a")
    assert (found.va == 1).all()
    assert np.array_equal(found.labelled, labels[1].labelled)


def test_a_timeline_made_anew_has_to_be_the_one_its_streams_were_made_on(tmp_path):
    cache = FeatureCache.create(tmp_path / "other")
    timeline = Timeline(np.arange(50) / 25, 2.0)
    cache.timelines.write("a", timeline)
    key = cache.declare("s", "visual", 4, {}, {}).key
    write_one(cache, key, 1.0, np.ones(50, bool))
    discard(cache.root, cache.root / "timelines" / "a")
    with pytest.raises(DataError, match=r"s-\w+ of 'a' was made on other frame times"):
        cache.timelines.write("a", Timeline(timeline.pts + 1, 3.0))
    cache.timelines.write("a", timeline)
