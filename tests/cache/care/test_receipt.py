"""Receipts: equal caches agree, every difference is named, precision is none, and lies are refused."""

import json
import shutil
from hashlib import sha256

import numpy as np
import pytest
from typer.testing import CliRunner

from cache.care.against import against_lines, compare
from cache.care.receipt import evenness, make_receipt, read_receipt, receipt_text, save_receipt
from cache.care.sketch import LIMIT, distance, sketch
from cache.care.verify import verify
from cache.commands import cache_app
from cache.errors import CorruptCache, DataError, MissingData
from cache.fingerprint import stream_key
from cache.labels import LabelStore
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.store import FeatureCache

FRAMES = {"a": 300, "b b": 60, "c\x1b[2J": 25}
SETTINGS = {"encoder": "swin", "options": {"precision": "float32"}, "weights": "ab" * 32}


def features(frames, dim, seed, common=2.0):
    """Rows that share a mean with all other recordings, and wander about it."""
    rng = np.random.default_rng([frames, seed])
    steps = rng.standard_normal((frames, dim))
    for t in range(1, frames):
        steps[t] = 0.9 * steps[t - 1] + 0.4359 * steps[t]
    mean = np.random.default_rng(9).standard_normal(dim)
    return (common * mean + 0.3 * rng.standard_normal(dim) + steps).astype(np.float32), rng.random(frames) > 0.2


def write(root, *, settings=SETTINGS, change=lambda values, present: (values, present), shift=0.0, start=0.0, va=0.5):
    cache = FeatureCache.create(root, "demo")
    spec = cache.declare("swin", "visual", 32, settings, {"signature": str(root)})
    for recording, frames in FRAMES.items():
        pts = start + np.arange(frames) / 25 + shift * (np.arange(frames) % 2)
        cache.timelines.write(
            recording, Timeline(pts, start + frames / 25), {"clock": "container", "decoder": "pyav-2"}
        )
        cache.write(spec.key, recording, Aligned(*change(*features(frames, 32, 0))))
    labels = {r: Labels(np.full((n, 2), va, np.float32), np.ones(n, bool)) for r, n in FRAMES.items()}
    cache.labels.write("abaw", labels, Partitions(dict.fromkeys(FRAMES, "train")))
    return cache


@pytest.fixture
def theirs(tmp_path):
    """The receipt of another lab's cache, as a file."""
    path = tmp_path / "receipt.json"
    path.write_text(receipt_text(make_receipt(write(tmp_path / "theirs").root, quiet=True)))
    return path


def check(cache, path):
    found = compare(cache.root, read_receipt(path), quiet=True)
    return found, {(d.what, d.recording) for d in found.differences}


def test_an_equal_cache_agrees_and_gives_the_same_bytes(tmp_path, theirs):
    ours = write(tmp_path / "ours")
    found, differences = check(ours, theirs)
    assert (differences, found.same, found.close, found.extra) == (set(), 3, 0, [])
    assert receipt_text(make_receipt(ours.root, quiet=True)) == theirs.read_text()
    assert len(theirs.read_bytes()) < 3000
    assert str(tmp_path) not in theirs.read_text(), "the origin is not published"


def test_noise_of_another_precision_is_none_even_under_another_key(tmp_path, theirs):
    def bf16(values, present):
        return values * (1 + 0.01 * np.random.default_rng(1).standard_normal(values.shape).astype(np.float32)), present

    found, differences = check(write(tmp_path / "same", change=bf16), theirs)
    assert (differences, found.close) == (set(), 3)
    other = write(tmp_path / "bf16", change=bf16, settings={**SETTINGS, "options": {"precision": "bf16"}})
    found, differences = check(other, theirs)
    assert differences == {("settings", "")}
    assert 'options.precision = "bf16" here, "float32" in the receipt' in found.differences[0].how
    assert found.close == 3


