"""MuSe folders at their own rates, and a cache as MuSe folders and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.errors import MissingData
from cache.interop import FORMATS
from cache.interop._bring import bring_in
from cache.interop._layout import export_to
from cache.interop._wants import Wants
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.store import FeatureCache


def write(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(",".join(map(str, r)) for r in rows)]) + "\n")


@pytest.fixture
def muse(tmp_path):
    """egemaps at 100 Hz, faces and labels at 2 Hz, two videos; as the packages of 2021 and later."""
    top = tmp_path / "c1_muse_wilder"
    for video, begin in (("1", 0), ("2", 3000)):
        fast, slow = begin + np.arange(400) * 10, begin + np.arange(8) * 500
        header = "timestamp,segment_id,f1,f2"
        write(top / f"feature_segments/egemaps/{video}.csv", header, [(t, 1, t / 1000, 1) for t in fast])
        write(top / f"feature_segments/vggface/{video}.csv", header, [(t, 1, t, -t) for t in slow])
        for dimension, sign in (("valence", 1), ("arousal", -1)):
            rows = [(t, sign * i / 8, 1) for i, t in enumerate(slow)]
            write(top / f"label_segments/{dimension}/{video}.csv", "timestamp,value,segment_id", rows)
    write(top / "metadata/partition.csv", "Id,Proposal", [("1", "train"), ("2", "devel")])
    return top


def test_100_hz_rows_on_the_labels_frames_by_hand(bring, muse):
    """A frame of 0.5 s is the mean of 50 rows: t, t + 0.01, ... is t + 0.245 on average."""
    done, cache = bring("muse", muse)
    assert not done.failures
    frames = cache.timelines.read("2")
    assert frames.pts.tolist() == [3 + i / 2 for i in range(8)]
    found = cache.read(cache.resolve("egemaps").key, "2").values
    np.testing.assert_allclose(found[:, 0], frames.pts + 0.245, atol=1e-5)
    faces = cache.read(cache.resolve("vggface").key, "2").values
    assert faces[:, 0].tolist() == [3000 + 500 * i for i in range(8)]
    labels = cache.labels.read("va", "2")
    assert labels.labelled.all()
    assert labels.va.tolist() == [[i / 8, -i / 8] for i in range(8)]
    assert cache.labels.partitions("va").of == {"1": "train", "2": "validation"}


def test_the_video_s_own_frames_are_kept(bring, muse, tmp_path):
    cache = FeatureCache.create(tmp_path / "old")
    cache.timelines.write("1", Timeline(np.arange(100) / 25, 4.0), {"clock": "container"})
    bring("muse", muse, cache)
    found = cache.read(cache.resolve("egemaps").key, "1").values[:, 0]
    np.testing.assert_allclose(found, np.arange(100) / 25 + 0.015, atol=1e-5)
    labels = cache.labels.read("va", "1")
    np.testing.assert_allclose(labels.va[:88, 0], np.arange(88) / 100, atol=1e-6)


def test_nothing_is_made_up_across_a_hole(bring, muse):
    for folder in ("feature_segments/vggface", "label_segments/valence", "label_segments/arousal"):
        path = muse / folder / "1.csv"
        lines = path.read_text().splitlines()
        path.write_text("\n".join(lines[:3] + lines[7:]) + "\n")
    _, cache = bring("muse", muse)
    assert cache.read(cache.resolve("vggface").key, "1").present.tolist() == [True] * 2 + [False] * 4 + [True] * 2
    assert cache.labels.read("va", "1").labelled.tolist() == [True] * 2 + [False] * 4 + [True] * 2


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "no table"),
        ("timestamp,segment_id,f1\n", "no rows"),
        ("timestamp,segment_id,f1\n0,1\n", "rows of shape (1, 2) below a header of 3"),
        ("timestamp,segment_id,f1\n0,1,2\n500,1\n", "no table"),
        ("timestamp,segment_id,f1\n0,1,2,3\n", "below a header of 3"),
        ("timestamp,segment_id,f1\n0,1,x\n", "no table"),
        ("timestamp,segment_id,f1\n500,1,2\n0,1,2\n", "must increase"),
        ("segment_id,f1\n1,2\n", "no column timestamp or time_s"),
        ("timestamp,f1,f1\n0,1,2\n", "below a header"),
        ("timestamp,segment_id\n0,1\n", "wanted numbers"),
        ("timestamp,segment_id,f1\n0,1," + "9" * 5000 + "\n", "finite"),
        ("timestamp,segment_id,f1,f2\n0,1,\xff\n", "no table"),
    ],
)
def test_a_bad_file_fails_alone(bring, muse, text, cause):
    (muse / "feature_segments/vggface/1.csv").write_bytes(text.encode("latin1"))
    done, cache = bring("muse", muse)
    assert [f.recording for f in done.failures] == ["1"]
    assert cause in str(done.failures[0])
    assert cache.recordings(cache.resolve("vggface").key) == ["2"]


def test_a_range_missing_arousal_and_no_partitions_are_told(bring, muse):
    for path in (muse / "label_segments/arousal").iterdir():
        path.unlink()
    (muse / "metadata/partition.csv").unlink()
    done, cache = bring("muse", muse, label_range=(0, 5))
    assert not done.failures
    np.testing.assert_allclose(cache.labels.read("va", "1").va[:, 0], 2 * np.arange(8) / 8 / 5 - 1, atol=1e-6)
    assert not cache.labels.read("va", "1").va[:, 1].any()
    assert any("no arousal" in n for n in done.notes)
    assert any("in no partition" in n for n in done.notes)


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(MissingData, match=r"feature_segments/<name>/<id>\.csv"):
        FORMATS.get("muse")(tmp_path, Wants())


def imported(path, root, frames_of=None, **wants):
    """A cache from MuSe folders, on the frames of another cache where one is given."""
    cache = FeatureCache.create(root)
    for recording in frames_of.timelines.recordings() if frames_of else ():
        cache.timelines.write(recording, frames_of.timelines.read(recording), {"clock": "container"})
    layout = FORMATS.get("muse")(path, Wants(**wants))
    return bring_in(layout, "muse", cache, quiet=True), cache


def test_a_round_trip_keeps_rows_masks_labels_and_partitions(full, tmp_path):
    written = export_to(FORMATS.get("muse"), full, tmp_path / "out")
    assert "stream settings" in written.drops
    first = full.labels.protocols()[0]
    done, cache = imported(tmp_path / "out", tmp_path / "back", full, protocol=first)
    assert not done.failures
    for key in full.stream_keys():
        again = cache.resolve(full.stream(key).name)
        assert again.modality == full.stream(key).modality
        for recording in full.recordings(key):
            old, new = full.read(key, recording), cache.read(again.key, recording)
            assert np.array_equal(old.present, new.present)
            np.testing.assert_allclose(new.values, old.values, rtol=1e-6)
    assert full.labels.partitions(first) == cache.labels.partitions(first)
    for recording in full.labels.recordings(first):
        old, new = full.labels.read(first, recording), cache.labels.read(first, recording)
        assert np.array_equal(old.labelled, new.labelled)
        np.testing.assert_allclose(new.va, old.va, atol=1e-7)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    ids=st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=3, unique_by=lambda i: i.strip()).filter(
        lambda ids: all(i.strip() == i and "\r" not in i and "\n" not in i and "\0" not in i for i in ids)
    ),
    seen=st.lists(st.booleans(), min_size=4, max_size=30).filter(any),
    rate=st.sampled_from([2.0, 25.0, 29.97, 100.0]),
    seed=st.integers(0, 99),
)
def test_any_even_cache_comes_back_from_its_folders(tmp_path_factory, ids, seen, rate, seed):
    """Ids, times, values, masks, labels, partitions; nothing of the old cache is there but the folders."""
    top, rng = tmp_path_factory.mktemp("p"), np.random.default_rng(seed)
    old, present = FeatureCache.create(top / "old"), np.array(seen)
    spec = old.declare("face", "visual", 3, {"encoder": "e"}, {})
    frames = Timeline(1.5 + np.arange(len(seen)) / rate, 1.5 + len(seen) / rate)
    labels = {}
    for recording in ids:
        old.timelines.write(recording, frames, {"clock": "container"})
        values = np.where(present[:, None], rng.standard_normal((len(seen), 3), np.float32), 0)
        old.write(spec.key, recording, Aligned(values, present), dtype="float32")
        labels[recording] = Labels(rng.uniform(-1, 1, (len(seen), 2)).astype(np.float32), np.ones(len(seen), bool))
    old.labels.write("va", labels, Partitions(dict.fromkeys(ids, "train"), {ids[0]: "s"}))
    export_to(FORMATS.get("muse"), old, top / "out")
    done, new = imported(top / "out", top / "new")
    assert not done.failures
    assert new.recordings(done.streams[0]) == sorted(ids)
    assert new.labels.partitions("va") == old.labels.partitions("va")
    for recording in ids:
        np.testing.assert_allclose(new.timelines.read(recording).edges, frames.edges, atol=1e-5)
        found, was = new.read(done.streams[0], recording), old.read(spec.key, recording)
        assert np.array_equal(found.present, present)
        np.testing.assert_allclose(found.values, was.values, atol=2e-3)
        np.testing.assert_allclose(new.labels.read("va", recording).va, labels[recording].va, atol=2e-3)
