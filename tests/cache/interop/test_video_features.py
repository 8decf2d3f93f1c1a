"""The .npy files of video_features, at 4 Hz and other rates, laid onto the video's frames; and its hostile cousins."""

import os

import numpy as np
import pytest

from cache.align import align
from cache.errors import DataError, MissingData, UsageError
from cache.interop import FORMATS
from cache.interop._layout import export_to
from cache.interop._wants import Wants
from cache.records import Timeline, Track
from cache.store import FeatureCache


def save(folder, video, feature, rows, times_ms=None, fps=None):
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{video}_{feature}.npy", rows)
    if times_ms is not None:
        np.save(folder / f"{video}_timestamps_ms.npy", np.asarray(times_ms, float))
    if fps is not None:
        np.save(folder / f"{video}_fps.npy", np.array(fps))


def test_4_hz_rows_on_25_fps_frames_by_hand(bring, tmp_path):
    """Row i holds [i/4, (i+1)/4): frame 6 is 0.24-0.28 s, of which 0.01 s is row 0 and 0.03 s is row 1."""
    rows = np.arange(8.0)[:, None] * [1, 10]
    save(tmp_path / "out" / "clip", "a", "clip", rows, np.arange(8) * 250, 4.0)
    cache = FeatureCache.create(tmp_path / "cache")
    cache.timelines.write("a", Timeline(np.arange(50) / 25, 2.0), {"clock": "container"})
    done, _ = bring("video-features", tmp_path / "out", cache)
    found = cache.read(done.streams[0], "a")
    assert found.present.all()
    assert found.values[:6].tolist() == [[0, 0]] * 6
    np.testing.assert_allclose(found.values[6], [0.75, 7.5], atol=1e-6)
    assert found.values[7:12].tolist() == [[1, 10]] * 5
    np.testing.assert_allclose(found.values[12], [1.5, 15], atol=1e-6)
    edges = np.arange(9) / 4
    track = Track(np.stack([edges[:-1], edges[1:]], axis=1), rows.astype(np.float32))
    assert np.array_equal(found.values, align(track, cache.timelines.read("a")).values)


def test_rows_on_frames_that_are_not_even_and_begin_late(bring, tmp_path):
    pts = np.array([0.85, 0.9, 1.3, 1.31, 2.4])
    save(tmp_path / "out", "late", "resnet", np.arange(30.0)[:, None] + [0, 0.5], np.arange(30) * 100, 10.0)
    cache = FeatureCache.create(tmp_path / "cache")
    cache.timelines.write("late", Timeline(pts, 3.5), {"clock": "container"})
    done, _ = bring("video-features", tmp_path / "out", cache)
    found = cache.read(done.streams[0], "late")
    fourth = (0.09 * 13 + 0.1 * sum(range(14, 24))) / 1.09  # 1.31 s to 2.4 s: most of row 13, all of 14 to 23
    fifth = (0.1 * sum(range(24, 30))) / 0.6  # rows end at 3 s, the frame at 3.5 s
    np.testing.assert_allclose(found.values[:, 0], [8, (9 + 10 + 11 + 12) / 4, 13, fourth, fifth], atol=1e-5)
    assert found.present.all()


def test_a_stack_s_time_is_that_of_its_last_frame(bring, tmp_path):
    save(tmp_path / "i3d", "v", "rgb", np.ones((3, 2)) * [[1], [2], [3]], [2600, 5160, 7720], 25.0)
    done, cache = bring("video-features", tmp_path / "i3d", fps=10)
    assert cache.stream(done.streams[0]).modality == "visual"
    values = cache.read(done.streams[0], "v").values[:, 0]
    assert (values[:26] == 1).all()
    assert (values[26:51] == 2).all()
    assert cache.timelines.read("v").end == pytest.approx(7.8)


def test_vggish_rows_are_096_seconds(bring, tmp_path):
    save(tmp_path / "a", "v", "vggish", np.eye(3))
    done, cache = bring("video-features", tmp_path / "a", fps=100)
    assert cache.stream(done.streams[0]).modality == "audio"
    assert np.flatnonzero(np.diff(cache.read(done.streams[0], "v").values[:, 0])).tolist() == [95]


def test_names_with_underscores_and_files_without_times(bring, tmp_path):
    save(tmp_path / "o", "my_video", "clip", np.ones((4, 2)), np.arange(4) * 40, 25)
    save(tmp_path / "o", "my", "clip", np.ones((4, 2)), np.arange(4) * 40, 25)
    save(tmp_path / "o", "other", "s3d", np.ones((1, 1024)))
    done, cache = bring("video-features", tmp_path / "o")
    assert cache.recordings(done.streams[0]) == ["my", "my_video"]
    assert any("other_s3d.npy" in n for n in done.notes)


