"""MERBench's folders: clips, frames, faces; labels from its pickled .npz, which is never run, or a table."""

import os
import zipfile

import numpy as np
import pytest

from cache.errors import DataError, MissingData, UsageError
from cache.interop import FORMATS
from cache.interop._layout import export_to
from cache.interop._wants import Wants
from cache.records import Timeline
from cache.store import FeatureCache


@pytest.fixture
def folder(tmp_path):
    """A whole-clip vector, 8 rows of speech, 4 faces in files of their own; labels as ``numpy.savez`` makes them."""
    rng, top = np.random.default_rng(0), tmp_path / "mer"
    for clip in ("c1", "c2", "c3"):
        for name in ("roberta-UTT", "hubert-FRA", f"manet-FRA/{clip}"):
            (top / "features" / name).mkdir(parents=True, exist_ok=True)
        np.save(top / f"features/roberta-UTT/{clip}.npy", rng.normal(size=5))
        np.save(top / f"features/hubert-FRA/{clip}.npy", rng.normal(size=(1, 8, 3)))
        for i in range(4):
            np.save(top / f"features/manet-FRA/{clip}/{i:03d}.npy", np.full(2, i))
    train = {"c1": {"emo": "happy", "val": 2.5}, "c2": {"emo": "sad", "val": ""}}
    np.savez(top / "label.npz", train_corpus=train, test1_corpus={"c3": {"emo": "sad", "val": -1.0}})
    return top


def test_rows_labels_and_partitions(bring, folder):
    done, cache = bring("merbench", folder, label_range=(-5, 5))
    assert not done.failures
    kinds = {cache.stream(k).name: cache.stream(k).modality for k in done.streams}
    assert kinds == {"roberta-UTT": "text", "hubert-FRA": "audio", "manet-FRA": "visual"}
    speech = cache.read(cache.resolve("hubert-FRA").key, "c1").values
    assert np.array_equal(speech, np.load(folder / "features/hubert-FRA/c1.npy")[0].astype(np.float32))
    clip = cache.read(cache.resolve("roberta-UTT").key, "c1").values
    assert (clip == np.load(folder / "features/roberta-UTT/c1.npy").astype(np.float32)).all()
    assert clip.shape == (8, 5)
    faces = cache.read(cache.resolve("manet-FRA").key, "c1").values
    assert faces[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert cache.labels.partitions("va").of == {"c1": "train", "c2": "train", "c3": "test1"}
    assert cache.labels.recordings("va") == ["c1", "c3"]
    assert np.allclose(cache.labels.read("va", "c1").va, [0.5, 0])
    assert any("no arousal" in n for n in done.notes)
    assert "emotion classes" in done.drops


def test_features_that_come_later_fill_the_same_frames(bring, folder, tmp_path):
    cache = FeatureCache.create(tmp_path / "cache")
    cache.timelines.write("c1", Timeline(2 + np.arange(16) / 8, 4.0), {"clock": "container"})
    bring("merbench", folder, cache, label_range=(-5, 5))
    faces = cache.read(cache.resolve("manet-FRA").key, "c1")
    assert faces.present.all()
    assert faces.values[:, 0].tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4


def test_a_table_of_labels(bring, folder):
    (folder / "label.npz").unlink()
    (folder / "label.csv").write_text("name,valence,arousal,partition\nc1,0.5,0.25,train\nc2,-1,1,dev\n")
    done, cache = bring("merbench", folder)
    assert np.allclose(cache.labels.read("va", "c1").va, [0.5, 0.25])
    assert cache.labels.partitions("va").of == {"c1": "train", "c2": "validation"}
    assert not done.failures


class Runs:
    def __reduce__(self):
        return os.system, ("touch ran",)


def test_a_label_file_that_would_run_something_is_refused(folder, monkeypatch):
    monkeypatch.chdir(folder)
    np.savez(folder / "label.npz", train_corpus={"c1": {"val": Runs()}})
    with pytest.raises(DataError, match="refused as a pickle"):
        FORMATS.get("merbench")(folder, Wants())
    assert not (folder / "ran").exists()


def test_label_files_that_are_none(folder, tmp_path):
    layout = FORMATS.get("merbench")
    np.savez(folder / "label.npz", train_corpus=np.zeros(3))
    with pytest.raises(DataError, match="not one dict"):
        layout(folder, Wants())
    np.savez(folder / "label.npz", other=np.zeros(3))
    with pytest.raises(DataError, match="no <partition>_corpus"):
        layout(folder, Wants())
    (folder / "label.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="damaged"):
        layout(folder, Wants())
    with pytest.raises(MissingData, match="no label file"):
        layout(folder, Wants(labels=tmp_path / "none.npz"))
    (folder / "label-2.npz").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"2 label files .*--labels"):
        layout(folder, Wants())


def test_a_member_that_claims_too_much_is_refused(folder):
    data = (folder / "label.npz").read_bytes()
    with zipfile.ZipFile(folder / "label.npz") as archive:
        name = next(n for n in archive.namelist() if n.startswith("train"))
        size = archive.getinfo(name).file_size
    at = data.rindex(name.encode()) - 46 + 24  # uncompressed size in the central directory
    assert int.from_bytes(data[at : at + 4], "little") == size
    (folder / "label.npz").write_bytes(data[:at] + (1 << 30).to_bytes(4, "little") + data[at + 4 :])
    with pytest.raises(DataError, match="claims 1073741824 bytes"):
        FORMATS.get("merbench")(folder, Wants())


def test_faces_of_different_widths_fail_alone(bring, folder):
    np.save(folder / "features/manet-FRA/c2/001.npy", np.zeros(3))
    done, _ = bring("merbench", folder, label_range=(-5, 5))
    assert [f.recording for f in done.failures] == ["c2"]
    assert "different widths" in str(done.failures[0])


def test_nothing_there_and_no_export(tmp_path, full):
    with pytest.raises(MissingData, match="features/<feature-set>"):
        FORMATS.get("merbench")(tmp_path / "none", Wants())
    with pytest.raises(UsageError, match="lose its clock"):
        export_to(FORMATS.get("merbench"), full, tmp_path / "out")
