"""A cache that others made, or that is damaged, is refused in one line: no zeros, no memory, no file outside of it."""

import json
import os
import shutil

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from cache import reader, unpack
from cache.care.convert import convert
from cache.care.verify import verify
from cache.errors import AffuseError, CorruptCache
from cache.groups import attributes
from cache.ids import folder_of, recording_of
from cache.layout import group_metadata
from cache.packed import Packing
from cache.reader import open_array
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.stats import stream_stats
from cache.store import FeatureCache

FRAMES = 700


@pytest.fixture
def cache(tmp_path):
    return fill(tmp_path / "cache")


def fill(root, recordings=("a", "b")):
    cache, rng = FeatureCache.create(root, "demo"), np.random.default_rng(0)
    key = cache.declare("swin", "visual", 8, {"layer": 1}, {}).key
    for recording in recordings:
        cache.timelines.write(recording, Timeline(np.arange(FRAMES) / 25, FRAMES / 25))
        cache.write(key, recording, Aligned(rng.standard_normal((FRAMES, 8), np.float32), np.ones(FRAMES, bool)))
    labels = dict.fromkeys(recordings, Labels(np.zeros((FRAMES, 2), np.float32), np.ones(FRAMES, bool)))
    cache.labels.write("va", labels, Partitions(dict.fromkeys(recordings, "train")))
    return cache


@pytest.fixture
def packed(cache, tmp_path):
    convert(cache.root, tmp_path / "packed", packing=Packing("zstd", 100), quiet=True)
    return FeatureCache(tmp_path / "packed")


def values_of(cache, recording="a"):
    return cache.folder(cache.stream_keys()[0], recording) / "values"


def edit(folder, **changes):
    """Change an array's metadata, and its commit record with it, as one who can compute a checksum would."""
    metadata = json.loads((folder / "zarr.json").read_text()) | changes
    (folder / "zarr.json").write_text(json.dumps(metadata))
    record = attributes(folder.parent)
    written = record["arrays"][folder.name]
    written["metadata"] = int(google_crc32c.value((folder / "zarr.json").read_bytes()))
    written["shape"] = metadata["shape"]
    (folder.parent / "zarr.json").write_bytes(group_metadata(record))


@pytest.mark.parametrize(
    "shape",
    [[-1, 8], [0, 8], [700.0, 8], ["700", 8], [True, 8], [700], [700, 8, 1], [], [10**15, 8], [700, 10**30], None, 7],
    ids=str,
)
def test_shapes_that_cannot_be_are_refused_before_anything_is_allocated(cache, packed, shape):
    for some in (cache, packed):
        edit(values_of(some), shape=shape)
        with pytest.raises(CorruptCache):
            some.read(some.stream_keys()[0], "a")
        found = verify(some.root, deep=True, quiet=True).damages
        assert [d.recording for d in found] == ["a"]


@pytest.mark.parametrize("kind", ["complex64", "string", "float128", "r16", {"name": "numpy.datetime64"}, "object", 3])
def test_only_plain_numbers_are_read(cache, kind):
    edit(values_of(cache), data_type=kind)
    with pytest.raises(CorruptCache, match="dtype"):
        open_array(values_of(cache))


@pytest.mark.parametrize("attributes", [{"dtype": "float8"}, {"dtype": "bfloat16"}, {"dtype": 3}, 5, None])
def test_a_dtype_in_the_attributes_is_believed_only_for_what_it_is(cache, attributes):
    edit(values_of(cache), attributes=attributes)
    with pytest.raises(CorruptCache):
        open_array(values_of(cache))


@pytest.mark.parametrize("codec", ["numcodecs.pickle", "vlen-utf8", "made-up"])
def test_only_core_codecs_are_run(packed, codec):
    edit(values_of(packed), codecs=[{"name": "bytes", "configuration": {"endian": "little"}}, {"name": codec}])
    with pytest.raises(CorruptCache, match="its codecs are"):
        open_array(values_of(packed))


def test_a_small_file_that_declares_more_than_this_machine_holds_is_refused(packed, monkeypatch):
    grid = {"name": "regular", "configuration": {"chunk_shape": [1 << 37, 8]}}
    edit(values_of(packed), shape=[1 << 37, 8], chunk_grid=grid)
    with pytest.raises(CorruptCache, match="of memory; this machine has"):
        open_array(values_of(packed))
    edit(values_of(packed), shape=[FRAMES, 8])
    with pytest.raises(CorruptCache, match="of memory"):
        open_array(values_of(packed))


