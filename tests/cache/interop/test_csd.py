"""Computational sequences as the CMU SDK writes them come in; ours go out in a form its reader takes."""

import json

import h5py
import numpy as np
import pytest

from cache.errors import UsageError
from cache.interop import FORMATS
from cache.interop._layout import export_to
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.store import FeatureCache


def write_csd(path, name, data, **metadata):
    """As ``write_CSD`` of the SDK does: gzip, metadata as JSON in datasets of one string."""
    with h5py.File(path, "w") as f:
        top = f.create_group(name)
        group = top.create_group("data")
        for key, (features, intervals) in data.items():
            entry = group.create_group(key)
            entry.create_dataset("features", data=features, compression="gzip", compression_opts=9)
            entry.create_dataset("intervals", data=intervals, compression="gzip", compression_opts=9)
        about = top.create_group("metadata")
        for key, value in {"root name": name, **metadata}.items():
            data = about.create_dataset(key, (1,), dtype=h5py.special_dtype(vlen=str))
            data[0] = json.dumps(value)


def steps(count, step, start=0.0):
    edges = start + np.arange(count + 1) * step
    return np.stack([edges[:-1], edges[1:]], axis=1)


@pytest.fixture
def mosi(tmp_path):
    """COVAREP at 100 Hz, word vectors, FACET as points, two labelled segments of each of three videos."""
    rng, folder = np.random.default_rng(0), tmp_path / "mosi"
    folder.mkdir()
    videos = ["2iD-tVS8NPw", "8d-gEyoeBzc", "a/b"[:1]]
    write_csd(folder / "a.csd", "COVAREP", {v: (rng.normal(size=(400, 4)), steps(400, 0.01)) for v in videos})
    write_csd(folder / "t.csd", "glove_vectors", {v: (rng.normal(size=(8, 3)), steps(8, 0.5)) for v in videos})
    points = np.repeat(np.arange(120)[:, None] / 30, 2, axis=1)
    write_csd(folder / "v.csd", "FACET_4.2", {v: (rng.normal(size=(120, 2)), points) for v in videos[:2]})
    labels = np.array([[2.4], [-3.0]]), np.array([[0.0, 1.0], [1.5, 4.0]])
    write_csd(folder / "l.csd", "Opinion Segment Labels", dict.fromkeys(videos, labels))
    return folder


def test_times_labels_and_modalities_of_the_source(bring, mosi):
    done, cache = bring("csd", mosi, label_range=(-3, 3), fps=10)
    assert not done.failures
    kinds = {cache.stream(k).name: cache.stream(k).modality for k in cache.stream_keys()}
    assert kinds == {"COVAREP": "audio", "glove_vectors": "text", "FACET_4.2": "visual"}
    assert cache.timelines.info("2iD-tVS8NPw")["clock"] == "nominal"
    assert len(cache.timelines.read("2iD-tVS8NPw")) == 40
    with h5py.File(mosi / "a.csd") as f:
        rows = f["COVAREP/data/2iD-tVS8NPw/features"][()]
    audio = cache.read(cache.resolve("COVAREP").key, "2iD-tVS8NPw")
    np.testing.assert_allclose(audio.values, rows.reshape(40, 10, 4).mean(axis=1), atol=2e-3)
    labels = cache.labels.read("va", "2iD-tVS8NPw")
    assert labels.labelled.tolist() == [True] * 10 + [False] * 5 + [True] * 25
    np.testing.assert_allclose(labels.va[:10, 0], 0.8, atol=1e-6)
    np.testing.assert_allclose(labels.va[15:, 0], -1, atol=1e-6)
    assert not labels.va[:, 1].any()
    assert any("no arousal" in n for n in done.notes)


def test_labels_outside_the_range_name_the_option(bring, mosi):
    with pytest.raises(UsageError, match="--label-range"):
        bring("csd", mosi)
    again, _ = bring("csd", mosi, label_range=(-3, 3))
    assert not again.failures
    assert again.labelled == {"va": 3}


