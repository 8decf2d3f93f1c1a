"""A stream as one array: the rows that are present, in order, never all in memory; its components; shared frames."""

import numpy as np
import pytest
from typer.testing import CliRunner

import cache.whole.stacked
import cli
from cache.errors import CacheError, CorruptCache, MissingData, UsageError
from cache.layout import chunk_file
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.stats import stream_stats
from cache.store import FeatureCache
from cache.whole.duplicates import find_duplicates, shared_codes
from cache.whole.project import project
from cache.whole.stacked import blocks, pieces, stacked

DIM = 6
SPLIT = {"a": "train", "b": "train", "c": "validation", "d": "test"}


def walk(rng, frames):
    """Features that drift, as those of a film do."""
    return np.cumsum(rng.normal(size=(frames, DIM)) * [3, 2, 1, 0.1, 0.05, 0.01], axis=0).astype(np.float32)


def put(store, key, name, values, present=None):
    if not store.timelines.has(name):
        store.timelines.write(name, Timeline(np.arange(len(values)) / 25, len(values) / 25))
    seen = np.ones(len(values), bool) if present is None else present
    store.write(key, name, Aligned(values, seen), dtype="float32")


@pytest.fixture
def store(tmp_path):
    made, rng = FeatureCache.create(tmp_path / "cache", "toy"), np.random.default_rng(0)
    key = made.declare("face", "visual", DIM, {"encoder": "x", "dtype": "float32"}, {}).key
    for name, frames in zip("abcd", (300, 41, 120, 90), strict=True):
        seen = rng.random(frames) > 0.2
        put(made, key, name, walk(rng, frames), seen)
    put(made, key, "none", walk(rng, 30), np.zeros(30, bool))
    split(made, SPLIT)
    return made


def split(store, of):
    frames = {r: len(store.timelines.read(r)) for r in of}
    labels = {r: Labels(np.zeros((n, 2), np.float32), np.ones(n, bool)) for r, n in frames.items()}
    store.labels.write("va", labels, Partitions(of))


@pytest.fixture(params=[7, 65_536])
def small_pieces(request, monkeypatch):
    monkeypatch.setattr(cache.whole.stacked, "_AT_ONCE", request.param)
    return request.param


def rows_of(store, names):
    read = [store.read(store.resolve("face").key, n) for n in names]
    return np.concatenate([one.values[one.present] for one in read])


def test_present_rows_follow_one_another_whatever_the_pieces(store, small_pieces):
    found = stacked(store, "face")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.compute(), rows_of(store, "abcd"))
    np.testing.assert_array_equal(stacked(store, "face", ["c", "a"]).compute(), rows_of(store, "ca"))
    assert all(p.stop - p.start <= small_pieces for p in pieces(store, "face"))
    stats = stream_stats(store, store.resolve("face").key, ["a", "b"])
    np.testing.assert_allclose(stacked(store, "face", ["a", "b"]).mean(axis=0).compute(), stats.mean, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 50, 10_000])
def test_blocks_are_all_rows_once_and_none_is_a_small_rest(store, rows):
    made = list(blocks(stacked(store, "face"), rows))
    np.testing.assert_array_equal(np.concatenate(made), rows_of(store, "abcd"))
    assert min(map(len, made)) >= min(rows, len(rows_of(store, "abcd")))


def test_what_is_damaged_or_absent_is_said(store):
    with pytest.raises(CacheError, match="no frame in which anything is present"):
        stacked(store, "face", ["none"])
    path = chunk_file(store.folder(store.resolve("face").key, "b") / "values", 2)
    raw = bytearray(path.read_bytes())
    raw[10] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CorruptCache):
        stacked(store, "face").mean().compute()


def test_components_are_those_of_the_training_frames_alone(store, small_pieces):
    made = project(store, "face", 3, quiet=True)
    train = rows_of(store, "ab").astype(np.float64)
    centred = train - train.mean(0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    assert made.kept == pytest.approx(values[-3:].sum() / values.sum(), abs=1e-6)
    assert (made.frames, made.made, made.recordings) == (len(train), 5, 5)
    spec = store.resolve("face-pca3")
    assert (spec.key, spec.dim, spec.modality) == (made.key, 3, "visual")
    there, here = store.read(store.resolve("face").key, "c"), store.read(made.key, "c")
    np.testing.assert_array_equal(here.present, there.present)
    want = (there.values - train.mean(0)) @ axes[:, ::-1][:, :3]
    got = here.values * np.sign((here.values * want).sum(0))  # an axis may point either way
    np.testing.assert_allclose(got[here.present], want[here.present], atol=1e-3)
    assert project(store, "face", 3, quiet=True).made == 0


def test_other_training_frames_make_another_stream(store):
    first = project(store, "face", 2, quiet=True).key
    assert project(store, "face", 2, partition="validation", quiet=True).key != first


def test_what_cannot_be_projected_is_said(store):
    with pytest.raises(UsageError, match="7 components of 6 dimensions"):
        project(store, "face", 7, quiet=True)
    with pytest.raises(MissingData, match="no recording of partition 'dev'"):
        project(store, "face", 2, partition="dev", quiet=True)


@pytest.mark.parametrize("every", [1, 3])
def test_copies_pieces_and_noisy_copies_are_found_and_nothing_else(store, every, monkeypatch):
    monkeypatch.setattr("cache.whole.duplicates._HELD", -(-900 // every))
    key, rng = store.resolve("face").key, np.random.default_rng(5)
    source = store.read(key, "a")
    put(store, key, "piece", source.values[60:200], source.present[60:200])
    scale = source.values.std(0) * 1e-3
    put(store, key, "noisy", source.values + rng.normal(scale=scale, size=source.values.shape), source.present)
    found = find_duplicates(store, "face")
    shared = {(p.a, p.b): p.shared for p in found.pairs}
    assert shared["a", "piece"] == 1.0
    assert min(shared.values()) > 0.9
    assert {(p.a, p.b) for p in found.pairs} == {("a", "piece"), ("a", "noisy"), ("noisy", "piece")}
    assert found.every in (every, every + 1)


def test_a_copy_on_the_other_side_of_the_split_comes_first_and_fails_the_command(tmp_path, store):
    quiet = CliRunner().invoke(cli.app, ["cache", "duplicates", "face", "--cache", str(store.root)])
    assert (quiet.exit_code, "0 pairs of 4 recordings" in quiet.output) == (0, True), quiet.output
    key = store.resolve("face").key
    copy = store.read(key, "d")
    put(store, key, "e", copy.values, copy.present)
    split(store, {**SPLIT, "e": "train"})
    done = CliRunner().invoke(cli.app, ["cache", "duplicates", "face", "--cache", str(store.root)])
    assert done.exit_code == 1
    assert "d  e  100%  test and train" in done.output


def test_codes_that_many_recordings_have_tell_nothing():
    black, rng = np.arange(8, dtype=np.uint64), np.random.default_rng(0)
    own = {f"r{i}": np.sort(rng.integers(100, 2**40, 30).astype(np.uint64)) for i in range(30)}
    codes = {name: np.concatenate([black, held]) for name, held in own.items()}
    assert shared_codes(codes) == []
    assert shared_codes({"r0": codes["r0"], "r1": codes["r0"][:20]}) == [("r0", "r1", 1.0)]
