"""A tree of Aff-Wild2's shape with every oddity that its editions and their downloads are known for, end to end.

``TRIALS`` says of each trial what its annotation and crops are like; the expected labels, masks and partitions are
computed from the same lines here, independently of the reader.
"""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from cache.errors import DataError
from cache.store import FeatureCache
from extract.datasets import DATASETS
from extract.recipe import extract_recipe
from extract.run import run_extract

T = 20  # frames of every video
CFR, VFR = np.arange(T) / 30, np.cumsum([0.0, *np.random.default_rng(1).uniform(0.02, 0.09, T - 1)])
SOUND = np.full(16_000, 0.25, np.float32)
EDITIONS = {
    "annotations/VA_Set": "Test_Set",
    "3rd ABAW Annotations/Third ABAW Annotations/VA_Estimation_Challenge": "EXPR_Classification_Challenge",
    "5th_ABAW_Annotations/VA_Estimation_Challenge": "EXPR_Classification_Challenge",
    "6th ABAW Annotations/VA_Estimation_Challenge": "EXPR_Recognition_Challenge",
}


@dataclass(frozen=True)
class Trial:
    """rows: of its annotation; both, valence, arousal: those of -5. faces: frames with a crop; None: no crops."""

    partition: str
    video: str
    rows: int = T
    both: tuple[int, ...] = ()
    valence: tuple[int, ...] = ()
    arousal: tuple[int, ...] = ()
    faces: tuple[int, ...] | None = tuple(range(T))
    ends: str = "\n"
    tail: str = ""
    sound: bool = True


TRIALS = {
    "10-60-1280x720": Trial("train", "batch1/10-60-1280x720.mp4", both=(0, 7), faces=tuple(range(3, T))),
    "10-60-1280x720_right": Trial("train", "batch1/10-60-1280x720.mp4", T + 1, faces=tuple(range(T - 4))),
    "28-30-1280x720-2": Trial("train", "batch2/28-30-1280x720-2.mp4", T + 2, valence=(1,), arousal=(2, 19)),
    "video2_left": Trial("validation", "batch1/video2.avi", T - 1, faces=(0, 1, 9, 10, 11, 19)),
    "video10_1_left": Trial("train", "batch2/video10_1.mp4", ends="\r\n", tail="\r\n\r\n"),
    "video10_1_right": Trial("validation", "batch2/video10_1.mp4", tail="\n\n"),
    "left_hand_left": Trial("train", "batch2/left_hand_left.mp4", T - 6, faces=(*range(T), T, T + 3)),
    "video59_right": Trial("test", "batch1/video59.mp4", faces=tuple(range(T))),
    "vary": Trial("train", "batch1/vary.mp4", faces=None),
    "mute": Trial("validation", "batch2/mute.mp4", sound=False),
    "tested": Trial("test", "batch2/tested.mp4"),
}


def value(trial: str, row: int) -> float:
    """Valence of a row; arousal is its negative."""
    return round((row - 9) / 40 + len(trial) / 100, 4)


def annotation(name: str, trial: Trial) -> str:
    rows = ["valence,arousal"]
    for i in range(trial.rows):
        valence = -5 if i in trial.both + trial.valence else value(name, i)
        arousal = -5 if i in trial.both + trial.arousal else -value(name, i)
        rows.append(f"{valence},{arousal}")
    return trial.ends.join(rows) + trial.ends + trial.tail


def crops(folder: Path, frames, level=100) -> None:
    folder.mkdir(parents=True)
    for frame in frames:
        Image.new("RGB", (8, 8), (level + frame,) * 3).save(folder / f"{frame + 1:05d}.png")