def test_points_last_until_the_next_one(bring, mosi):
    _, cache = bring("csd", mosi, label_range=(-3, 3), fps=30)
    with h5py.File(mosi / "v.csd") as f:
        rows = f["FACET_4.2/data/2iD-tVS8NPw/features"][()]
    faces = cache.read(cache.resolve("FACET_4.2").key, "2iD-tVS8NPw")
    np.testing.assert_allclose(faces.values, rows, atol=2e-3)
    assert faces.present.all()


def test_an_unknown_modality_is_asked_for(bring, tmp_path):
    write_csd(tmp_path / "x.csd", "Mystery", {"a": (np.ones((3, 2)), steps(3, 1.0))})
    with pytest.raises(UsageError, match=r"--stream 'Mystery=visual'"):
        bring("csd", tmp_path / "x.csd")
    done, cache = bring("csd", tmp_path / "x.csd", modalities={"Mystery": "audio"})
    assert cache.stream(done.streams[0]).modality == "audio"


def test_rows_that_are_not_finite_are_absent_and_told(bring, tmp_path):
    rows = np.ones((40, 2))
    rows[3, 1] = -np.inf
    write_csd(tmp_path / "COVAREP.csd", "COVAREP", {"a": (rows, steps(40, 0.04))})
    done, cache = bring("csd", tmp_path / "COVAREP.csd")
    assert np.flatnonzero(~cache.read(done.streams[0], "a").present).tolist() == [3]
    assert any("1 rows" in n for n in done.notes)


@pytest.mark.parametrize(
    ("features", "intervals"),
    [
        (np.ones((4, 2)), steps(3, 1.0)),
        (np.ones((4, 2)), steps(4, 1.0)[:, ::-1]),
        (np.ones((4, 2)), np.full((4, 2), np.nan)),
        (np.full((4, 2), np.inf), steps(4, 1.0)),
        (np.array([b"text"] * 4), steps(4, 1.0)),
        (np.ones((4, 2)), steps(4, 1e12)),
        (np.ones((4, 3)), steps(4, 1.0)),
    ],
)
def test_a_bad_entry_fails_alone(bring, tmp_path, features, intervals):
    good = np.ones((4, 2)), steps(4, 1.0)
    write_csd(tmp_path / "COVAREP.csd", "COVAREP", {"a": good, "bad": (features, intervals), "c": good})
    done, cache = bring("csd", tmp_path / "COVAREP.csd")
    assert [f.recording for f in done.failures] == ["bad"]
    assert cache.recordings(done.streams[0]) == ["a", "c"]


def test_a_round_trip_keeps_rows_masks_labels_and_partitions(bring, full, tmp_path):
    written = export_to(FORMATS.get("csd"), full, tmp_path / "out")
    assert "settings" in written.drops
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["face.csd", "labels.csd", "voice.csd"]
    cache = bring("csd", tmp_path / "out", same_frames(full, tmp_path / "same"), protocol="other year")[1]
    for key in full.stream_keys():
        name = full.stream(key).name
        again = cache.resolve(name)
        assert again.modality == full.stream(key).modality
        for recording in full.recordings(key):
            old, new = full.read(key, recording), cache.read(again.key, recording)
            assert np.array_equal(old.values, new.values)
            assert np.array_equal(old.present, new.present)
    first = full.labels.protocols()[0]
    assert full.labels.partitions(first) == cache.labels.partitions("other year")
    for recording in full.labels.recordings(first):
        old, new = full.labels.read(first, recording), cache.labels.read("other year", recording)
        assert np.array_equal(old.va, new.va)
        assert np.array_equal(old.labelled, new.labelled)


def same_frames(cache, root):
    """A new cache that has only the frame times of another."""
    new = type(cache).create(root)
    for recording in cache.timelines.recordings():
        frames = cache.timelines.read(recording)
        new.timelines.write(recording, Timeline(frames.pts, frames.end), {"clock": "container"})
    return new


