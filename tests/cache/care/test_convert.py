"""Another dtype is another stream, another packing is the same one; every consumer reads all of them alike."""

import json
import shutil

import ml_dtypes
import numpy as np
import pytest
import torch
import xarray
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from typer.testing import CliRunner

from cache.care.convert import convert
from cache.care.diff import compare_streams
from cache.care.info import describe
from cache.care.receipt import make_receipt
from cache.care.verify import verify
from cache.errors import CorruptCache, DataError, UsageError
from cache.packed import CODECS, Packing
from cache.reader import open_array
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.stats import stream_stats
from cache.store import FeatureCache
from cli import app
from fuse.recipe import train_recipe
from fuse.train import run_train
from tests.conftest import write_cache

FRAMES = {"a": 700, "b b": 40, "c" * 220: 513}
DTYPES = ("float16", "float32", "bfloat16")


def fill(root, dtype="float32", name="swin", scale=1.0):
    cache, rng = FeatureCache.create(root, "demo"), np.random.default_rng(0)
    key = cache.declare(name, "visual", 8, {"encoder": "x", "dtype": dtype}, {"file": "w.pt"}).key
    for recording, frames in FRAMES.items():
        times = Timeline(np.arange(frames) / 25 + 0.5, frames / 25 + 0.5)
        cache.timelines.write(recording, times, {"clock": "container", "source": {"bytes": 3}})
        values, present = scale * rng.standard_normal((frames, 8), np.float32), rng.random(frames) > 0.2
        cache.write(key, recording, Aligned(values, present), {"rows": frames, "source": {"kind": "v"}}, dtype=dtype)
    labels = {r: Labels(np.full((n, 2), 0.5, np.float32), np.ones(n, bool)) for r, n in FRAMES.items()}
    cache.labels.write("abaw", labels, Partitions(dict.fromkeys(FRAMES, "train"), {"a": "s1"}), {"a": 2.0})
    return cache, key


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def whole(cache):
    return verify(cache.root, deep=True, quiet=True).damages == []


