"""What a deep check finds damaged, extraction makes anew: exactly that, and byte for byte."""

import shutil

import numpy as np
import pytest

from cache.care.verify import verify
from cache.errors import CacheError, CorruptCache
from extract.recipe import extract_recipe
from extract.run import run_extract


@pytest.fixture
def extract(light_encoders, media, manifest, tmp_path):
    """Runs stage one over three clips with labels: extract() returns its result."""
    (tmp_path / "a.txt").write_text("valence,arousal\n" + "0.1,-0.2\n" * 30)
    sound = np.random.default_rng(0).uniform(-0.3, 0.3, 20_000).astype(np.float32)
    clips = {f"clip{i}": media(tmp_path / f"clip{i}.mkv", np.arange(30 + i) / 25, sound=sound) for i in range(3)}
    rows = {name: {"video": path, "labels": "a.txt", "partition": "train"} for name, path in clips.items()}
    recipe = {"dataset": "manifest", "root": manifest(**rows), "cache": tmp_path / "cache"}
    recipe |= {"visual": ["brightness"], "audio": ["loudness"], "text": []}

    def run(**more):
        return run_extract(extract_recipe({**recipe, **more}), quiet=True)

    run()
    return run


def contents(cache):
    return {str(p.relative_to(cache)): p.read_bytes() for p in sorted(cache.rglob("*")) if p.is_file()}


def flip(path, rng):
    data = bytearray(path.read_bytes())
    bit = int(rng.integers(len(data) * 8))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_a_flipped_bit_of_any_file_is_healed_and_nothing_else_is_made(extract, light_encoders, tmp_path):
    cache, rng = tmp_path / "cache", np.random.default_rng(0)
    clean = contents(cache)
    for name in clean:
        flip(cache / name, rng)
        try:
            verify(cache, deep=True, quiet=True)
        except (CacheError, CorruptCache):
            assert name == "zarr.json"
        made = extract().made
        assert contents(cache) == clean, name
        assert made == (1 if name.startswith("features") and name.count("/") > 2 else 0), name


def test_what_was_not_verified_heals_too_where_the_commit_record_is_unreadable(extract, tmp_path):
    cache = tmp_path / "cache"
    clean = contents(cache)
    record = next(cache.glob("features/brightness-*/clip1/zarr.json"))
    flip(record, np.random.default_rng(3))
    result = extract()
    assert result.made == 1
    assert any("clip1 was damaged" in note for note in result.notes)
    record.unlink()
    assert extract().made == 1
    assert contents(cache) == clean


def test_a_lost_timeline_is_made_anew_and_the_streams_are_kept(extract, tmp_path):
    clean = contents(tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache" / "timelines" / "clip2")
    assert extract().made == 0
    assert contents(tmp_path / "cache") == clean


def test_damage_outside_of_the_run_stays_listed(extract, tmp_path):
    cache = tmp_path / "cache"
    flip(next(cache.glob("features/brightness-*/clip0/values/c/0/0")), np.random.default_rng(0))
    verify(cache, deep=True, quiet=True)
    result = extract(visual=[])
    assert result.made == 0
    assert any("damaged.csv" in note for note in result.notes)
    assert extract().made == 1
    assert not (cache / "damaged.csv").exists()


def test_nothing_whole_is_removed_on_the_lists_word(extract, tmp_path):
    cache, outside = tmp_path / "cache", tmp_path / "precious"
    outside.mkdir()
    key = next(cache.glob("features/brightness-*")).name
    lines = [f"features/{key}/clip0,clip0,a lie", "../precious,clip0,a lie", "features,,a lie"]
    (cache / "damaged.csv").write_text("part,recording,cause\n" + "\n".join(lines) + "\n")
    assert extract().made == 0
    assert outside.is_dir()
    (cache / "damaged.csv").write_text("who,knows\n1,2\n")
    with pytest.raises(CacheError, match="not a list of damages"):
        extract()


def test_a_bfloat16_stream_is_extracted_healed_and_checked_like_any_other(extract, tmp_path):
    cache = tmp_path / "cache"
    assert extract(dtype="bfloat16").made == 6
    clean = contents(cache)
    files = cache.glob("features/brightness-*/clip1/values/c/0/0")
    (values,) = (f for f in files if b"bfloat16" in (f.parents[2] / "zarr.json").read_bytes())
    values.write_bytes(b"\xff\xff" + values.read_bytes()[2:])
    (damage,) = verify(cache, deep=True, quiet=True).damages
    assert "1 values are not finite" in damage.cause
    assert extract(dtype="bfloat16").made == 1
    assert contents(cache) == clean