def avi(path: Path, pts: np.ndarray, sound: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("mpeg4", rate=30), container.add_stream("pcm_s16le", rate=16_000)
        video.width = video.height = 64
        for _ in pts:
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray((sound[None] * 32767).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate = 16_000
        container.mux(audio.encode(frame))


@pytest.fixture(params=EDITIONS)
def tree(request, tmp_path, media) -> Path:
    root = tmp_path / "affwild2"
    va = root / request.param
    for folder in (va / "Train_Set", va / "Validation_Set", root / "batch1", root / "batch2"):
        folder.mkdir(parents=True)
    for name, trial in TRIALS.items():
        path = root / trial.video
        if not path.exists():
            make = avi if path.suffix == ".avi" else media
            make(path, VFR if name == "vary" else CFR, sound=SOUND if trial.sound else None)
        if trial.partition != "test":
            folder = va / {"train": "Train_Set", "validation": "Validation_Set"}[trial.partition]
            (folder / f"{name}.txt").write_bytes(annotation(name, trial).encode())
        if trial.faces is not None:
            crops(root / "cropped_aligned" / name, trial.faces)
    release = root / "names_of_videos_in_each_test_set"
    release.mkdir()
    names = "".join(f"{n}\r\n" for n, t in TRIALS.items() if t.partition == "test")
    (release / "Valence_Arousal_Estimation_Challenge_test_set_release.txt").write_bytes(names.encode() + b"\r\n")
    _beside(root, va, request.param, media)
    return root


def _beside(root: Path, va: Path, edition: str, media) -> None:
    """What must not count: another task, pictures that are not aligned, a copy of a video, macOS's own files."""
    other = va.parent / EDITIONS[edition]
    for split in ("Train_Set", "Validation_Set"):
        if other.name != "Test_Set":
            (other / split).mkdir(parents=True)
            (other / split / "only_expr.txt").write_text("Neutral,Anger\n0\n")
        (root / "__MACOSX" / edition / split).mkdir(parents=True)
        (root / "__MACOSX" / edition / split / "._vary.txt").write_bytes(b"\0\5\26\7")
        (va / split / "._vary.txt").write_bytes(b"\0\5\26\7")
    (root / "batch1" / "._vary.mp4").write_bytes(b"\0\5\26\7")
    (root / "cropped_aligned" / "mute" / "._00001.jpg").write_bytes(b"\0\5\26\7")
    (root / "cropped_aligned" / "mute" / ".DS_Store").write_bytes(b"\0")
    crops(root / "cropped" / "vary", range(T))
    media(root / "batch2" / "vary.mp4", CFR[:5])


def extract(root, cache, **more):
    data = {"dataset": "affwild2", "root": root, "cache": cache, "text": []}
    return run_extract(extract_recipe({**data, "visual": ["brightness"], "audio": ["loudness"], **more}), quiet=True)


def test_frames_labels_masks_and_partitions_are_exactly_those_of_the_tree(tree, tmp_path, light_encoders):
    result = extract(tree, tmp_path / "cache")
    assert not result.failures
    cache = FeatureCache(tmp_path / "cache")
    split = cache.labels.partitions("va")
    assert split.of == {name: trial.partition for name, trial in TRIALS.items()}
    assert sorted(cache.labels.recordings("va")) == sorted(n for n, t in TRIALS.items() if t.partition != "test")
    for name, trial in TRIALS.items():
        times = VFR if name == "vary" else CFR
        np.testing.assert_allclose(cache.timelines.read(name).pts, times, atol=1e-3, err_msg=name)
        faces = cache.read(cache.resolve("brightness").key, name)
        seen = [f for f in trial.faces if f < T] if trial.faces is not None else list(range(T))
        assert np.flatnonzero(faces.present).tolist() == seen, name
        if trial.faces is not None:
            np.testing.assert_allclose(faces.values[seen, 0], (100 + np.array(seen)) / 255, atol=1e-3, err_msg=name)
        heard = cache.read(cache.resolve("loudness").key, name).present
        assert heard.any() == trial.sound, name
        if trial.partition != "test":
            labels = cache.labels.read("va", name)
            valid = [i for i in range(min(trial.rows, T)) if i not in trial.both + trial.valence + trial.arousal]
            assert np.flatnonzero(labels.labelled).tolist() == valid, name
            expected = np.array([[value(name, i), -value(name, i)] for i in valid])
            np.testing.assert_allclose(labels.va[valid], expected, atol=1e-6, err_msg=name)


def test_what_is_odd_is_told(tree, tmp_path, light_encoders):
    notes = extract(tree, tmp_path / "cache").notes
    assert "1 videos are there twice, such as batch1/vary.mp4 and batch2/vary.mp4: the first is used" in notes
    assert "1 of 11 recordings have no face crops: their whole frames were used" in notes
    rows = {n.split(":")[0]: n for n in notes if "annotation rows" in n}
    assert {name: int(told.split(": ")[1].split()[0]) for name, told in rows.items()} == {
        name: t.rows for name, t in TRIALS.items() if t.partition != "test" and t.rows != T
    }
    assert "left_hand_left: crops up to number 24 for 20 frames: 2 are of no frame" in notes
    assert "dropped 2 from the tail" in rows["28-30-1280x720-2"]
    assert rows["left_hand_left"].endswith("check that these labels belong to this video")


@pytest.fixture
def small(tmp_path, media) -> Path:
    """One edition, one trial with its video."""
    root = tmp_path / "small"
    for folder in ("VA_Set/Train_Set", "VA_Set/Validation_Set", "batch1"):
        (root / folder).mkdir(parents=True)
    media(root / "batch1" / "a.mp4", CFR)
    (root / "VA_Set" / "Train_Set" / "a.txt").write_text("valence,arousal\n" + "0.1,0.2\n" * T)
    return root


def corpus(root):
    return DATASETS.get("affwild2")(root)


def test_crops_that_are_not_aligned_are_taken_where_there_are_no_others(small):
    crops(small / "cropped" / "a", range(T))
    assert corpus(small).recordings()[0].crops == small / "cropped" / "a"
    crops(small / "batch3" / "cropped_aligned_new_50_vids" / "b", range(T))
    assert corpus(small).recordings()[0].crops is None  # the corpus is one of aligned crops


def test_two_editions_or_a_trial_in_two_sets_are_refused(small):
    (small / "VA_Set" / "Validation_Set" / "a.txt").write_text("valence,arousal\n0.1,0.2\n")
    with pytest.raises(DataError, match=r"a is in Validation_Set of .* and also in train"):
        corpus(small)
    (small / "VA_Set" / "Validation_Set" / "a.txt").unlink()
    for edition, name in (("5th", "a"), ("6th", "b")):
        (small / edition).mkdir()
        (small / edition / "Valence_Arousal_Estimation_Challenge_test_set_release.txt").write_text(f"{name}\n")
    with pytest.raises(DataError, match="2 test lists that differ"):
        corpus(small)
    (small / "6th" / "Valence_Arousal_Estimation_Challenge_test_set_release.txt").unlink()
    with pytest.raises(DataError, match=r"a is in Train_Set of .* and also in test"):
        corpus(small)


def test_two_people_in_one_video_are_a_group(tree):
    films = {"10-60-1280x720": "10-60-1280x720", "10-60-1280x720_right": "10-60-1280x720"}
    assert corpus(tree).partitions().groups == films | {"video10_1_left": "video10_1", "video10_1_right": "video10_1"}


def test_subjects_by_their_columns(small):
    path = small / "subjects.csv"
    path.write_text("Subject; Recording\nanna; a\nben; b\n", encoding="utf-8-sig")
    assert corpus(small).partitions().subjects == {"a": "anna", "b": "ben"}
    path.write_text("id,person\na,anna\n")
    with pytest.raises(DataError, match=r"subjects\.csv has the columns id, person; wanted recording, subject"):
        corpus(small).recordings()


def test_an_empty_line_among_the_rows_of_frames_is_refused(small):
    path = small / "VA_Set" / "Train_Set" / "a.txt"
    path.write_text("valence,arousal\n" + "0.1,0.2\n" * 3 + "\n" + "0.1,0.2\n" * 16)
    found = corpus(small)
    with pytest.raises(DataError, match="empty line after line 4"):
        found.annotation(found.recordings()[0])
    path.write_text("valence,arousal\n\n" + "0.1,0.2\n\n" * T)  # double line ends
    assert len(found.annotation(found.recordings()[0]).va) == T


def test_a_trial_without_its_video_is_one_of_crops_alone(small, tmp_path, light_encoders):
    """The same rows and faces, on nominal frames; without --fps one line says what to give."""
    crops(small / "cropped_aligned" / "a", range(3, T - 2))
    (small / "batch1" / "a.mp4").unlink()
    (small / "VA_Set" / "Validation_Set" / "b.txt").write_text("valence,arousal\n0.1,0.2\n")
    failures = {f.recording: f for f in extract(small, tmp_path / "cache").failures}
    assert failures["a"].cause == "recording 'a' has no video; crops alone need --fps"
    assert "--fps 30" in failures["a"].hint
    assert "no media file at" in failures["b"].cause
    result = extract(small, tmp_path / "cache", fps=30)
    assert [f.recording for f in result.failures] == ["b"]
    cache = FeatureCache(tmp_path / "cache")
    np.testing.assert_allclose(cache.timelines.read("a").pts, np.arange(T - 2) / 30)
    assert np.flatnonzero(~cache.read(cache.resolve("brightness").key, "a").present).tolist() == [0, 1, 2]
    assert cache.labels.read("va", "a").labelled.all()
    assert "a: 20 annotation rows, face crops up to frame 18; dropped 2 from the tail" in result.notes
    assert "a: no video: its frames are nominal, 30 a second over its crops" in result.notes
