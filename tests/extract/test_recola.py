"""Trees of RECOLA's shapes, as released and as AVEC packed them, become recordings, labels and partitions."""

import numpy as np
import pytest

from cache.errors import DataError, MissingData
from cache.store import FeatureCache
from extract.datasets import DATASETS
from extract.datasets._gold_standard import gold_standard
from extract.recipe import extract_recipe
from extract.run import run_extract

RATERS = ["FM1 ", "FM2 ", "FM3 ", "FF1 ", "FF2 ", "FF3"]
ROWS = 51  # at 40 ms: two seconds and one row, as 7501 rows are five minutes and one


def ratings(level, seed=0):
    """f64[ROWS, 6]: raters who agree on a slope around a level, each with an offset of their own."""
    rng = np.random.default_rng(seed)
    return level + np.linspace(-0.2, 0.2, ROWS)[:, None] + rng.normal(0, 0.1, 6) + rng.normal(0, 0.01, (ROWS, 6))


def write_raters(path, rated):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["time;" + ";".join(RATERS)]
    lines += [";".join([f"{i * 0.04:.2f}", *(f"{x:.4f}" for x in row)]) for i, row in enumerate(rated)]
    path.write_text("\r\n\r\n".join(lines) + "\r\n")  # double line ends


def write_gold(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    head = "@relation GOLDSTANDARD\n\n@attribute Instance_name string\n@attribute frameTime numeric\n"
    head += "@attribute GoldStandard numeric\n\n\n@data\n\n"
    path.write_text(head + "".join(f"'{path.stem}',{i * 0.04:.2f},{v:.6f}\n" for i, v in enumerate(values)))


@pytest.fixture
def released(tmp_path, media):
    root = tmp_path / "RECOLA"
    (root / "RECOLA-Video-recordings").mkdir(parents=True)
    (root / "RECOLA-Audio-recordings").mkdir()
    for name in ("P16", "P19", "P17"):
        media(root / "RECOLA-Video-recordings" / f"{name}.mp4", np.arange(ROWS - 1) / 25)
        write_raters(root / f"RECOLA-Annotation/emotional_behaviour/valence/{name}.csv", ratings(0.3, 1))
        write_raters(root / f"RECOLA-Annotation/emotional_behaviour/arousal/{name}.csv", ratings(-0.2, 2))
    media(root / "RECOLA-Audio-recordings" / "P16.wav.mkv", [0.0]).rename(root / "RECOLA-Audio-recordings" / "P16.wav")
    (root / "RECOLA-Video-recordings" / "notes.txt").write_text("x")
    return root


@pytest.fixture
def avec(tmp_path, media):
    root = tmp_path / "AVEC"
    (root / "recordings_video").mkdir(parents=True)
    for name in ("train_1", "dev_1", "test_1"):
        media(root / "recordings_video" / f"{name}.mp4", np.arange(ROWS - 1) / 25)
        if name != "test_1":
            write_gold(root / f"ratings_gold_standard/valence/{name}.arff", np.linspace(-0.5, 0.5, ROWS))
            write_gold(root / f"ratings_gold_standard/arousal/{name}.arff", np.full(ROWS, 0.25))
            for dimension in ("valence", "arousal"):
                write_raters(root / f"ratings_individual/{dimension}/{name}.csv", ratings(0.9))
    write_gold(root / "ratings_gold_standard/valence/train_all.arff", [0.0])
    return root


def test_the_release(released):
    corpus = DATASETS.get("recola")(released)
    found = {r.id: r for r in corpus.recordings()}
    assert list(found) == ["P16", "P17", "P19"]
    assert found["P16"].audio.name == "P16.wav"
    assert found["P19"].audio is None
    assert corpus.partitions().of == {"P16": "train", "P19": "validation"}  # AVEC's; P17 is in none
    assert corpus.partitions().subjects["P17"] == "P17"
    annotation = corpus.annotation(found["P19"])
    assert annotation.times[-1] == pytest.approx(2.0)
    np.testing.assert_allclose(annotation.va[:, 0], gold_standard(np.round(ratings(0.3, 1), 4)), atol=1e-12)


def test_the_avec_package(avec):
    corpus = DATASETS.get("recola")(avec)
    found = {r.id: r for r in corpus.recordings()}
    assert list(found) == ["dev_1", "test_1", "train_1"]
    assert corpus.partitions().of == {"dev_1": "validation", "test_1": "test", "train_1": "train"}
    annotation = corpus.annotation(found["dev_1"])
    np.testing.assert_allclose(annotation.va[:, 0], np.linspace(-0.5, 0.5, ROWS), atol=1e-6)  # given, not computed
    assert (annotation.va[:, 1] == 0.25).all()
    assert corpus.annotation(found["test_1"]) is None


def test_labels_lie_on_the_frames_unshifted(avec, tmp_path, light_encoders):
    data = {"dataset": "recola", "root": avec, "cache": tmp_path / "cache", "audio": [], "text": []}
    result = run_extract(extract_recipe({**data, "visual": ["brightness"]}), quiet=True)
    assert not result.failures
    cache = FeatureCache(tmp_path / "cache")
    labels = cache.labels.read("va", "train_1")
    assert labels.labelled.all()
    expected = np.interp(cache.timelines.read("train_1").pts, np.arange(ROWS) * 0.04, np.linspace(-0.5, 0.5, ROWS))
    np.testing.assert_allclose(labels.va[:, 0], expected, atol=1e-6)
    assert cache.labels.partitions("va").members("test") == ["test_1"]


def test_the_release_end_to_end_with_missing_rows_and_a_rater_who_left_early(released, tmp_path, light_encoders):
    """One row more than frames, none of them shifted; where rows are missing, frames are unlabelled."""
    folder = released / "RECOLA-Annotation/emotional_behaviour"
    for dimension in ("valence", "arousal"):
        lines = (folder / dimension / "P17.csv").read_text().split("\n\n")
        (folder / dimension / "P17.csv").write_text("\n\n".join(lines[:11] + lines[21:]))  # rows 10 to 19
    rated = ratings(0.3, 1)
    rated[40:, 2] = np.nan
    write_raters(folder / "valence" / "P19.csv", rated)
    text = (folder / "valence" / "P19.csv").read_text()
    (folder / "valence" / "P19.csv").write_text(text.replace("nan", ""))
    data = {"dataset": "recola", "root": released, "cache": tmp_path / "cache", "audio": ["loudness"], "text": []}
    result = run_extract(extract_recipe({**data, "visual": ["brightness"]}), quiet=True)
    assert not result.failures
    assert not [n for n in result.notes if "annotation rows" in n]
    cache = FeatureCache(tmp_path / "cache")
    labels = {n: cache.labels.read("va", n) for n in ("P16", "P17", "P19")}
    assert labels["P16"].labelled.all()
    times = cache.timelines.read("P16").pts
    gold = gold_standard(np.round(ratings(-0.2, 2), 4))
    expected = np.interp(times, np.arange(ROWS) * 0.04, gold)
    np.testing.assert_allclose(labels["P16"].va[:, 1], expected, atol=1e-6)
    assert np.flatnonzero(~labels["P17"].labelled).tolist() == list(range(10, 20))
    assert np.flatnonzero(~labels["P19"].labelled).tolist() == list(range(40, 50))
    assert cache.labels.partitions("va").of == {"P16": "train", "P19": "validation"}


def test_a_person_without_a_video_is_one_of_crops_or_a_file_that_is_missing(released):
    (released / "RECOLA-Video-recordings" / "P17.mp4").unlink()
    (released / "RECOLA-Video-recordings" / "P19.mp4").unlink()
    (released / "cropped_aligned" / "P17").mkdir(parents=True)
    found = {r.id: r for r in DATASETS.get("recola")(released).recordings()}
    assert (found["P17"].video, found["P17"].crops.name) == (None, "P17")
    assert found["P19"].video == released / "RECOLA-Video-recordings" / "P19.mp4"


def test_the_package_of_avec_2018_with_its_own_sound(avec, tmp_path, media, light_encoders):
    (avec / "ratings_gold_standard").rename(avec / "gs_1")
    (avec / "labels").mkdir()
    (avec / "gs_1").rename(avec / "labels" / "gs_1")
    (avec / "recordings_audio").mkdir()
    sound = media(tmp_path / "sound.mkv", [0.0], sound=np.full(16_000, 0.25, np.float32))
    sound.rename(avec / "recordings_audio" / "dev_1.wav")
    data = {"dataset": "recola", "root": avec, "cache": tmp_path / "cache", "audio": ["loudness"], "text": []}
    result = run_extract(extract_recipe({**data, "visual": ["brightness"]}), quiet=True)
    assert not result.failures
    cache = FeatureCache(tmp_path / "cache")
    assert cache.labels.recordings("va") == ["dev_1", "train_1"]
    assert np.flatnonzero(cache.read(cache.resolve("loudness").key, "dev_1").present).tolist()[:25] == list(range(25))
    assert cache.labels.read("va", "dev_1").labelled.sum() == ROWS - 1


def test_gold_standard_is_the_organisers():
    """Their procedure step by step, in their loops."""
    rated = ratings(0.1, 5)
    pairs = {(i, j): _ccc(rated[:, i], rated[:, j]) for i in range(6) for j in range(6) if i < j}
    weight = [np.mean([v for pair, v in pairs.items() if r in pair]) for r in range(6)]
    centre = sum(rated[:, r].mean() * weight[r] for r in range(6)) / sum(weight)
    expected = np.mean([rated[:, r] - rated[:, r].mean() + centre for r in range(6)], axis=0)
    np.testing.assert_allclose(gold_standard(rated), expected, atol=1e-12)
    assert abs(centre - rated.mean()) > 1e-4  # a plain mean would differ


def _ccc(x, y):
    return 2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def test_gold_standard_of_one_rater_of_constant_raters_and_with_holes():
    slope = np.linspace(-1, 1, 9)
    np.testing.assert_allclose(gold_standard(slope[:, None]), slope, atol=1e-12)
    np.testing.assert_allclose(gold_standard(np.tile([0.2, 0.4], (9, 1))), 0.3)
    holed = np.stack([slope, slope], axis=1)
    holed[4, 1] = np.nan
    assert np.flatnonzero(np.isnan(gold_standard(holed))).tolist() == [4]
    holed[:, 1] = np.nan
    np.testing.assert_allclose(gold_standard(holed), slope, atol=1e-12)
    assert np.isnan(gold_standard(np.full((9, 2), np.nan))).all()


def test_a_split_of_ones_own(released):
    (released / "split.csv").write_text("recording,partition\nP17,train\nP16,dev\nP99,test\n")
    assert DATASETS.get("recola")(released).partitions().of == {"P17": "train", "P16": "validation"}
    (released / "split.csv").write_text("recording,partition\nP17,trian\n")
    with pytest.raises(DataError, match="line 2: 'trian'"):
        DATASETS.get("recola")(released).partitions()


def test_what_is_wrong_is_named(released, tmp_path):
    corpus = DATASETS.get("recola")(released)
    found = {r.id: r for r in corpus.recordings()}
    valence = released / "RECOLA-Annotation/emotional_behaviour/valence"
    (valence / "P16.csv").unlink()
    with pytest.raises(MissingData, match=r"P16 in .* has no valence"):
        DATASETS.get("recola")(released).annotation(found["P16"])
    write_raters(valence / "P17.csv", ratings(0.3)[:-1])
    with pytest.raises(DataError, match="50 and 51 rows"):
        corpus.annotation(found["P17"])
    (valence / "P19.csv").write_text("time;FM1 ;FM2\n0.00;0.1;x\n")
    with pytest.raises(DataError, match=r"P19\.csv line 2: fm2 is 'x'"):
        corpus.annotation(found["P19"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingData, match="RECOLA-Video-recordings"):
        DATASETS.get("recola")(tmp_path / "empty")


def test_raters_who_do_not_agree_at_all_keep_their_mean():
    ratings = np.random.default_rng(0).normal(0.2, 0.3, (200, 6))
    gold = gold_standard(ratings)
    assert abs(gold.mean() - ratings.mean()) < 0.2