def test_the_frames_that_the_cache_has_are_kept(bring, mosi, tmp_path, full):
    cache = type(full).create(tmp_path / "old")
    spec = cache.declare("swin", "visual", 2, {"encoder": "swin"}, {})
    cache.timelines.write("8d-gEyoeBzc", Timeline(np.arange(99) / 29.97, 3.31), {"clock": "container"})
    cache.write(spec.key, "8d-gEyoeBzc", Aligned(np.ones((99, 2), np.float32), np.ones(99, bool)))
    done, _ = bring("csd", mosi, cache, label_range=(-3, 3))
    assert cache.timelines.info("8d-gEyoeBzc")["clock"] == "container"
    assert len(cache.read(cache.resolve("COVAREP").key, "8d-gEyoeBzc").values) == 99
    assert any(n.startswith("2 recordings: no video times") for n in done.notes)


def test_the_sdk_s_own_way_of_reading_takes_what_we_write(full, tmp_path):
    """``read_CSD``: the first group, its data as a dict, each metadata entry JSON in a string."""
    export_to(FORMATS.get("csd"), full, tmp_path / "out")
    with h5py.File(tmp_path / "out" / "face.csd") as f:
        top = f[next(iter(f.keys()))]
        data = dict(top["data"])
        about = {k: json.loads(top["metadata"][k][0]) for k in top["metadata"]}
        assert about["root name"] == "face"
        assert "dimension names" in about
        for entry in data.values():
            assert entry["intervals"].shape == (entry["features"].shape[0], 2)


def test_words_are_left_out_and_segments_have_their_video_for_a_subject(bring, tmp_path):
    """As the SDK's alignment to labels names its entries; words are text."""
    segments = {f"v{i}[{j}]": (np.full((4, 2), j), steps(4, 0.5, 10 * j)) for i in range(2) for j in range(3)}
    write_csd(tmp_path / "COVAREP.csd", "COVAREP", segments)
    words = {k: (np.array([[b"so"]] * 4, "S32"), v[1]) for k, v in segments.items()}
    write_csd(tmp_path / "words.csd", "words", words)
    (tmp_path / "split.csv").write_text("name,partition,subject\n" + "".join(f"{k},train,{k[:2]}\n" for k in segments))
    done, cache = bring("csd", tmp_path, labels=tmp_path / "split.csv")
    assert not done.failures
    assert [cache.stream(k).name for k in done.streams] == ["COVAREP"]
    assert any(n.startswith("words holds text") for n in done.notes)
    assert (cache.read(done.streams[0], "v1[2]").values == 2).all()
    assert cache.timelines.read("v1[2]").pts[0] == 20
    assert cache.labels.partitions("va").subjects["v1[2]"] == "v1"
    assert cache.labels.partitions("va").of["v0[0]"] == "train"


def test_names_that_would_be_one_file_are_told_apart(bring, tmp_path):
    cache = FeatureCache.create(tmp_path / "c")
    cache.timelines.write("r", Timeline(np.arange(3) / 25, 0.12))
    for i, name in enumerate(("Face", "face", "labels")):
        spec = cache.declare(name, "visual", 1, {"encoder": name}, {})
        cache.write(spec.key, "r", Aligned(np.full((3, 1), i, np.float32), np.ones(3, bool)))
    cache.labels.write("va", {"r": Labels(np.zeros((3, 2), np.float32), np.ones(3, bool))}, Partitions({"r": "train"}))
    export_to(FORMATS.get("csd"), cache, tmp_path / "out")
    files = [p.name for p in (tmp_path / "out").iterdir()]
    assert len({f.casefold() for f in files}) == len(files) == 4
    done, back = bring("csd", tmp_path / "out", FeatureCache.create(tmp_path / "b"))
    assert sorted(back.read(k, "r").values[0, 0] for k in done.streams) == [0, 1, 2]
    assert back.labels.read("va", "r").labelled.all()