def test_a_still_picture_has_no_digits_of_rounding_noise():
    """They would be other ones on another processor."""
    row = np.random.default_rng(0).standard_normal(768).astype(np.float16)
    found = sketch(np.tile(row, (1500, 1)), np.arange(1500) % 9 > 0, "k-1", "a")
    assert found[1] == 0
    assert found[5:] == (0.0, 0.0, 0.0)
    assert all(found[2:5])
    assert "-0.0" not in str(found)
    nearly = np.zeros((50, 8))
    nearly[::2] = 1.0
    nearly[1::2] = -1.0
    nearly[0] += 1e-11
    assert sketch(nearly, np.ones(50, bool), "k-1", "a")[2:5] == (0.0, 0.0, 0.0)


def test_partitions_are_read_once_not_for_every_recording(tmp_path, theirs, monkeypatch):
    ours, read, calls = write(tmp_path / "ours"), LabelStore.partitions, []
    monkeypatch.setattr(LabelStore, "partitions", lambda self, protocol: calls.append(protocol) or read(self, protocol))
    make_receipt(ours.root, quiet=True)
    assert calls == ["abaw"]
    assert check(ours, theirs)[1] == set()
    assert calls == ["abaw"] * 2


def test_an_id_that_is_no_text_is_published_as_an_escape_and_found_again(tmp_path):
    """From a file whose name is no UTF-8."""
    name, caches = "caf\udce9", []
    for lab in ("theirs", "ours"):
        cache = write(tmp_path / lab)
        cache.timelines.write(name, Timeline(np.arange(9) / 25, 9 / 25))
        cache.write(cache.stream_keys()[0], name, Aligned(np.ones((9, 32), np.float32), np.ones(9, bool)))
        caches.append(cache)
    path = tmp_path / "r.json"
    save_receipt(path, receipt_text(make_receipt(caches[0].root, quiet=True)))
    found, differences = check(caches[1], path)
    assert (differences, found.same, found.extra) == (set(), 4, [])
    values = caches[1].folder(caches[1].stream_keys()[0], name) / "values" / "c" / "0" / "0"
    values.write_bytes(bytes(len(values.read_bytes())))
    assert [d.recording for d in verify(caches[1].root, deep=True, quiet=True).damages] == [name]
    assert "caf\\udce9" in (caches[1].root / "damaged.csv").read_text()


def test_a_receipt_is_written_in_one_step_where_it_can_be(tmp_path):
    cache, out = write(tmp_path / "ours"), tmp_path / "r.json"
    app = CliRunner()

    def run(path):
        return app.invoke(cache_app, ["receipt", "--quiet", "--cache", str(cache.root), "--out", str(path)])

    for wrong, told in ((tmp_path, "is no file"), (tmp_path / "none" / "r.json", "there is no folder")):
        result = run(wrong)
        assert (result.exit_code, told in result.stderr) == (2, True)
    assert run(out).exit_code == 0
    assert out.read_text() == receipt_text(make_receipt(cache.root, quiet=True))
    (tmp_path / "link.json").symlink_to(out)
    assert run(tmp_path / "link.json").exit_code == 0
    assert (tmp_path / "link.json").is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.json", "ours", "r.json"]