def test_a_shape_that_the_commit_record_does_not_have_is_refused(packed):
    folder = values_of(packed)
    metadata = json.loads((folder / "zarr.json").read_text())
    (folder / "zarr.json").write_text(json.dumps(metadata | {"shape": [650, 8]}))
    with pytest.raises(CorruptCache, match="its commit record says"):
        open_array(folder)


def test_presence_of_another_length_or_type_is_refused(cache):
    key, folder = cache.stream_keys()[0], values_of(cache).parent
    for array in (np.ones(FRAMES - 1, bool), np.ones(FRAMES, np.uint8)):
        shutil.rmtree(folder / "present")
        zarr.create_array(folder / "present", data=array, chunks=array.shape, compressors=None)
        for read in (cache.read, lambda k, r: cache.reader(k).recording(r)):
            with pytest.raises(CorruptCache):
                read(key, "a")


@pytest.mark.parametrize("gone", ["c/0/0", "c/3/0", "c/6/0"])
def test_a_chunk_that_is_missing_is_an_error_and_no_zeros(packed, gone):
    (values_of(packed) / gone).unlink()
    assert not zarr.open_array(values_of(packed), mode="r")[...].all(), "which zarr reads as zeros"
    with pytest.raises(CorruptCache, match=f"{gone} is missing"):
        packed.read(packed.stream_keys()[0], "a")
    for deep in (False, True):
        (damage,) = verify(packed.root, deep=deep, quiet=True).damages
        assert f"{gone} is missing" in damage.cause


def test_a_chunk_that_is_missing_inside_a_shard_is_an_error_too(cache):
    folder, data = values_of(cache), np.ones((FRAMES, 8), np.float16)
    data[256:512] = 0
    shutil.rmtree(folder)
    made = {"shape": (FRAMES, 8), "dtype": "float16", "chunks": (64, 8), "shards": (768, 8)}
    array = zarr.create_array(folder, **made, config={"write_empty_chunks": True})
    array[...] = data
    np.testing.assert_array_equal(open_array(folder), data)
    array = zarr.create_array(folder, **made, overwrite=True)
    array[...] = data
    with pytest.raises(CorruptCache, match="lacks chunks inside its shards"):
        open_array(folder)


def test_an_index_that_names_other_places_is_refused(cache):
    file = values_of(cache) / "c" / "0" / "0"
    data = bytearray(file.read_bytes())
    index = np.frombuffer(data[-52:-4], "<u8").copy()
    index[:2] = 2**64 - 1  # no such chunk, says the index; zarr would give zeros
    data[-52:-4] = index.tobytes()
    data[-4:] = google_crc32c.value(index.tobytes()).to_bytes(4, "little")
    file.write_bytes(data)
    assert not zarr.open_array(values_of(cache), mode="r")[:256].any()
    with pytest.raises(CorruptCache, match="index of its shard"):
        open_array(values_of(cache))


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b'{"a":' * 500 + b"1" + b"}" * 500, b"[]", b"\xff\xfe1"])
def test_metadata_that_is_none_is_refused_in_one_line(cache, data):
    key = cache.stream_keys()[0]
    for path in (values_of(cache), values_of(cache).parent, cache.root / "features" / key, cache.root):
        before = (path / "zarr.json").read_bytes()
        (path / "zarr.json").write_bytes(data)
        with pytest.raises(CorruptCache) as caught:
            open_array(path) if path.name == "values" else attributes(path)
        assert len(str(caught.value)) < 600
        (path / "zarr.json").write_bytes(before)


@pytest.mark.parametrize("number", ["1e400", "-1e999", "NaN", "Infinity", "1" * 5000], ids=lambda n: n[:9])
def test_numbers_that_are_none_are_refused(cache, number):
    path = cache.root / "zarr.json"
    path.write_text(path.read_text().replace('"format": 1', f'"format": {number}'))
    with pytest.raises(CorruptCache):
        FeatureCache(cache.root)


def test_metadata_of_absurd_size_and_files_that_are_none_are_not_read(cache):
    path = values_of(cache) / "zarr.json"
    with open(path, "r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(CorruptCache, match="metadata has at most"):
        open_array(path.parent)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CorruptCache, match="no regular file"):
        open_array(path.parent)
    path.unlink()
    path.mkdir()
    with pytest.raises(CorruptCache, match="no regular file"):
        open_array(path.parent)


