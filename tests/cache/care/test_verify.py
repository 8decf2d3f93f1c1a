"""Nothing on disk changes unnoticed: every bit, every missing file, every group in another's place is named."""

import json
import shutil

import numpy as np
import pytest

from cache.care.heal import clear_damaged
from cache.care.info import describe
from cache.care.verify import verify
from cache.commit import discard
from cache.errors import CacheError, CorruptCache
from cache.ids import folder_of
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.stats import stream_stats
from cache.store import FeatureCache

FRAMES = {"a": 300, "b b": 40, "c" * 220: 513}


@pytest.fixture
def cache(tmp_path):
    """Two streams of three recordings, with labels and statistics."""
    cache, rng = FeatureCache.create(tmp_path / "cache", "demo"), np.random.default_rng(0)
    specs = [cache.declare(n, m, 8, {"layer": n}, {"file": n}) for n, m in (("swin", "visual"), ("hubert", "audio"))]
    for recording, frames in FRAMES.items():
        cache.timelines.write(recording, Timeline(np.arange(frames) / 25, frames / 25), {"clock": "container"})
        for spec in specs:
            values, present = rng.standard_normal((frames, 8), np.float32), rng.random(frames) > 0.2
            cache.write(spec.key, recording, Aligned(values, present), {"rows": frames})
    labels = {r: Labels(np.full((n, 2), 0.5, np.float32), np.ones(n, bool)) for r, n in FRAMES.items()}
    cache.labels.write("abaw", labels, Partitions(dict.fromkeys(FRAMES, "train"), {"a": "s1"}))
    stream_stats(cache, specs[0].key, [*FRAMES])
    return cache


def files(cache):
    return sorted(p for p in cache.root.rglob("*") if p.is_file())


def part_of(cache, file):
    """The group a file belongs to: the nearest folder above it that is no array."""
    folder = file.relative_to(cache.root).parent
    while folder.name in {"c", "0", "values", "present", "pts", "va", "labelled", "mean", "std"}:
        folder = folder.parent
    return str(folder)


def test_a_whole_cache_is_found_whole_and_no_list_is_left(cache):
    assert verify(cache.root, deep=True, quiet=True).damages == []
    assert not (cache.root / "damaged.csv").exists()


