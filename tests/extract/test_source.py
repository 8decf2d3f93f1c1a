"""Streams remember what they were made from: other words or other crops under the same name are other sources."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from cache.store import FeatureCache
from extract.recipe import extract_recipe
from extract.run import run_extract

CFR = np.arange(50) / 25


@pytest.fixture
def run(light_encoders, tmp_path):
    def go(root, **more):
        given = {"dataset": "manifest", "root": root, "cache": tmp_path / "cache", "audio": [], "text": []}
        return run_extract(extract_recipe({**given, "visual": [], **more}), quiet=True)

    return go


def paint(folder, numbers, grey):
    folder.mkdir(exist_ok=True)
    for i in numbers:
        Image.new("RGB", (8, 8), (grey, grey, grey)).save(folder / f"{i:05d}.png")


def test_a_transcript_of_the_same_size_with_other_words_is_another_source(run, media, manifest, tmp_path):
    words = tmp_path / "a.txt"
    words.write_text("[0s - 1s] hello\n")
    root = manifest(a={"video": media(tmp_path / "a.mkv", CFR), "transcript": words})
    assert not run(root, text=["length"]).failures
    assert not run(root, text=["length"]).failures
    words.write_text("[1s - 2s] words\n")
    (failure,) = run(root, text=["length"]).failures
    assert (failure.recording, failure.stage) == ("a", "media")
    assert "transcript a.txt (16 bytes), and the corpus now has another transcript a.txt (16 bytes)" in failure.cause
    words.write_text("[0s - 1s] hello\n")  # as it was, whenever it was written
    assert not run(root, text=["length"]).failures


def test_what_the_failure_says_to_do_makes_the_stream_of_the_new_words(run, media, manifest, tmp_path):
    words = tmp_path / "a.txt"
    words.write_text("[0s - 1s] hello\n")
    root = manifest(a={"video": media(tmp_path / "a.mkv", CFR), "transcript": words})
    run(root, text=["length"])
    words.write_text("[1s - 2s] words\n")
    (failure,) = run(root, text=["length"]).failures
    cache = FeatureCache(tmp_path / "cache")
    key = cache.resolve("length").key
    folder = cache.folder(key, "a")
    assert str(folder) in failure.hint
    shutil.rmtree(folder)
    again = run(root, text=["length"])
    assert (again.made, again.failures) == (1, [])
    assert np.flatnonzero(FeatureCache(cache.root).read(key, "a").present).tolist() == list(range(25, 50))


def test_crops_that_came_later_are_another_source(run, media, manifest, tmp_path):
    paint(tmp_path / "crops", range(1, 11), 10)
    root = manifest(a={"video": media(tmp_path / "a.mkv", CFR), "crops": tmp_path / "crops"})
    assert not run(root, visual=["brightness"]).failures
    assert not run(root, visual=["brightness"]).failures
    paint(tmp_path / "crops", range(11, 51), 200)
    (failure,) = run(root, visual=["brightness"]).failures
    assert "made from crops crops (10 pictures), and the corpus now has crops crops (50 pictures)" in failure.cause


def test_as_many_crops_of_other_frames_are_another_source(run, manifest, tmp_path):
    paint(tmp_path / "crops", [*range(1, 10), 20], 10)
    root = manifest(a={"crops": tmp_path / "crops"})
    assert not run(root, visual=["brightness"], fps=25.0).failures
    (tmp_path / "crops" / "00005.png").rename(tmp_path / "crops" / "00015.png")
    (failure,) = run(root, visual=["brightness"], fps=25.0).failures
    assert "was made from crops crops (10 pictures)" in failure.cause


def test_crops_that_are_gone_are_no_change(run, media, manifest, tmp_path):
    paint(tmp_path / "crops", range(1, 11), 10)
    root = manifest(a={"video": media(tmp_path / "a.mkv", CFR), "crops": tmp_path / "crops"})
    run(root, visual=["brightness"])
    (tmp_path / "crops").rename(tmp_path / "elsewhere")
    assert not run(root, visual=["brightness"]).failures


def test_no_path_is_kept_with_a_stream(run, media, manifest, tmp_path):
    paint(tmp_path / "crops", range(1, 11), 10)
    (tmp_path / "a.txt").write_text("[0s - 1s] hello\n")
    row = {"video": media(tmp_path / "a.mkv", CFR), "crops": tmp_path / "crops", "transcript": tmp_path / "a.txt"}
    run(manifest(a=row), visual=["brightness"], text=["length"])
    cache = FeatureCache(tmp_path / "cache")
    records = [cache.commit_record(k, "a")["source"] for k in cache.stream_keys()]
    assert {r["kind"] for r in records} == {"crops", "transcript"}
    assert str(tmp_path) not in json.dumps(records)