@pytest.mark.parametrize("new", DTYPES)
@pytest.mark.parametrize("old", DTYPES)
def test_every_dtype_becomes_every_other_beside_it(tmp_path, old, new):
    cache, key = fill(tmp_path / "cache", old)
    before = contents(cache.root)
    if old == new:
        with pytest.raises(UsageError, match="nothing to convert"):
            convert(cache.root, dtype=new)
        return
    (done,) = convert(cache.root, dtype=new, quiet=True).streams
    assert before.items() <= contents(cache.root).items(), "what was there is untouched"
    assert (done.stream, done.dtype, done.made, done.kept) == (key, new, 3, 0)
    about = cache.about(done.key)
    assert about["settings"] == {**cache.about(key)["settings"], "dtype": new, "converted": {"from": key}}
    kinds = {"bfloat16": ml_dtypes.bfloat16}
    errors = []
    for recording in FRAMES:
        was, now = cache.read(key, recording), cache.read(done.key, recording)
        np.testing.assert_array_equal(now.values, was.values.astype(kinds.get(new, new)).astype(np.float32))
        np.testing.assert_array_equal(now.present, was.present)
        seen = was.values[was.present].astype(np.float64)
        errors.append((np.abs(now.values[was.present] - seen) / np.abs(seen))[seen != 0])
    assert done.largest == np.concatenate(errors).max()
    assert done.mean == pytest.approx(np.concatenate(errors).mean(), abs=1e-15)
    assert (done.largest == 0) == (new == "float32" or (old, new) == ("bfloat16", "float16"))
    assert whole(cache)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_another_packing_is_the_same_stream_with_the_same_numbers(tmp_path, codec, dtype):
    cache, key = fill(tmp_path / "cache", dtype)
    found = convert(cache.root, tmp_path / "out", packing=Packing(codec, 100), quiet=True)
    out = FeatureCache(tmp_path / "out")
    assert [(s.stream, s.key, s.made, s.largest) for s in found.streams] == [(key, key, 3, None)]
    assert out.about(key) == cache.about(key)
    for recording in FRAMES:
        was, now = cache.read(key, recording), out.read(key, recording)
        np.testing.assert_array_equal(now.values, was.values)
        np.testing.assert_array_equal(now.present, was.present)
        old, new = cache.commit_record(key, recording), out.commit_record(key, recording)
        assert {k: v for k, v in old.items() if k != "arrays"} == {k: v for k, v in new.items() if k != "arrays"}
        assert len(new["arrays"]["values"]["files"]) == -(-FRAMES[recording] // 100)
    for part in ("timelines", "labels"):
        assert contents(out.root / part) == contents(cache.root / part)
    assert whole(out)
    assert make_receipt(out.root) == make_receipt(cache.root)
    assert describe(out.root).streams[0].dtype == dtype


def test_packed_and_back_is_byte_for_byte_the_same_cache(tmp_path):
    cache, _ = fill(tmp_path / "cache")
    convert(cache.root, tmp_path / "packed", packing=Packing("gzip", 64), quiet=True)
    convert(tmp_path / "packed", tmp_path / "back", quiet=True)
    assert contents(tmp_path / "back") == contents(cache.root)


def test_equal_inputs_give_equal_bytes_though_gzip_notes_the_time(tmp_path, monkeypatch):
    cache, _ = fill(tmp_path / "cache")
    for name, now in (("one", 1e9), ("two", 1.5e9)):
        monkeypatch.setattr("time.time", lambda now=now: now)
        convert(cache.root, tmp_path / name, packing=Packing("gzip"), quiet=True)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_zarr_and_xarray_open_it_without_us(tmp_path):
    cache, _ = fill(tmp_path / "cache")
    convert(cache.root, tmp_path / "out", dtype="bfloat16", packing=Packing("blosc", 50), quiet=True)
    out = FeatureCache(tmp_path / "out")
    (key,) = out.stream_keys()
    values = out.read(key, "a").values
    array = zarr.open_group(out.root, mode="r")[f"features/{key}/a/values"]
    assert (array.dtype, array.attrs["dtype"], array.chunks) == (np.uint16, "bfloat16", (50, 8))
    bits = array[...].astype(np.uint32) << 16
    np.testing.assert_array_equal(bits.view(np.float32), values)
    with xarray.open_zarr(out.root, group=f"features/{key}/a", consolidated=False) as dataset:
        assert dict(dataset.sizes) == {"frame": 700, "feature": 8}
        np.testing.assert_array_equal(dataset["values"], array[...])


def test_bfloat16_is_mapped_and_is_no_number_type_by_accident(tmp_path):
    cache, key = fill(tmp_path / "cache", "bfloat16")
    view = cache.reader(key).window("a", slice(100, 300))
    assert view.dtype == ml_dtypes.bfloat16
    assert not view.flags.owndata
    assert not view.flags.writeable
    with pytest.raises(TypeError):
        torch.from_numpy(view.copy())


def test_values_that_do_not_fit_are_refused_and_nothing_of_them_is_committed(tmp_path):
    cache, key = fill(tmp_path / "cache", "float32", scale=1e5)
    with pytest.raises(DataError, match="which float16 cannot hold"):
        convert(cache.root, dtype="float16", quiet=True)
    (other,) = set(cache.stream_keys()) - {key}
    assert cache.recordings(other) == []
    convert(cache.root, dtype="bfloat16", quiet=True)


def test_a_second_run_goes_on_where_the_first_ended_and_tells_of_all(tmp_path):
    cache, _ = fill(tmp_path / "cache")
    first = convert(cache.root, tmp_path / "out", dtype="float16", quiet=True).streams[0]
    out = FeatureCache(tmp_path / "out")
    before = contents(out.root)
    shutil.rmtree(out.folder(first.key, "a"))
    shutil.rmtree(out.root / "labels" / "abaw")
    again = convert(cache.root, out.root, dtype="float16", quiet=True).streams[0]
    assert (again.made, again.kept) == (1, 2)
    assert (again.largest, again.before, again.after) == (first.largest, first.before, first.after)
    assert again.mean == first.mean
    assert contents(out.root) == before


def test_what_is_damaged_is_not_converted_and_damaged_copies_are_made_anew(tmp_path):
    cache, key = fill(tmp_path / "cache")
    (done,) = convert(cache.root, tmp_path / "out", packing=Packing("zstd", 100), quiet=True).streams
    out = FeatureCache(tmp_path / "out")
    clean = contents(out.root)
    for name in ("values/c/3/0", "present/c/0", "values/zarr.json", "zarr.json"):
        file = out.folder(key, "a") / name
        file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
        assert not whole(out), name
        assert convert(cache.root, out.root, packing=Packing("zstd", 100), quiet=True).healed == [f"features/{key}/a"]
        assert contents(out.root) == clean
    assert done.made == 3
    source = cache.folder(key, "b b") / "values" / "c" / "0" / "0"
    source.write_bytes(b"\x01" + source.read_bytes()[1:])
    with pytest.raises(CorruptCache, match="differ from their checksums"):
        convert(cache.root, dtype="float16", quiet=True)


def test_without_out_another_packing_alone_is_refused_and_converted_streams_are_left_alone(tmp_path):
    cache, key = fill(tmp_path / "cache")
    for out in (None, cache.root):
        with pytest.raises(UsageError, match="what is committed stays"):
            convert(cache.root, out, packing=Packing("zstd"))
    first = convert(cache.root, dtype="bfloat16", quiet=True).streams
    second = convert(cache.root, dtype="float16", packing=Packing("zstd"), quiet=True).streams
    assert [s.stream for s in first] == [s.stream for s in second] == [key], "no conversion of a conversion"
    (named,) = convert(cache.root, dtype="float32", streams=(first[0].key,), quiet=True).streams
    assert cache.about(named.key)["settings"]["converted"] == {"from": first[0].key}
    assert whole(cache)


def test_pixels_of_face_boxes_keep_their_dtype_unless_named(tmp_path):
    cache, key = fill(tmp_path / "cache", "float32", "face-box")
    assert [s.key for s in convert(cache.root, tmp_path / "out", dtype="float16", quiet=True).streams] == [key]
    assert convert(cache.root, dtype="float16", streams=("face-box",), quiet=True).streams[0].dtype == "float16"


def test_recognised_words_go_along(tmp_path):
    cache, _ = fill(tmp_path / "cache")
    words = cache.root / "transcripts" / "whisper-0123456789ab"
    words.mkdir(parents=True)
    for file in (words.parent / "zarr.json", words / "zarr.json", words / "a.json"):
        file.write_text(json.dumps({"file": file.name}))
    convert(cache.root, tmp_path / "out", quiet=True)
    assert contents(tmp_path / "out" / "transcripts") == contents(words.parent)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("codec", ["own", "zstd"])
def test_every_consumer_gets_the_same_numbers_from_every_storage(tmp_path, dtype, codec):
    packing = None if codec == "own" else Packing("zstd", 64)
    reference, key = fill(tmp_path / "a", "float32")
    convert(reference.root, dtype=dtype, quiet=True) if dtype != "float32" else None
    key = next(k for k in reference.stream_keys() if reference.about(k)["settings"]["dtype"] == dtype)
    convert(reference.root, tmp_path / "out", packing=packing, streams=(key,), quiet=True)
    out = FeatureCache(tmp_path / "out")
    rows = np.concatenate([(x := reference.read(key, r)).values[x.present] for r in FRAMES]).astype(np.float64)
    stats = stream_stats(out, key, [*FRAMES])
    np.testing.assert_allclose(stats.mean, rows.mean(0), atol=1e-6)
    np.testing.assert_allclose(stats.std, rows.std(0), atol=1e-6)
    plain = out.declare("swin", "visual", 8, {"of": key}, {})
    for recording in FRAMES:
        out.write(plain.key, recording, reference.read(key, recording), dtype="float32")
    compared = compare_streams(out.root, key, plain.key, quiet=True).recordings
    assert [(r.cosine_worst, r.largest, r.presence) for r in compared] == [(1.0, 0.0, 0.0)] * 3


def test_stage_two_trains_the_same_on_every_packing(tmp_path):
    write_cache(tmp_path / "a")
    convert(tmp_path / "a", tmp_path / "bf", dtype="bfloat16", quiet=True)
    convert(tmp_path / "bf", tmp_path / "packed", packing=Packing("zstd", 30), quiet=True)
    rows = []
    for name in ("a", "bf", "packed"):
        asked = {"head": "concat", "epochs": 1, "device": "cpu", "runs": tmp_path / name / "runs"}
        rows.append(run_train(train_recipe(tmp_path / name, None, asked), quiet=True).evaluations)
    assert rows[1] == rows[2]
    assert rows[0] != rows[1]


def test_not_finite_values_are_counted_in_every_storage(tmp_path):
    for dtype in ("float16", "bfloat16"):
        cache, key = fill(tmp_path / dtype, dtype)
        file = cache.folder(key, "a") / "values" / "c" / "0" / "0"
        file.write_bytes(b"\xff" * 20 + file.read_bytes()[20:])
        (damage,) = verify(cache.root, deep=True, quiet=True).damages
        assert "10 values are not finite" in damage.cause


def test_the_command_says_bytes_and_error(tmp_path):
    cache, key = fill(tmp_path / "cache")
    args = ["cache", "convert", "--cache", str(cache.root), "--out", str(tmp_path / "out"), "--quiet"]
    options = ["--dtype", "float16", "--codec", "zstd", "--chunk", "128", "--stream", "swin", "--json"]
    (row,) = json.loads(CliRunner().invoke(app, [*args, *options]).stdout)["streams"]
    assert (row["stream"], row["dtype"], row["made"]) == (key, "float16", 3)
    assert 0 < row["mean"] < row["largest"] < 2**-11
    assert row["after"] < row["before"]
    assert f"{row['after']:,}" in CliRunner().invoke(app, [*args, "--dtype", "float16"]).stdout


_FINITE = st.floats(-60000, 60000, width=16)


@given(arrays(np.float16, st.tuples(st.integers(1, 9), st.just(3)), elements=_FINITE))
@settings(max_examples=20, deadline=None)
def test_float16_through_float32_is_the_identity(tmp_path_factory, values):
    cache = FeatureCache.create(tmp_path_factory.mktemp("c") / "cache")
    cache.timelines.write("r", Timeline(np.arange(len(values)) / 25, 1.0))
    key = cache.declare("s", "audio", 3, {"dtype": "float16"}, {}).key
    cache.write(key, "r", Aligned(values.astype(np.float32), np.ones(len(values), bool)), dtype="float16")
    up = convert(cache.root, dtype="float32", quiet=True).streams[0].key
    back = convert(cache.root, dtype="float16", streams=(up,), quiet=True).streams[0].key
    paths = [cache.folder(k, "r") / "values" / "c" / "0" / "0" for k in (key, back)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


@given(
    frames=st.integers(1, 600),
    dim=st.integers(1, 5),
    chunk=st.integers(1, 700),
    codec=st.sampled_from(CODECS),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=25, deadline=None)
def test_any_chunks_and_codec_give_equal_values(tmp_path_factory, frames, dim, chunk, codec, dtype):
    top = tmp_path_factory.mktemp("c")
    cache = FeatureCache.create(top / "cache")
    cache.timelines.write("r", Timeline(np.arange(frames) / 25, frames / 25))
    key = cache.declare("s", "audio", dim, {"dtype": dtype}, {}).key
    rng = np.random.default_rng(frames)
    values = rng.standard_normal((frames, dim), np.float32) * (rng.random((frames, 1)) > 0.5)
    cache.write(key, "r", Aligned(values, rng.random(frames) > 0.3), dtype=dtype)
    convert(cache.root, top / "out", packing=Packing(codec, chunk), quiet=True)
    old, new = (open_array(c / "features" / key / "r" / "values") for c in (cache.root, top / "out"))
    assert old.dtype == new.dtype
    assert old.tobytes() == new.tobytes()


@given(
    arrays(np.float32, st.tuples(st.integers(1, 9), st.just(3)), elements=st.floats(-(2.0**126), 2.0**126, width=32))
)
@settings(max_examples=30, deadline=None)
def test_bfloat16_is_rounded_as_torch_rounds_it(tmp_path_factory, values):
    cache = FeatureCache.create(tmp_path_factory.mktemp("c") / "cache")
    cache.timelines.write("r", Timeline(np.arange(len(values)) / 25, 1.0))
    key = cache.declare("s", "audio", 3, {}, {}).key
    cache.write(key, "r", Aligned(values, np.ones(len(values), bool)), dtype="bfloat16")
    wanted = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(cache.read(key, "r").values, wanted)


def test_a_chunk_without_frames_and_an_unknown_dtype_are_refused(tmp_path):
    with pytest.raises(DataError, match="wanted 1 or more"):
        Packing("zstd", 0)
    cache, key = fill(tmp_path / "cache")
    with pytest.raises(DataError, match="there are: bool, float16"):
        cache.write(key, "a", Aligned(np.zeros((700, 8), np.float32), np.ones(700, bool)), dtype="float8")


def test_in_place_a_damaged_timeline_is_left_for_the_extraction_that_can_make_it(tmp_path):
    cache, _ = fill(tmp_path / "cache")
    times = cache.root / "timelines" / "a" / "pts" / "c" / "0"
    times.write_bytes(b"\x01" + times.read_bytes()[1:])
    assert not whole(cache)
    with pytest.raises(CorruptCache):
        convert(cache.root, dtype="float16", quiet=True)
    assert times.is_file()