def test_every_flipped_bit_is_named(cache):
    """One random bit of each file, then 200 of random files: weighted by files, since metadata is small."""
    rng = np.random.default_rng(1)
    there = files(cache)
    missed = []
    for file in [*there, *rng.choice(there, 200)]:
        data = bytearray(file.read_bytes())
        bit = int(rng.integers(len(data) * 8))
        before = bytes(data)
        data[bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        try:
            named = [d.part for d in verify(cache.root, deep=True, quiet=True).damages]
        except (CacheError, CorruptCache) as error:  # the cache's own zarr.json
            named = ["."] if str(cache.root) in str(error) else []
        if part_of(cache, file) not in named:
            missed.append((file, bit))
        file.write_bytes(before)
    assert missed == []


def test_without_deep_metadata_and_sizes_are_checked_and_values_are_not(cache):
    values = cache.folder(cache.stream_keys()[0], "a") / "values" / "c" / "0" / "0"
    data = bytearray(values.read_bytes())
    data[5] ^= 1
    values.write_bytes(data)
    assert verify(cache.root, quiet=True).damages == []
    assert len(verify(cache.root, deep=True, quiet=True).damages) == 1
    values.write_bytes(data[:-1])
    found = verify(cache.root, quiet=True).damages
    assert [d.recording for d in found] == ["a"]
    assert "bytes, wanted" in found[0].cause


def test_what_is_gone_or_in_anothers_place_is_named(cache):
    key = cache.stream_keys()[0]
    a, b = cache.folder(key, "a"), cache.folder(key, "b b")
    (a / "present" / "c" / "0").unlink()
    shutil.rmtree(b)
    shutil.copytree(cache.folder(cache.stream_keys()[1], "a"), b)
    shutil.rmtree(cache.root / "timelines" / folder_of("c" * 220))
    found = {d.part: d.cause for d in verify(cache.root, quiet=True).damages}
    assert "No such file" in found[f"features/{key}/a"]
    assert "holds recording 'a'" in found[f"features/{key}/b%20b"]
    assert sum("no timeline" in cause for cause in found.values()) == 3, "two streams and the labels"


def test_a_stream_of_other_settings_than_its_key_is_named(cache):
    one, two = cache.stream_keys()
    shutil.copy(cache.root / "features" / two / "zarr.json", cache.root / "features" / one / "zarr.json")
    found = verify(cache.root, quiet=True).damages
    assert [d.part for d in found] == [f"features/{one}"]
    assert two in found[0].cause


def test_the_list_is_kept_until_a_deep_check_finds_nothing(cache):
    values = cache.folder(cache.stream_keys()[0], "a") / "values" / "c" / "0" / "0"
    before = values.read_bytes()
    values.write_bytes(b"\xff" * 20 + before[20:])
    found = verify(cache.root, deep=True, quiet=True)
    assert "not finite" in found.damages[0].cause
    assert (cache.root / "damaged.csv").read_text().count("\n") == 2
    shallow = verify(cache.root, quiet=True)
    assert shallow.damages == found.damages, "a shallow check cannot acquit"
    assert shallow.listed == 1
    assert (cache.root / "damaged.csv").read_text().count("\n") == 2
    (fault,) = describe(cache.root).faults
    assert fault.startswith(f"{found.damages[0].part}, as a deep check found: ")
    values.write_bytes(before)
    verify(cache.root, deep=True, quiet=True)
    assert not (cache.root / "damaged.csv").exists()


def test_what_was_listed_and_is_gone_is_no_damage(cache):
    folder = cache.folder(cache.stream_keys()[0], "a")
    file = folder / "values" / "c" / "0" / "0"
    file.write_bytes(b"\xff" * 20 + file.read_bytes()[20:])
    verify(cache.root, deep=True, quiet=True)
    shutil.rmtree(folder)
    assert describe(cache.root).faults == []
    assert verify(cache.root, quiet=True).damages == []
    assert not (cache.root / "damaged.csv").exists()


@pytest.mark.parametrize("spoil", [lambda d: b"\xff" + d[1:], lambda d: d.replace(b"part", b"parts")])
def test_a_damaged_list_is_named_and_a_deep_check_makes_it_anew(cache, spoil):
    values = cache.folder(cache.stream_keys()[0], "a") / "values" / "c" / "0" / "0"
    values.write_bytes(b"\xff" * 20 + values.read_bytes()[20:])
    verify(cache.root, deep=True, quiet=True)
    path = cache.root / "damaged.csv"
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    (named,) = verify(cache.root, quiet=True).damages
    assert named.part == "damaged.csv"
    assert "verify --deep" in named.cause
    assert "not a list of damages" in describe(cache.root).faults[0]
    with pytest.raises(CacheError, match="not a list of damages"):
        clear_damaged(cache, cache.stream_keys(), ["a"])
    assert path.read_bytes() == spoil(whole)
    verify(cache.root, deep=True, quiet=True)
    assert path.read_bytes() == whole


def test_the_verdict_is_given_where_the_list_cannot_be_kept(cache, monkeypatch, caplog):
    """Such as in a colleague's cache: what is in it is his, and it is his to heal."""

    def refuse(root, path, data):
        raise CacheError(f"cannot write to the cache at {root}: Permission denied")

    values = cache.folder(cache.stream_keys()[0], "a") / "values" / "c" / "0" / "0"
    values.write_bytes(b"\xff" * 20 + values.read_bytes()[20:])
    monkeypatch.setattr("cache.tables.publish_file", refuse)
    assert len(verify(cache.root, deep=True, quiet=True).damages) == 1
    assert "damaged.csv is not kept: cannot write" in caplog.text


def test_damaged_statistics_are_not_used_but_made_anew(cache):
    key = next(k for k in cache.stream_keys() if (cache.root / "stats" / k).exists())
    mean = next((cache.root / "stats" / key).glob("*/mean/c/0"))
    before = mean.read_bytes()
    mean.write_bytes(bytes(len(before)))
    stats = stream_stats(cache, key, [*FRAMES])
    assert stats.mean.tobytes() == before == mean.read_bytes()


def test_damaged_labels_and_times_are_refused_when_read(cache):
    for file, read in (
        (cache.root / "labels" / "abaw" / "a" / "va" / "c" / "0" / "0", lambda: cache.labels.read("abaw", "a")),
        (cache.root / "timelines" / "a" / "pts" / "c" / "0", lambda: cache.timelines.read("a")),
    ):
        data = bytearray(file.read_bytes())
        data[3] ^= 4
        file.write_bytes(data)
        with pytest.raises(CorruptCache, match="verify"):
            read()


def test_a_cache_from_before_there_were_checksums_is_called_that_and_what_heals_it_is_told(tmp_path):
    root = FeatureCache.create(tmp_path / "cache", "demo").root
    record = json.loads((root / "zarr.json").read_text())
    del record["attributes"]["affuse"]["crc32c"]
    (root / "zarr.json").write_text(json.dumps(record))
    with pytest.raises(CorruptCache, match="has no checksum: it was written by a version before") as caught:
        verify(root, quiet=True)
    assert "extract into it again" in str(caught.value)


def test_streams_made_on_other_frame_times_are_named(cache):
    pts = cache.timelines.read("a").pts
    key = cache.stream_keys()[0]
    discard(cache.root, cache.root / "timelines" / "a")
    aside = cache.root / "features"
    aside.rename(cache.root / "aside")  # as a cache put together by hand from two
    cache.timelines.write("a", Timeline(pts + 1, pts[-1] + 2))
    (cache.root / "aside").rename(aside)
    named = {d.part: d.cause for d in verify(cache.root).damages}
    assert "made on other frame times" in named[f"features/{key}/a"]
