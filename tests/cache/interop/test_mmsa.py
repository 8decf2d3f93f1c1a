"""MMSA's pickles: padding goes, labels are ranged, partitions and subjects stay; untimed rows fill their video."""

import pickle

import numpy as np
import pytest

from cache.errors import DataError, MissingData, UsageError
from cache.interop import FORMATS
from cache.interop._layout import export_to
from cache.interop._wants import Wants
from cache.records import Timeline
from cache.store import FeatureCache

IDS = {"train": ["v1$_$0", "v1$_$1", "v2$_$0"], "valid": ["v3$_$0"], "test": ["v4$_$0", "../v5"]}


def unaligned(rng, ids, first=0):
    """As ``unaligned_50.pkl``: every modality padded behind, with lengths of its own."""
    count = len(ids)
    lengths = {"audio": rng.integers(20, 40, count).tolist(), "vision": rng.integers(5, 10, count).tolist()}
    words = rng.integers(3, 8, count)
    part = {
        "id": ids,
        "raw_text": np.array(["so good"] * count),
        "text_bert": np.stack([np.zeros((count, 8)), np.arange(8) < words[:, None], np.zeros((count, 8))], 1),
        "annotations": ["Positive"] * count,
        "classification_labels": np.ones(count),
        "regression_labels": np.linspace(-3, 3, count),
        **{f"{m}_lengths": n for m, n in lengths.items()},
    }
    for name, rows, width in (("text", 8, 3), ("audio", 40, 4), ("vision", 10, 2)):
        data = rng.normal(size=(count, rows, width)).astype(np.float32)
        ends = words if name == "text" else lengths[name]
        for i, end in enumerate(ends):
            data[i, end:] = 0
        part[name] = data
    return part


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    return {name: unaligned(rng, ids) for name, ids in IDS.items()}


def saved(tmp_path, parts, protocol=4):
    path = tmp_path / "unaligned_50.pkl"
    path.write_bytes(pickle.dumps(parts, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 4])
def test_values_partitions_subjects_and_labels(bring, tmp_path, parts, protocol):
    done, cache = bring("mmsa", saved(tmp_path, parts, protocol), label_range=(-3, 3))
    assert not done.failures
    assert {(cache.stream(k).name, cache.stream(k).modality) for k in done.streams} == {
        ("text", "text"),
        ("audio", "audio"),
        ("vision", "visual"),
    }
    split = cache.labels.partitions("va")
    assert split.of == {r: {"valid": "validation"}.get(p, p) for p, ids in IDS.items() for r in ids}
    assert split.subjects["v1$_$0"] == split.subjects["v1$_$1"] == "v1"
    for part, ids in IDS.items():
        for i, recording in enumerate(ids):
            length = parts[part]["audio_lengths"][i]
            audio = cache.read(cache.resolve("audio").key, recording)
            assert audio.present.all()
            assert np.array_equal(audio.values, parts[part]["audio"][i, :length])
            labels = cache.labels.read("va", recording)
            assert np.allclose(labels.va, [parts[part]["regression_labels"][i] / 3, 0])
    assert (cache.root / "features").is_dir()
    assert not (cache.root.parent / "v5").exists()
    assert any("no times" in n for n in done.notes)
    assert "raw_text" in done.drops


def test_rows_without_times_fill_the_frames_that_the_cache_has(bring, tmp_path, parts):
    cache = FeatureCache.create(tmp_path / "cache")
    frames = Timeline(7 + np.arange(80) / 20, 11.0)
    cache.timelines.write("v3$_$0", frames, {"clock": "container"})
    parts["valid"]["vision_lengths"] = [8]
    done, _ = bring("mmsa", saved(tmp_path, parts), cache, label_range=(-3, 3))
    vision = cache.read(cache.resolve("vision").key, "v3$_$0")
    assert len(vision.values) == 80
    assert vision.present.all()
    np.testing.assert_allclose(vision.values, np.repeat(parts["valid"]["vision"][0, :8], 10, axis=0), atol=1e-6)
    assert done.labelled == {"va": 6}


def test_aligned_modalities_stay_row_by_row(bring, tmp_path, parts):
    """As ``aligned_50.pkl``: no lengths but the words', and row i of each modality is word i."""
    part = {k: v for k, v in parts["train"].items() if not k.endswith("_lengths")}
    for name in ("audio", "vision"):
        part[name] = np.where(np.arange(8)[:, None] < 2, 0, part[name][:, :1].repeat(8, axis=1))
        part[name][:, 5:] = 0
    part["text_bert"][:, 1] = np.arange(8) < 5
    part["text"] = np.ones_like(part["text"])  # what BERT makes of padding is not zero
    _, cache = bring("mmsa", saved(tmp_path, {"train": part}), label_range=(-3, 3))
    audio = cache.read(cache.resolve("audio").key, "v2$_$0")
    assert audio.values.shape == (5, 4)
    assert np.array_equal(audio.values, part["audio"][2, :5])
    assert cache.read(cache.resolve("text").key, "v2$_$0").values.shape == (5, 3)


def test_labels_outside_the_range_end_it_before_anything_is_written(bring, tmp_path, parts):
    with pytest.raises(UsageError, match=r"outside \[-1, 1\]; .*--label-range -3,3"):
        bring("mmsa", saved(tmp_path, parts))
    assert FeatureCache(tmp_path / "cache").stream_keys() == []


def test_minus_infinity_is_an_absent_row(bring, tmp_path, parts):
    parts["test"]["audio"][0, 1] = -np.inf
    done, cache = bring("mmsa", saved(tmp_path, parts), label_range=(-3, 3))
    assert np.flatnonzero(~cache.read(cache.resolve("audio").key, "v4$_$0").present).tolist() == [1]
    assert any("1 rows with numbers that are not finite" in n for n in done.notes)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"audio_lengths": [99, 1]}, "a length of 99"),
        ({"audio_lengths": [-1, 1]}, "a length of -1"),
        ({"audio": np.array([["x"] * 3, ["y"] * 3])}, "wanted numbers"),
        ({"vision": np.zeros((0, 3, 2), np.float32)}, "IndexError"),
    ],
)
def test_a_bad_utterance_is_listed_and_the_others_come_in(bring, tmp_path, parts, change, cause):
    parts["test"] |= change
    done, cache = bring("mmsa", saved(tmp_path, parts), label_range=(-3, 3))
    assert "v4$_$0" in {f.recording for f in done.failures}
    assert cause in str(done.failures[0])
    assert len(cache.recordings(cache.resolve("text").key)) >= 4


@pytest.mark.parametrize(
    "found",
    [
        [1, 2],
        {"train": {"audio": 1}},
        {"train": {"id": ["a"]}, "test": {"id": ["a"]}},
        {"train": {"id": ["a"], "regression_labels": np.zeros(2)}},
        {"train": {"id": ["a"], "regression_labels": ["good"]}},
    ],
)
def test_what_is_no_such_pickle_is_said(tmp_path, found):
    with pytest.raises(DataError):
        FORMATS.get("mmsa")(saved(tmp_path, found), Wants())


def test_no_file_and_no_export(tmp_path, full):
    with pytest.raises(MissingData):
        FORMATS.get("mmsa")(tmp_path / "none.pkl", Wants())
    with pytest.raises(UsageError, match="would lose its clock"):
        export_to(FORMATS.get("mmsa"), full, tmp_path / "out")
    assert not (tmp_path / "out").exists()