LINKS = ["values/c/0/0", "values/c", "values/zarr.json", "values", "present", "zarr.json", ".", ".."]


def _window(cache, key, recording):
    return cache.reader(key).window(recording, slice(0, 1))


@pytest.mark.parametrize("part", LINKS)
def test_a_link_out_of_the_cache_is_refused_wherever_it_is(cache, packed, tmp_path, part):
    for some in (cache, packed):
        key, outside = some.stream_keys()[0], tmp_path / f"outside-{some.root.name}"
        folder = some.root / "features" / key / "a"
        place = (folder / part).resolve()
        shutil.move(place, outside)
        place.symlink_to(outside)
        # our own layout is read without its commit record
        reads = [_window, FeatureCache.read] if part != "zarr.json" else [FeatureCache.commit_record]
        for read in reads:
            with pytest.raises(CorruptCache, match="symbolic link out of"):
                read(some, key, "a")
        found = verify(some.root, deep=True, quiet=True).damages
        assert any("symbolic link" in d.cause for d in found)


@pytest.mark.parametrize("part", ["timelines/a", "timelines", "labels/va", "labels/va/a", "labels/va/a/va/c/0/0"])
def test_links_of_times_and_labels_out_of_the_cache_are_refused(cache, tmp_path, part):
    shutil.move(cache.root / part, tmp_path / "outside")
    (cache.root / part).symlink_to(tmp_path / "outside")
    with pytest.raises(CorruptCache, match="symbolic link out of"):
        cache.timelines.read("a") if "time" in part else cache.labels.read("va", "a")


