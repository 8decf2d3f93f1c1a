"""What a cache says of itself: who is incomplete, what a key stands for, how far two streams are apart."""

import json

import numpy as np
import pytest

from cache.care.diff import compare_streams, diff_lines
from cache.care.info import describe, info_lines
from cache.care.why import explain, why_lines
from cache.errors import AmbiguousStream, CacheError
from cache.fingerprint import ABSENT, flatten
from cache.recipe import to_plain
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.store import FeatureCache
from cache.terminal import show

FRAMES = {f"rec{i}": 2000 if i == 0 else 40 + i for i in range(8)}
SETTINGS = {"encoder": "swin", "options": {"precision": "float32"}, "dtype": "float16", "weights": "ab" * 32}
BF16 = {**SETTINGS, "options": {"precision": "bf16", "layer": -1}}


@pytest.fixture
def cache(tmp_path):
    """A stream of all eight recordings, one of two, one of another width; all labelled."""
    cache = FeatureCache.create(tmp_path / "cache", "demo")
    specs = [cache.declare("swin", "visual", 8, s, {"file": {"name": "w.pt"}}) for s in (SETTINGS, BF16)]
    specs.append(cache.declare("wide", "visual", 16, SETTINGS, {}))
    for i, (recording, frames) in enumerate(FRAMES.items()):
        cache.timelines.write(recording, Timeline(np.arange(frames) / 25, frames / 25), {"clock": "container"})
        for spec in specs[:1] if i > 1 else specs:
            cache.write(spec.key, recording, rows(frames, spec.dim, noise=0.01 * (spec == specs[1])))
    labels = {r: Labels(np.zeros((n, 2), np.float32), np.ones(n, bool)) for r, n in FRAMES.items()}
    cache.labels.write("abaw", labels, Partitions(dict.fromkeys(FRAMES, "train")))
    return cache


def rows(frames, dim, noise):
    rng = np.random.default_rng(frames)
    values, present = rng.standard_normal((frames, dim), np.float32), rng.random(frames) > 0.25
    return Aligned(values + noise * rng.standard_normal(values.shape, np.float32), present)


def printed(lines, capsys):
    show(None, False, *lines)
    return capsys.readouterr().out


def by_name(cache):
    short, long = (k for k in cache.stream_keys() if k.startswith("swin-"))
    return (short, long) if len(cache.recordings(short)) == 8 else (long, short)


def test_info_counts_what_is_there_and_names_what_is_not(cache, capsys):
    about, (full, partial) = describe(cache.root), by_name(cache)
    assert (about.recordings, about.frames, about.protocols) == (8, sum(FRAMES.values()), {"abaw": 8})
    assert about.hours == round(sum(FRAMES.values()) / 25 / 3600, 3)
    streams = {s.key: s for s in about.streams}
    assert streams[full].lacks == []
    assert streams[full].frames == sum(FRAMES.values())
    assert streams[partial].lacks == [f"rec{i}" for i in range(2, 8)]
    assert (streams[partial].encoder, streams[partial].dtype, streams[partial].weights) == (
        "swin",
        "float16",
        "ab" * 32,
    )
    absent = sum(int((~cache.read(full, r).present).sum()) for r in FRAMES)
    assert streams[full].absent_frames == absent
    out = printed(info_lines(about), capsys)
    assert "lacks 6 of 8 recordings: 'rec2', 'rec3', 'rec4', 'rec5', 'rec6' and 1 more" in out
    assert "swin abababab" in out
    assert max(map(len, (line for line in out.splitlines() if "lacks" not in line))) <= 80
    assert json.loads(json.dumps(to_plain(about)))["streams"][0]["key"] in streams


@pytest.mark.parametrize("part", ["stream", "recording", "timeline", "protocol"])
def test_info_names_a_damaged_part_and_goes_on(cache, part, capsys):
    full, _ = by_name(cache)
    folder = {
        "stream": cache.root / "features" / full,
        "recording": cache.folder(full, "rec3"),
        "timeline": cache.root / "timelines" / "rec3",
        "protocol": cache.root / "labels" / "abaw" / "rec3",
    }[part]
    (folder / "zarr.json").write_bytes((folder / "zarr.json").read_bytes().replace(b"affuse", b"affusf"))
    about = describe(cache.root)
    assert about.recordings == 8
    faults = [*about.faults, *(f for s in about.streams for f in s.faults)]
    assert [str(folder) in f for f in faults] == ([] if part == "protocol" else [True])
    assert ("damaged: " in printed(info_lines(about), capsys)) == (part != "protocol")
    assert next(s for s in about.streams if s.key == full).recordings == 8


def test_why_lists_every_setting_and_what_sets_namesakes_apart(cache, capsys):
    full, partial = by_name(cache)
    why = explain(cache.root, full)
    assert why.settings == flatten(SETTINGS)
    assert why.origin == {"file.name": "w.pt"}
    assert why.apart == {partial: {"options.layer": (ABSENT, -1), "options.precision": ("float32", "bf16")}}
    out = printed(why_lines(why), capsys)
    assert "options.precision" in out
    assert "does not count" in out
    assert explain(cache.root, "wide").apart == {}
    with pytest.raises(AmbiguousStream, match="precision"):
        explain(cache.root, "swin")
    with pytest.raises(CacheError, match="it holds: swin, wide"):
        explain(cache.root, "hubert")


def test_diff_measures_what_numpy_measures(cache, capsys):
    full, partial = by_name(cache)
    found = compare_streams(cache.root, full, partial, quiet=True)
    assert found.settings["options.precision"] == ("float32", "bf16")
    assert [r.recording for r in found.recordings] == ["rec0", "rec1"]
    assert (len(found.only_a), len(found.only_b)) == (6, 0)
    for r in found.recordings:
        a, b = cache.read(full, r.recording), cache.read(partial, r.recording)
        x, y = a.values[a.present].astype(np.float64), b.values[b.present].astype(np.float64)
        cosine = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
        assert (r.frames, r.presence) == (len(x), 0.0)
        assert r.cosine_mean == pytest.approx(cosine.mean(), abs=1e-6)
        assert r.cosine_worst == pytest.approx(cosine.min(), abs=1e-6)
        assert r.largest == np.abs(x - y).max()
    assert "least alike" not in printed(diff_lines(found), capsys)


def test_diff_of_a_stream_with_itself_and_of_other_widths(cache, capsys):
    full, _ = by_name(cache)
    same = compare_streams(cache.root, full, full, quiet=True)
    assert same.settings == {}
    assert {(r.cosine_worst, r.largest, r.presence) for r in same.recordings} == {(1.0, 0.0, 0.0)}
    other = compare_streams(cache.root, full, "wide", quiet=True)
    assert (other.dims, other.recordings) == ((8, 16), [])
    assert "only their settings" in printed(diff_lines(other), capsys)


def test_diff_counts_frames_that_one_stream_alone_has(cache):
    specs = [cache.declare(n, "audio", 2, {"encoder": n}, {}) for n in ("one", "two")]
    masks = np.arange(43) < 20, np.arange(43) >= 20
    for spec, present in zip(specs, masks, strict=True):
        cache.write(spec.key, "rec3", Aligned(np.ones((43, 2), np.float32), present))
    (found,) = compare_streams(cache.root, "one", "two", quiet=True).recordings
    assert (found.frames, found.cosine_mean, found.presence) == (0, None, 100.0)