CHANGES = {
    "another recording's": lambda v, p: (features(len(v), 32, 1)[0], p),
    "features in another order": lambda v, p: (v[:, ::-1], p),
    "frames in reverse": lambda v, p: (v[::-1], p),
    "moved by one frame": lambda v, p: (np.roll(v, 1, axis=0), p),
    "ten percent louder": lambda v, p: (v * 1.1, p),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_other_features_are_different(tmp_path, theirs, change):
    found, differences = check(write(tmp_path / "ours", change=change), theirs)
    assert differences == {("features", r) for r in FRAMES}
    assert (found.same, found.close) == (0, 0)


def test_other_times_labels_presence_and_partitions_are_named(tmp_path, theirs):
    _, differences = check(write(tmp_path / "times", shift=1e-6), theirs)
    assert differences == {("timeline", r) for r in FRAMES}
    found, differences = check(write(tmp_path / "late", start=0.85), theirs)
    assert differences == {("timeline", r) for r in FRAMES}
    assert {d.how for d in found.differences} == {"start 0.85 here, 0.0 in the receipt"}
    _, differences = check(write(tmp_path / "labels", va=0.25), theirs)
    assert differences == {("labels", r) for r in FRAMES}
    found, differences = check(write(tmp_path / "present", change=lambda v, p: (v, p | True)), theirs)
    assert {("presence", r) for r in FRAMES} <= differences
    ours = write(tmp_path / "split")
    ours.labels.write("abaw", {r: ours.labels.read("abaw", r) for r in FRAMES}, Partitions({"a": "test"}))
    found, differences = check(ours, theirs)
    assert differences == {("labels", r) for r in FRAMES}
    assert "partition 'test' here, 'train' in the receipt" in found.differences[0].how


def test_what_is_missing_is_named_and_what_is_more_is_not_a_difference(tmp_path, theirs):
    ours = write(tmp_path / "ours")
    (key,) = ours.stream_keys()
    ours.timelines.write("more", Timeline([0.0], 0.04))
    shutil.rmtree(ours.folder(key, "b b"))
    found, differences = check(ours, theirs)
    assert (found.extra, differences) == (["more"], {("features", "b b")})
    shutil.rmtree(ours.root / "timelines" / "a")
    shutil.rmtree(ours.root / "features" / key)
    assert check(ours, theirs)[1] == {("recording", "a"), ("stream", "")}
    out = [line for line in against_lines(found) if isinstance(line, str)]
    assert out[-1].endswith("1 differences")


def test_a_damaged_part_is_a_difference_and_the_rest_is_compared(tmp_path, theirs):
    ours = write(tmp_path / "ours")
    (ours.folder(ours.stream_keys()[0], "a") / "values" / "c" / "0" / "0").write_bytes(b"")
    found, differences = check(ours, theirs)
    assert (differences, found.same) == ({("features", "a")}, 2)


def test_the_limit_lies_between_precision_and_everything_else():
    """60 recordings of five kinds; the docstring of LIMIT tells of 600 of many more."""
    precision, others = [], []
    for i in range(60):
        frames, dim, common = (25, 100, 300)[i % 3], (16, 256)[i % 2], (0.0, 1.0, 3.0)[i // 20]
        values, present = features(frames, dim, i, common)
        noise = 1 + 0.01 * np.random.default_rng(i).standard_normal(values.shape)
        known = sketch(values, present, "swin-0", f"rec{i}")
        precision.append(distance(known, sketch(values * noise, present, "swin-0", f"rec{i}")))
        shuffled = np.random.default_rng(i).permutation(dim)
        for other in (features(frames, dim, i + 1000, common)[0], values[:, shuffled]):
            others.append(distance(known, sketch(other, present, "swin-0", f"rec{i}")))
    assert max(precision) < LIMIT / 2
    assert min(others) > LIMIT * 1.5


def test_a_sketch_never_changes_and_holds_eight_numbers_of_three_digits():
    values = (np.arange(60, dtype=np.float32).reshape(20, 3) % 7) - 2
    known = sketch(values, np.arange(20) % 5 > 0, "swin-0123456789ab", "täst/1")
    assert known == GOLDEN
    assert sketch(values, np.zeros(20, bool), "swin-0123456789ab", "a") == (0.0,) * 8
    apart = sketch(values, np.arange(20) % 5 > 0, "swin-0123456789ab", "täst/2")
    assert apart[:2] == known[:2]
    assert apart[2:] != known[2:], "signs are another recording's"
    assert np.isinf(distance(known, (0.0,) * 8))


GOLDEN = (2.33, 2.09, 0.938, -0.217, -0.217, 1.44, 4.91, 0.0)


def test_a_sketch_does_not_depend_on_how_many_frames_are_read_at_once(monkeypatch):
    values, present = features(700, 16, 0)
    known = sketch(values, present, "k-1", "a")
    monkeypatch.setattr("cache.care.sketch._AT_ONCE", 7)
    assert distance(sketch(values, present, "k-1", "a"), known) < 1e-3


def test_evenness_is_rate_and_the_largest_distance_to_it():
    even = Timeline(0.85 + np.arange(500) / 29.97, 20.0)
    assert evenness(even) == (pytest.approx(29.97), pytest.approx(0.0, abs=1e-6))
    late = even.pts.copy()
    late[250] += 0.02
    fps, drift = evenness(Timeline(late, 20.0))
    assert fps == pytest.approx(29.97, abs=1e-2)
    assert drift == pytest.approx(20, abs=0.2)
    assert evenness(Timeline([1.0], 1.5)) == (2.0, 0.0)


def edited(path, **changes):
    receipt = json.loads(path.read_text())
    for where, value in changes.items():
        *parents, last = where.split("__")
        inside = receipt
        for name in parents:
            inside = next(iter(inside.values())) if name == "first" else inside[name]
        inside[last] = value
    path.write_text(json.dumps(receipt))
    return path


LIES = {
    "another format": {"affuse_receipt": 2},
    "no number": {"affuse_receipt": "1"},
    "surplus field": {"more": 1},
    "recordings as a list": {"recordings": []},
    "no hash": {"recordings__a__sha256": "../../etc/passwd"},
    "negative frames": {"recordings__a__frames": -1},
    "other settings than the key's": {"streams__first__settings": {"encoder": "resnet"}},
    "another name than the key's": {"streams__first__name": "resnet"},
    "more present frames than frames": {"streams__first__recordings__a__present": 301},
    "seven numbers": {"streams__first__recordings__a__sketch": [0.0] * 7},
    "negative size": {"streams__first__recordings__a__sketch": [-1.0] * 8},
    "words as numbers": {"streams__first__recordings__a__sketch": ["1"] * 8},
    "not a number": {"streams__first__recordings__a__sketch": [float("nan")] * 8},
    "infinite setting": {"streams__first__settings": {"lr": float("inf")}},
    "no modality": {"streams__first__modality": "smell"},
    "features of no recording": {"streams__first__recordings__d": {"present": 0, "sketch": [0.0] * 8}},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_receipt_that_is_not_sound_is_refused_in_one_line(theirs, lie):
    with pytest.raises(DataError) as told:
        read_receipt(edited(theirs, **lie))
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 400


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"affuse_receipt": 1}', "\xff\xfe"])
def test_what_is_no_receipt_is_refused(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="not a receipt"):
        read_receipt(path)
    with pytest.raises(MissingData):
        read_receipt(tmp_path / "none.json")


def test_deep_settings_do_not_break_the_reader(theirs):
    deep = 1
    for _ in range(150):
        deep = {"a": deep}
    receipt = json.loads(theirs.read_text())
    (stream,) = receipt["streams"].values()
    stream["settings"] = deep
    receipt["streams"] = {stream_key("swin", deep): stream}
    theirs.write_text(json.dumps(receipt))
    assert read_receipt(theirs).streams


def test_a_sketch_is_what_its_description_says():
    """Worked out a second time from the words alone."""
    values, present = features(70, 5, 0)
    raw = np.random.Philox(key=np.frombuffer(sha256(b"k-1\na").digest()[:16], "<u8"))
    bits = [(int(word) >> i) & 1 for n in (1, 4) for word in raw.random_raw(n) for i in range(64)]
    project, time = 1 - 2 * np.array(bits[:30]).reshape(6, 5), 1 - 2 * np.array(bits[64 : 64 + 210]).reshape(3, 70)
    x = values[present].astype(np.float64)
    away = x - x.mean(axis=0)
    numbers = [np.sqrt((x**2).mean()), np.sqrt((away**2).mean())]
    numbers += [p @ x.mean(axis=0) / np.sqrt(5) for p in project[:3]]
    numbers += [t[present] @ away @ p / np.sqrt(5 * len(x)) for t, p in zip(time, project[3:], strict=True)]
    assert sketch(values, present, "k-1", "a") == tuple(float(f"{n:.3g}") for n in numbers)


def test_nobody_vouches_for_damaged_features(tmp_path):
    cache = write(tmp_path / "cache")
    key = cache.resolve("swin").key
    path = cache.folder(key, "a") / "values" / "c" / "0" / "0"
    data = bytearray(path.read_bytes())
    data[64:128] = bytes(64)
    path.write_bytes(data)
    with pytest.raises(CorruptCache, match="differ from their checksums"):
        make_receipt(cache.root)