def test_nothing_is_written_through_a_link_out_of_the_cache(cache, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.lock").write_text("")
    for name in ("stats", ".staging"):
        shutil.rmtree(cache.root / name, ignore_errors=True)
        (cache.root / name).symlink_to(outside)
    with pytest.raises(CorruptCache, match="symbolic link"):
        stream_stats(cache, cache.stream_keys()[0], ["a"])
    with pytest.raises(CorruptCache, match="symbolic link"):
        FeatureCache.create(cache.root)
    assert [p.name for p in outside.iterdir()] == ["mine.lock"]


def test_a_whole_cache_may_lie_behind_a_link_and_links_may_lead_inside_a_recording(cache, tmp_path):
    (tmp_path / "link").symlink_to(cache.root)
    key = cache.stream_keys()[0]
    file = values_of(cache) / "c" / "0" / "0"
    file.rename(file.with_name("kept"))
    file.symlink_to("kept")
    linked = FeatureCache(tmp_path / "link")
    np.testing.assert_array_equal(linked.reader(key).window("a", slice(0, 9)), cache.read(key, "a").values[:9])


def test_a_commit_record_names_no_file_outside_its_array(packed):
    folder = values_of(packed).parent
    record = attributes(folder)
    for files in ({"../../../../secret": 1}, {"/dev/zero": 1}, [1], 3):
        record["arrays"]["values"]["files"] = files
        (folder / "zarr.json").write_bytes(group_metadata(record))
        (damage,) = verify(packed.root, deep=True, quiet=True).damages
        assert "commit record" in damage.cause
    record["arrays"] = {"../b/values": record["arrays"]["values"]}
    (folder / "zarr.json").write_bytes(group_metadata(record))
    (damage,) = verify(packed.root, deep=True, quiet=True).damages
    assert "no array of a feature cache" in damage.cause


def test_unpacked_arrays_are_kept_up_to_a_limit_and_the_least_recently_used_go_first(packed, monkeypatch):
    size, opened, whole = FRAMES * 8 * 2, [], reader.unpack
    monkeypatch.setattr(reader, "_UNPACKED", 2 * size)
    monkeypatch.setattr(reader, "_unpacked", type(reader._unpacked)())
    monkeypatch.setattr(
        reader, "unpack", lambda folder, about: opened.append(folder.parent.name) or whole(folder, about)
    )
    rng, key = np.random.default_rng(1), packed.stream_keys()[0]
    packed.timelines.write("d", Timeline(np.arange(FRAMES) / 25, FRAMES / 25))
    packed.write(
        key,
        "d",
        Aligned(rng.standard_normal((FRAMES, 8), np.float32), np.ones(FRAMES, bool)),
        packing=Packing("gzip"),
    )
    read = packed.reader(key)
    for recording in "abadabd":
        read.window(recording, slice(0, 1))
    assert "".join(opened) == "abdbd"
    assert sum(a.nbytes for a in reader._unpacked.values()) == 2 * size


@given(st.integers(0, 4000), st.binary(min_size=1, max_size=8), st.sampled_from(["own", "packed"]), st.integers(0, 3))
def test_bytes_that_differ_anywhere_give_other_numbers_or_one_line_and_never_a_traceback(
    tmp_path_factory, at, data, layout, which
):
    root = _once(tmp_path_factory) / layout
    cache = FeatureCache(root)
    folder = cache.folder(cache.stream_keys()[0], "a")
    file = [folder / "zarr.json", folder / "values" / "zarr.json", folder / "present" / "zarr.json"]
    file = [*file, sorted((folder / "values" / "c").rglob("0"))[-1]][which]
    before = file.read_bytes()
    at %= len(before)
    try:
        file.write_bytes(before[:at] + data + before[at + len(data) :])
        cache.read(cache.stream_keys()[0], "a")
    except AffuseError:
        pass  # said in one line
    finally:
        file.write_bytes(before)


_made = []


def _once(factory):
    if not _made:
        top = factory.mktemp("fuzz")
        convert(fill(top / "own").root, top / "packed", packing=Packing("zstd", 100), quiet=True)
        _made.append(top)
    return _made[0]


PARTS = [
    "..",
    ".",
    "/",
    "\\",
    "\0",
    "zarr.json",
    "c",
    "~",
    "%",
    "%2e",
    "CON",
    "nul",
    "aux.txt",
    "\udcff",
    "\ud800",
    " ",
]
IDS = st.one_of(
    st.text(st.characters(), min_size=1, max_size=300),
    st.lists(st.sampled_from(PARTS) | st.text(max_size=3), min_size=1, max_size=200).map("".join).filter(bool),
)


@given(IDS)
def test_no_id_leaves_its_folder(recording):
    name = folder_of(recording)
    assert name not in ("", ".", "..", "zarr.json", "c")
    assert len(os.fsencode(name)) <= 255
    assert not {"/", "\\", "\0", ":", "*", "?", '"', "<", ">", "|"} & set(name)
    assert name.isascii()
    assert not name.startswith(".")
    assert recording_of(name) in (recording, None)
    assert os.path.normpath(os.path.join("/cache", name)) == f"/cache/{name}"


@given(st.lists(IDS, unique=True, min_size=2, max_size=4))
def test_two_ids_never_share_a_folder(ids):
    assert len({folder_of(i) for i in [*ids, *(i.swapcase() for i in ids)]}) == len(
        {*ids, *(i.swapcase() for i in ids)}
    )


@pytest.mark.parametrize("recording", ["\udcff.mp4", "a\0b", "CON", "A", "..", "ä" * 400, "\ud800" * 90])
def test_names_of_files_that_are_no_text_are_ids_too(tmp_path, recording):
    cache = fill(tmp_path / "cache", (recording, "a"))
    key = cache.stream_keys()[0]
    assert sorted(cache.recordings(key)) == sorted([recording, "a"])
    assert len(cache.read(key, recording).present) == FRAMES
    assert cache.labels.partitions("va").members("train") == sorted([recording, "a"])
    stream_stats(cache, key, [recording])
    assert verify(cache.root, deep=True, quiet=True).damages == []
    assert {p.name for p in tmp_path.iterdir()} == {"cache"}


def test_what_is_unpacked_is_bounded_by_the_memory_of_this_machine(packed, monkeypatch):
    monkeypatch.setattr(unpack.os, "sysconf", lambda name: 100)
    with pytest.raises(CorruptCache, match="this machine has 10000"):
        open_array(values_of(packed))


def test_a_record_nested_too_deep_is_refused_though_its_checksum_fits(cache):
    settings = {}
    for _ in range(100):
        settings = {"a": settings}
    folder = cache.root / "features" / cache.stream_keys()[0]
    (folder / "zarr.json").write_bytes(group_metadata({**attributes(folder), "settings": settings}))
    with pytest.raises(CorruptCache, match="nested more than 64 deep"):
        cache.about(folder.name)