TABLES = {
    "a row a video": "name,valence,arousal,partition,subject\na,0.5,-0.25,train,s1\nb,,,test,\n",
    "rows with times": "Video,time_s,val,aro,split\na,0,0.5,-0.25,train\na,0.5,0.5,-0.25,train\nb,,,,test\n",
    "in ms": "id,timestamp,valence,arousal,partition\na,0,0.5,-0.25,train\na,500,0.5,-0.25,\nb,,,,test\n",
}


@pytest.mark.parametrize("table", TABLES)
def test_labels_from_a_table(bring, tmp_path, table):
    for video in "ab":
        save(tmp_path / "o", video, "clip", np.ones((4, 2)), np.arange(4) * 250, 4)
    (tmp_path / "labels.csv").write_text(TABLES[table])
    done, cache = bring("video-features", tmp_path / "o", labels=tmp_path / "labels.csv", fps=4)
    labels = cache.labels.read("va", "a")
    assert labels.va.tolist() == [[0.5, -0.25]] * 4
    assert labels.labelled.all()
    assert cache.labels.partitions("va").of == {"a": "train", "b": "test"}
    assert done.labelled == {"va": 1}


@pytest.mark.parametrize(
    "table", ["", "valence\n1\n", "name,valence\na,b\n", "name,valence\na,1\na,1\n", "name\na,b\n", "\0\n", "é" * 9]
)
def test_a_bad_table_is_an_error(tmp_path, table):
    save(tmp_path / "o", "a", "clip", np.ones((4, 2)), np.arange(4) * 250, 4)
    (tmp_path / "labels.csv").write_text(table, encoding="latin1")
    with pytest.raises(DataError):
        FORMATS.get("video-features")(tmp_path / "o", Wants(labels=tmp_path / "labels.csv"))


class Runs:
    def __reduce__(self):
        return os.system, ("touch ran",)


def objects(path):
    np.save(path, np.array([Runs()], object), allow_pickle=True)


def structured(path):
    np.save(path, np.zeros(3, [("a", "f4")]))


def lies(path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1024), }\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64))


def runs(path):
    header = b"{'descr': __import__('os').system('touch ran'), 'fortran_order': False, 'shape': (1,), }\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64))


def nothing(path):
    path.write_bytes(b"")


def folder(path):
    path.unlink()
    path.mkdir()


def flow(path):
    np.save(path, np.zeros((4, 2, 8, 8)))


def short(path):
    np.save(path, np.ones((3, 2)))


def not_finite(path):
    np.save(path, np.full((4, 2), np.nan))


@pytest.mark.parametrize("spoil", [objects, structured, lies, runs, nothing, flow, short, not_finite])
def test_a_bad_file_fails_alone(bring, tmp_path, monkeypatch, spoil):
    for video in "abc":
        save(tmp_path / "o", video, "clip", np.ones((4, 2)), np.arange(4) * 250, 4)
    spoil(tmp_path / "o" / "b_clip.npy")
    monkeypatch.chdir(tmp_path)
    done, cache = bring("video-features", tmp_path / "o")
    assert [f.recording for f in done.failures] == ["b"]
    assert cache.recordings(done.streams[0]) == ["a", "c"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "times", [[0, 250, 250, 500], [0, np.nan, 1, 2], [0, 250, 500], [0, 1, 2, 1e15], [0, 250, 500, 7e8]]
)
def test_bad_times_fail_alone(bring, tmp_path, times):
    save(tmp_path / "o", "a", "clip", np.ones((4, 2)), np.arange(4) * 250, 4)
    save(tmp_path / "o", "b", "clip", np.ones((4, 2)), times, 4)
    done, _ = bring("video-features", tmp_path / "o")
    assert [f.recording for f in done.failures] == ["b"]


def test_numbers_that_float16_cannot_hold_name_the_option(bring, tmp_path):
    save(tmp_path / "o", "a", "clip", np.full((4, 2), 1e6), np.arange(4) * 250, 4)
    done, _ = bring("video-features", tmp_path / "o", dtype="float16")
    assert "--dtype float32" in str(done.failures[0])
    assert not bring("video-features", tmp_path / "o")[0].failures


def test_one_feature_twice_nothing_there_and_no_export(tmp_path, full):
    layout = FORMATS.get("video-features")
    with pytest.raises(MissingData):
        layout(tmp_path / "none", Wants())
    (tmp_path / "o").mkdir()
    with pytest.raises(UsageError, match="no features"):
        layout(tmp_path / "o", Wants())
    for model in "xy":
        save(tmp_path / "o" / model, "a", "clip", np.ones((4, 2)), np.arange(4) * 250, 4)
    with pytest.raises(DataError, match="one folder at a time"):
        layout(tmp_path / "o", Wants())
    with pytest.raises(UsageError, match="choose hdf5"):
        export_to(layout, full, tmp_path / "out")
