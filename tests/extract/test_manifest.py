"""A manifest of one's own: CSV or JSON Lines, labels by frame or by time, in any range."""

import json

import numpy as np
import pytest

from cache.align import align_labels
from cache.errors import CacheError, ConfigError, DataError
from cache.groups import attributes
from cache.records import Timeline
from cache.store import FeatureCache
from extract.datasets import open_dataset
from extract.datasets._labels import read_labels
from extract.recipe import extract_recipe
from extract.run import run_extract

FRAMES = Timeline(np.arange(50) / 25, 2.0)


def annotation(tmp_path, text, options=None, arousal=None):
    """What a manifest of one recording gives for a label file (or two)."""
    row = {"id": "a", "video": "a.mp4"}
    (tmp_path / "v.csv").write_text(text)
    row |= {"labels": "v.csv"} if arousal is None else {"labels_valence": "v.csv", "labels_arousal": "a.csv"}
    if arousal is not None:
        (tmp_path / "a.csv").write_text(arousal)
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row) + "\n\n")
    corpus = open_dataset("manifest", tmp_path, options or {})
    return corpus.annotation(corpus.recordings()[0])


def test_json_lines_are_read_like_a_csv(tmp_path):
    rows = [
        {"id": 7, "video": "b.mp4", "subject": "s", "partition": "train"},
        {"id": "a", "audio": "a.wav", "video": None},
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    corpus = open_dataset("manifest", tmp_path, {})
    assert [(r.id, r.video, r.audio) for r in corpus.recordings()] == [
        ("7", tmp_path / "b.mp4", None),
        ("a", None, tmp_path / "a.wav"),
    ]
    assert corpus.partitions().of == {"7": "train"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a", "vidoe": "x"}', "did you mean 'video'"),
        ('{"id": "a", "video": "x"}\n{"id": "a", "video": "x"}', "line 2"),
        ('{"id": "a"', "line 1 is not JSON"),
        ("[1]", "line 1 is not an object"),
        ('{"id": "a", "video": "x", "labels_valence": "v.csv"}', "labels_valence and labels_arousal"),
    ],
)
def test_bad_json_lines_name_the_line(tmp_path, text, message):
    (tmp_path / "manifest.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        open_dataset("manifest", tmp_path, {})


def test_sewa_rows_have_times_quotes_and_semicolons(tmp_path):
    rows = [f"'Train_DE_01';{i / 10:.1f};{i / 100};{-i / 100};0.5" for i in range(21)]
    found = annotation(tmp_path, "name;timestamp;Arousal; Valence ;liking\n" + "\n".join(rows))
    np.testing.assert_allclose(found.times, np.arange(21) / 10)
    labels = align_labels(found, FRAMES)
    np.testing.assert_allclose(labels.va, np.stack([-FRAMES.pts / 10, FRAMES.pts / 10], 1), atol=1e-6)


def test_muse_has_a_file_a_dimension_in_milliseconds_and_nothing_between_segments(tmp_path):
    times = [0, 250, 500, 750, 1500, 1750, 2000]

    def rows(value):
        return "timestamp,value,segment_id\n" + "".join(f"{t},{value},1\n" for t in times)

    found = annotation(tmp_path, rows(0.25), {"time_unit": "ms"}, rows(-0.5))
    labels = align_labels(found, FRAMES)
    assert labels.va[0].tolist() == [0.25, -0.5]
    between = (FRAMES.pts > 0.75) & (FRAMES.pts < 1.5)
    assert not labels.labelled[between].any()
    assert labels.labelled[~between].all()
    with pytest.raises(DataError, match="7 and 6 rows"):
        annotation(tmp_path, rows(0.25), {"time_unit": "ms"}, rows(0.5).removesuffix("2000,0.5,1\n"))


@pytest.mark.parametrize(("column", "factor"), [("time_s", 1), ("time_ms", 1000), ("time (ms)", 1000), ("Time", 1)])
def test_the_name_of_the_column_tells_the_unit(tmp_path, column, factor):
    found = annotation(tmp_path, f"{column},valence,arousal\n0,0,0\n{0.5 * factor},1,1\n")
    assert found.times.tolist() == [0.0, 0.5]


def test_a_range_is_mapped_and_its_invalid_value_is_not(tmp_path):
    found = annotation(tmp_path, "valence,arousal\n1,9\n5,3\n-5,3\n,3\n", {"label_range": [1, 9]})
    np.testing.assert_allclose(found.va, [[-1, 1], [0, -0.5], [np.nan, -0.5], [np.nan, -0.5]])
    found = annotation(tmp_path, "valence,arousal\n-5,10\n0,99\n", {"label_range": [-10, 10], "invalid": 99})
    np.testing.assert_allclose(found.va, [[-0.5, 1], [0, np.nan]])  # -5 is a value of this range
    found = annotation(tmp_path, "valence,arousal\n-1,0\n", {"arousal_range": [0, 1]})
    assert found.va.tolist() == [[-1.0, -1.0]]
    with pytest.raises(DataError, match=r"v\.csv line 3: arousal is 10, outside \[1, 9\]"):
        annotation(tmp_path, "valence,arousal\n1,9\n5,10\n", {"label_range": [1, 9]})


def test_wrong_options_say_what_is_right(tmp_path):
    (tmp_path / "manifest.csv").write_text("id,video\na,a.mp4\n")
    with pytest.raises(ConfigError, match="did you mean 'label_range'"):
        open_dataset("manifest", tmp_path, {"label_rnage": [1, 9]})
    with pytest.raises(ConfigError, match=r"\[9.0, 1.0\]; wanted \[lowest, highest\]"):
        open_dataset("manifest", tmp_path, {"label_range": [9, 1]})
    with pytest.raises(ConfigError, match="time_unit"):
        open_dataset("manifest", tmp_path, {"time_unit": "min"})
    with pytest.raises(ConfigError, match="takes no options"):
        open_dataset("demo", tmp_path, {"label_range": [1, 9]})


def test_options_of_a_recipe_reach_the_labels(tmp_path, media, manifest, light_encoders):
    video = media(tmp_path / "a.mp4", np.arange(10) / 25)
    (tmp_path / "a.csv").write_text("time;valence;arousal\n" + "".join(f"{i * 100};9;3\n" for i in range(5)))
    (tmp_path / "recipe.toml").write_text("[dataset_options]\nlabel_range = [1, 9]\ntime_unit = 'ms'\n")
    data = {"dataset": "manifest", "root": manifest(a={"video": video, "labels": "a.csv"}), "cache": tmp_path / "cache"}
    data |= {"visual": ["brightness"], "audio": [], "text": []}
    result = run_extract(extract_recipe(data, tmp_path / "recipe.toml"), quiet=True)
    assert not result.failures
    labels = FeatureCache(tmp_path / "cache").labels.read("va", "a")
    assert labels.labelled.all()
    np.testing.assert_allclose(labels.va, [[1.0, -0.5]] * 10)


def test_a_manifest_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "manifest.csv").write_bytes("id,video\ncafé,x.mp4\n".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8"):
        open_dataset("manifest", tmp_path, {})


def test_a_row_of_empty_cells_is_a_frame_without_a_label_and_shifts_nothing(tmp_path):
    (tmp_path / "a.csv").write_text("valence,arousal\n0.1,0.1\n,\n0.3,0.3\n,\n")
    va = read_labels(tmp_path / "a.csv").va
    assert va[[0, 2], 0].tolist() == [0.1, 0.3]
    assert np.isnan(va[1]).all()


@pytest.mark.parametrize("column", ["seconds", "t", "frame", "time[s]"])
def test_a_column_that_may_be_a_time_is_not_ignored(tmp_path, column):
    (tmp_path / "a.csv").write_text(f"{column},valence,arousal\n10,0.1,0.1\n11,0.3,0.3\n")
    with pytest.raises(DataError, match="is it a time"):
        read_labels(tmp_path / "a.csv")


def test_another_corpus_in_the_same_cache_is_refused(tmp_path, light_encoders, media):
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        media(folder / f"{name}.mp4", np.arange(20) / 25)
        (folder / "labels.csv").write_text("valence,arousal\n" + "0.1,0.2\n" * 20)
        (folder / "manifest.csv").write_text(f"id,video,labels,partition\n{name},{name}.mp4,labels.csv,train\n")
    data = {"dataset": "manifest", "cache": tmp_path / "cache", "visual": ["brightness"], "audio": [], "text": []}
    run_extract(extract_recipe({**data, "root": tmp_path / "a"}), quiet=True)
    with pytest.raises(CacheError, match=r"labels of 1 recordings that .* lacks, such as 'a'"):
        run_extract(extract_recipe({**data, "root": tmp_path / "b"}), quiet=True)
    assert FeatureCache(tmp_path / "cache").labels.recordings("va") == ["a"]


def test_a_stated_delay_moves_labels_earlier_and_is_recorded(tmp_path, media, light_encoders):
    """By time and by frame; the rows that are moved before the start are of no frame, the last frames have none."""
    ramp = np.arange(50) / 50
    rows = "".join(f"{v},{-v}\n" for v in ramp)
    (tmp_path / "frames.csv").write_text("valence,arousal\n" + rows)
    timed = "".join(f"{i / 25},{v},{-v}\n" for i, v in enumerate(ramp))
    (tmp_path / "times.csv").write_text("time,valence,arousal\n" + timed)
    media(tmp_path / "a.mp4", np.arange(50) / 25)
    lines = ["id,video,labels,delay_s", "f,a.mp4,frames.csv,0.4", "t,a.mp4,times.csv,0.4", "u,a.mp4,times.csv,"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    data = {"dataset": "manifest", "root": tmp_path, "cache": tmp_path / "cache"}
    recipe = extract_recipe({**data, "visual": ["brightness"], "audio": [], "text": []})
    result = run_extract(recipe, quiet=True)
    assert "labels of 2 recordings are moved 0.4 s earlier, as the corpus says (delay)" in result.notes
    cache = FeatureCache(tmp_path / "cache")
    for name in ("f", "t"):
        labels = cache.labels.read("va", name)
        assert np.flatnonzero(labels.labelled).tolist() == list(range(40)), name
        np.testing.assert_allclose(labels.va[:40, 0], ramp[10:], atol=1e-3)
    np.testing.assert_allclose(cache.labels.read("va", "u").va[:, 0], ramp, atol=1e-3)
    assert attributes(tmp_path / "cache" / "labels" / "va")["delays"] == {"f": 0.4, "t": 0.4}
    (tmp_path / "manifest.csv").write_text("\n".join(lines).replace(",0.4", ","))
    run_extract(recipe, quiet=True)
    assert "delays" not in attributes(tmp_path / "cache" / "labels" / "va")
    assert cache.labels.read("va", "f").labelled.all()


@pytest.mark.parametrize("delay", ["-1", "2000", "2 s", "nan"])
def test_a_delay_that_is_none_names_the_line(tmp_path, delay):
    (tmp_path / "manifest.csv").write_text(f"id,video,labels,delay_s\na,a.mp4,a.csv,{delay}\n")
    with pytest.raises(DataError, match=f"line 2: delay_s is '{delay}'; wanted seconds from 0 to 60"):
        open_dataset("manifest", tmp_path, {})


def test_sewa_and_muse_packages_go_through_a_run(tmp_path, media, light_encoders):
    """SEWA: quoted names, semicolons, 10 Hz, liking beside. MuSe: a file a dimension, milliseconds, segments."""
    media(tmp_path / "a.mp4", np.arange(50) / 25)
    sewa = "".join(f"'Train_DE_01';{i / 10:.1f};{i / 40:.4f};{-i / 40:.4f};0.5\r\n" for i in range(20))
    (tmp_path / "Train_DE_01.csv").write_bytes(b"name;timestamp;arousal;valence;liking\r\n" + sewa.encode())
    for name, sign in (("valence", -1), ("arousal", 1)):
        rows = "".join(f"{t},{sign * t / 4000:.4f},{1 + t // 1000}\n" for t in range(0, 2000, 250))
        (tmp_path / f"{name}_1.csv").write_text("timestamp,value,segment_id\n" + rows)
    columns = {"s": "labels", "ms": "labels_valence,labels_arousal"}
    files = {"s": "Train_DE_01.csv", "ms": "valence_1.csv,arousal_1.csv"}
    read = []
    for unit in ("s", "ms"):
        root = tmp_path / f"{unit}.csv"
        root.write_text(f"id,video,{columns[unit]}\na,a.mp4,{files[unit]}\n")
        data = {"dataset": "manifest", "root": root, "cache": tmp_path / unit, "dataset_options": {"time_unit": unit}}
        result = run_extract(extract_recipe({**data, "visual": ["brightness"], "audio": [], "text": []}), quiet=True)
        assert not result.failures
        read.append(FeatureCache(tmp_path / unit).labels.read("va", "a"))
    for labels, until in zip(read, (1.9, 1.75), strict=True):
        times = np.arange(50)[labels.labelled] / 25
        assert until <= times[-1] <= until + 0.15
        np.testing.assert_allclose(labels.va[labels.labelled, 1], np.minimum(times, until) / 4, atol=1e-3)
        np.testing.assert_allclose(labels.va[labels.labelled, 0], -np.minimum(times, until) / 4, atol=1e-3)
