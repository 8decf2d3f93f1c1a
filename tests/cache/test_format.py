"""FORMAT.md is enough to write a reader: ``plain_reader.py`` was, and reads all of a cache as ours does."""

import ast
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from cache.care.convert import convert
from cache.packed import Packing
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.stats import stream_stats
from cache.store import FeatureCache
from tests.cache import plain_reader
from tests.cache.plain_reader import array, record, recordings

FRAMES = {"a": 700, "b/ä": 256, "x" * 300: 1, "..": 513}


@pytest.fixture(params=["float16", "float32", "bfloat16", "chunks"])
def cache(request, tmp_path):
    cache, rng = FeatureCache.create(tmp_path / "cache", "demo"), np.random.default_rng(0)
    dtype = "float16" if request.param == "chunks" else request.param
    keys = [cache.declare(n, "audio", 7, {"name": n, "dtype": dtype}, {}).key for n in ("one", "two")]
    for recording, frames in FRAMES.items():
        end = 3.5 + frames / 30
        cache.timelines.write(recording, Timeline(3.5 + np.arange(frames) / 30, end), {"clock": "container"})
        for key in keys:
            values, present = rng.standard_normal((frames, 7), np.float32), rng.random(frames) > 0.3
            cache.write(key, recording, Aligned(values, present), {"rows": 9}, dtype=dtype)
    labels = {r: Labels(rng.uniform(-1, 1, (n, 2)).astype(np.float32), rng.random(n) > 0.5) for r, n in FRAMES.items()}
    cache.labels.write("abaw", labels, Partitions({"a": "train", "..": "test"}, {"a": "s1"}), {"a": 2.0})
    if request.param == "chunks":
        convert(cache.root, tmp_path / "out", packing=Packing("none", 100), quiet=True)
        cache = FeatureCache(tmp_path / "out")
    stream_stats(cache, keys[0], ["a"])
    return cache


def test_a_reader_written_from_the_page_alone_reads_all_of_a_cache(cache):
    assert record(cache.root) | {"crc32c": 0} == {"format": 1, "dataset": "demo", "crc32c": 0}
    for key in cache.stream_keys():
        assert record(cache.root / "features" / key)["dim"] == 7
        found = recordings(cache.root / "features" / key)
        assert sorted(found) == sorted(FRAMES)
        for recording, arrays in found.items():
            ours = cache.read(key, recording)
            np.testing.assert_array_equal(arrays["values"].astype(np.float32), ours.values)
            np.testing.assert_array_equal(arrays["present"], ours.present)
            assert arrays["absent_frames"] == (~ours.present).sum()
    for recording, found in recordings(cache.root / "timelines").items():
        timeline = cache.timelines.read(recording)
        np.testing.assert_array_equal(np.append(found["pts"], found["end"]), timeline.edges)
    protocol = record(cache.root / "labels" / "abaw")
    assert protocol["partitions"] == cache.labels.partitions("abaw").of == {"a": "train", "..": "test"}
    assert (protocol["subjects"], protocol["delays"]) == ({"a": "s1"}, {"a": 2.0})
    for recording, found in recordings(cache.root / "labels" / "abaw").items():
        ours = cache.labels.read("abaw", recording)
        np.testing.assert_array_equal(found["va"], ours.va)
        np.testing.assert_array_equal(found["labelled"], ours.labelled)
    for folder in (f.parent for f in (cache.root / "stats").glob("*/*/zarr.json")):
        stats = stream_stats(cache, folder.parent.name, ["a"])
        np.testing.assert_array_equal(array(folder / "mean"), stats.mean)
        np.testing.assert_array_equal(array(folder / "std"), stats.std)


def test_the_reader_is_short_and_has_nothing_of_ours():
    text = Path(plain_reader.__file__).read_text()
    assert len([line for line in text.splitlines() if line.strip()]) <= 30
    imported = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {a.name for n in imported if isinstance(n, ast.Import) for a in n.names}
    assert names | {n.module for n in imported if isinstance(n, ast.ImportFrom)} == {"json", "numpy", "pathlib"}


def test_names_of_folders_decode_as_the_page_says(cache):
    names = [f.parent.name for f in (cache.root / "timelines").glob("*/zarr.json")]
    assert sorted(unquote(n) for n in names if "%~" not in n) == ["..", "a", "b/ä"]
