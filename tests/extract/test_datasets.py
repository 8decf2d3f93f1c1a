"""A tree of Aff-Wild2's shape, with its oddities, becomes the right recordings, labels and partitions."""

import numpy as np
import pytest

from cache.errors import DataError, MissingData
from cache.store import FeatureCache
from extract.datasets import DATASETS
from extract.recipe import extract_recipe
from extract.run import run_extract

FRAMES = 40


def rows(count, valence, bad=()):
    lines = [f"-5,{0.1}" if i in bad else f"{valence},{-valence}" for i in range(count)]
    return "valence,arousal\n" + "\n".join(lines) + "\n"


@pytest.fixture
def affwild2(tmp_path, media):
    """Two editions' folders, EXPR annotations that must not count, two people in one video, a test list."""
    root = tmp_path / "affwild2"
    va = root / "annotations" / "5th_ABAW_Annotations" / "VA_Estimation_Challenge"
    expr = root / "annotations" / "5th_ABAW_Annotations" / "EXPR_Classification_Challenge"
    for folder in (va, expr):
        for split in ("Train_Set", "Validation_Set"):
            (folder / split).mkdir(parents=True)
    (expr / "Train_Set" / "only_expr.txt").write_text("Neutral,Anger\n0\n")
    for batch in ("batch1", "batch2"):
        (root / batch).mkdir()
    for name, folder in (("24-30-1920x1080-2", "batch1"), ("video59", "batch2"), ("10-60-1280x720", "batch1")):
        media(root / folder / f"{name}.mp4", np.arange(FRAMES) / 30)
    media(root / "batch2" / "left_hand_left.mkv", np.arange(FRAMES) / 30)
    (va / "Train_Set" / "24-30-1920x1080-2.txt").write_text(rows(FRAMES + 1, 0.1))
    (va / "Train_Set" / "10-60-1280x720.txt").write_text(rows(FRAMES, 0.2, bad=(3, 4)))
    (va / "Train_Set" / "10-60-1280x720_right.txt").write_text(rows(FRAMES - 2, 0.3))
    (va / "Validation_Set" / "video59_right.txt").write_text(rows(FRAMES, 0.4))
    (va / "Validation_Set" / "left_hand_left.txt").write_text(rows(FRAMES, 0.5))
    release = root / "names_of_videos_in_each_test_set"
    release.mkdir()
    (release / "Valence_Arousal_Estimation_Challenge_test_set_release.txt").write_text("video59_left\n\n")
    crops(root / "cropped_aligned" / "video59_right", [f for f in range(FRAMES) if f not in (0, 7, 8)])
    crops(root / "cropped_aligned" / "10-60-1280x720", range(FRAMES + 2))
    return root


def crops(folder, frames):
    from PIL import Image

    folder.mkdir(parents=True)
    for frame in frames:
        Image.new("RGB", (16, 16), (frame * 5, 0, 0)).save(folder / f"{frame + 1:05d}.jpg")


def test_trials_media_and_partitions(affwild2):
    corpus = DATASETS.get("affwild2")(affwild2)
    found = {r.id: r for r in corpus.recordings()}
    assert set(found) == {
        "24-30-1920x1080-2",
        "10-60-1280x720",
        "10-60-1280x720_right",
        "video59_right",
        "video59_left",
        "left_hand_left",
    }
    assert found["10-60-1280x720_right"].video == found["10-60-1280x720"].video
    assert found["video59_left"].video == found["video59_right"].video == affwild2 / "batch2" / "video59.mp4"
    assert found["left_hand_left"].video.name == "left_hand_left.mkv"  # a name that ends in _left by itself
    assert found["video59_right"].crops.name == "video59_right"
    assert found["video59_left"].crops is None
    split = corpus.partitions()
    assert split.members("validation") == ["left_hand_left", "video59_right"]
    assert split.members("test") == ["video59_left"]


def test_frames_labels_and_masks_end_to_end(affwild2, tmp_path, light_encoders):
    data = {"dataset": "affwild2", "root": affwild2, "cache": tmp_path / "cache"}
    result = run_extract(
        extract_recipe({**data, "visual": ["brightness"], "audio": ["loudness"], "text": []}), quiet=True
    )
    assert not result.failures
    assert sorted(n for n in result.notes if "annotation rows" in n) == [
        "10-60-1280x720_right: 38 annotation rows for 40 frames; left 2 at the end unlabelled",
        "24-30-1920x1080-2: 41 annotation rows for 40 frames; dropped 1 from the tail",
    ]
    cache = FeatureCache(tmp_path / "cache")
    labels = {r: cache.labels.read("va", r) for r in cache.labels.recordings("va")}
    assert "video59_left" not in labels
    assert labels["10-60-1280x720"].labelled.sum() == FRAMES - 2
    assert not labels["10-60-1280x720"].labelled[3:5].any()
    assert np.flatnonzero(~labels["10-60-1280x720_right"].labelled).tolist() == [38, 39]
    np.testing.assert_allclose(labels["video59_right"].va, [[0.4, -0.4]] * FRAMES, atol=1e-6)
    faces = cache.read(cache.resolve("brightness").key, "video59_right")
    assert np.flatnonzero(~faces.present).tolist() == [0, 7, 8]
    assert cache.read(cache.resolve("brightness").key, "10-60-1280x720").present.all()


def test_the_header_decides_which_column_is_valence(tmp_path, affwild2):
    path = next(affwild2.rglob("Validation_Set/video59_right.txt"))
    path.write_text("arousal,valence\n" + "0.9,0.1\n" * FRAMES)
    corpus = DATASETS.get("affwild2")(affwild2)
    (recording,) = (r for r in corpus.recordings() if r.id == "video59_right")
    assert corpus.annotation(recording).va[0].tolist() == [0.1, 0.9]


@pytest.mark.parametrize("text", ["", "0.1,0.2\n", "valence,arousal\n0.1\n", "valence,arousal\n0.1,x\n"])
def test_bad_annotation_files_are_named(affwild2, text):
    path = next(affwild2.rglob("Validation_Set/video59_right.txt"))
    path.write_text(text)
    corpus = DATASETS.get("affwild2")(affwild2)
    (recording,) = (r for r in corpus.recordings() if r.id == "video59_right")
    with pytest.raises(DataError, match=r"video59_right\.txt"):
        corpus.annotation(recording)


def test_a_root_without_annotations_says_what_was_looked_for(tmp_path):
    with pytest.raises(MissingData, match="Train_Set and Validation_Set"):
        DATASETS.get("affwild2")(tmp_path)
