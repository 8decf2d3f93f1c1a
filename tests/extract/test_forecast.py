"""What a run would cost, before it runs; and that a run does not begin where the disk will not hold it."""

import contextlib
import shutil
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cache.errors import CacheError
from cache.store import FeatureCache
from extract import crops
from extract import media as films
from extract import sound as sounds
from extract.forecast import plan_table, run_plan
from extract.recipe import extract_recipe
from extract.run import run_extract

CFR = np.arange(300) / 25
VISUAL_ALONE = {"visual": ["brightness"], "audio": [], "text": []}


@pytest.fixture
def recipe(media, manifest, tmp_path):
    """Two recordings of 12 s, one unreadable; micro encoders and a light one."""
    words = tmp_path / "a.srt"
    words.write_text("1\n00:00:01,000 --> 00:00:03,000\ngood morning\n")
    (tmp_path / "bad.mp4").write_text("no media")
    sound = np.random.default_rng(0).uniform(-0.1, 0.1, 12 * 16_000).astype(np.float32)
    rows = {n: {"video": media(tmp_path / f"{n}.mp4", CFR, sound=sound), "transcript": words} for n in "ab"}
    micro = {"size": "micro", "weights": "random:0"}
    given = {"dataset": "manifest", "root": manifest(**rows, bad={"video": tmp_path / "bad.mp4"})}
    given |= {"cache": tmp_path / "cache", "visual": ["swin"], "audio": ["hubert"], "text": ["length"]}
    return extract_recipe({**given, "swin": micro, "hubert": micro, "device": "cpu"})


def test_a_plan_shows_hours_room_and_memory_of_every_precision_and_writes_nothing(light_encoders, recipe):
    plan = run_plan(recipe, quiet=True)
    assert not recipe.cache.exists()
    assert (plan.recordings, plan.unreadable, plan.frames, plan.fits) == (3, 1, 600, True)
    assert plan.media_hours == pytest.approx(24 / 3600, rel=0.02)
    rows = [(c.stream, c.precision, c.chosen) for c in plan.streams]
    assert rows[:4] == [(n, p, p == "float32") for n in ("swin", "hubert") for p in ("float32", "bf16")]
    assert rows[4] == ("length", "", True)
    assert all(c.memory_mb > 50 and c.hours >= 0 and c.recordings == 3 for c in plan.streams)
    assert plan.streams[0].hours > 0
    assert plan.hours == pytest.approx(plan.reading_hours + sum(c.hours for c in plan.streams if c.chosen), abs=1e-5)
    assert "600 frames" in str(plan_table(plan).title)


def test_a_plan_for_workers_divides_the_hours_but_never_a_recording(light_encoders, recipe):
    for workers, part in ((1, 1.0), (2, 0.5), (5, 0.5)):
        plan = run_plan(replace(recipe, workers=workers), quiet=True)
        assert plan.spread_hours == pytest.approx(plan.hours * part, rel=0.02, abs=2e-6)
    assert "5 workers, each with such a device of its own" in str(plan_table(plan).caption)


def test_the_room_of_a_plan_is_the_room_that_is_taken_and_what_is_made_is_not_planned_again(light_encoders, recipe):
    planned = {c.stream: c.gigabytes for c in run_plan(recipe, quiet=True).streams if c.chosen}
    assert run_extract(recipe, quiet=True).made == 6
    cache = FeatureCache(recipe.cache)
    for key in cache.stream_keys():
        files = (cache.root / "features" / key).glob("*/*/c/**/*")
        taken = sum(f.stat().st_size for f in files if f.is_file())
        assert planned[cache.stream(key).name] == pytest.approx(taken / 1e9, abs=1e-4)
    again = run_plan(recipe, quiet=True)
    assert {(c.stream, c.recordings, c.hours) for c in again.streams if c.chosen} == {
        (name, 1, 0.0) for name in ("swin", "hubert", "length")
    }


def test_a_disk_that_will_not_hold_it_stops_the_run_before_it_begins(light_encoders, recipe, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=100_000))
    assert not run_plan(recipe, quiet=True).fits
    with pytest.raises(CacheError, match=r"will need 0\.0 GB, and the disk of .* has 0\.0 GB free; make room"):
        run_extract(recipe, quiet=True)
    cache = FeatureCache(recipe.cache)
    assert [cache.recordings(k) for k in cache.stream_keys()] == [[], [], []]
    assert light_encoders["length"].pushed == 2  # by the plan's probe, not by the run


@pytest.fixture
def clock(monkeypatch):
    """Time passes only as work is done: seconds by kind of work, and a function that has a function take so long."""
    now = SimpleNamespace(s=0.0)
    monkeypatch.setattr(time, "perf_counter", lambda: now.s)

    def slow(where, name, seconds):
        real = getattr(where, name)

        def taking(*given, **more):
            now.s += seconds(*given) if callable(seconds) else seconds
            return real(*given, **more)

        monkeypatch.setattr(where, name, taking)

    return slow


def planned(root, cache, **streams):
    given = {"dataset": "manifest", "root": root, "cache": cache, "visual": [], "audio": [], "text": [], **streams}
    return run_plan(extract_recipe(given), quiet=True)


def test_decoding_is_counted_once_a_recording_whatever_streams_share_it(
    light_encoders, clock, media, manifest, tmp_path
):
    sound = np.zeros(12 * 16_000, np.float32)
    films_of = {n: {"video": media(tmp_path / f"{n}.mkv", CFR, sound=sound)} for n in "ab"}
    root, cache = manifest(**films_of), tmp_path / "cache"
    clock(films, "upright", 3.0)  # a picture
    clock(films.VideoFile, "_note_time", 0.5)  # a frame, picture or not
    clock(sounds, "_mono", lambda frame: 2.0 * frame.samples / frame.sample_rate)
    clock(light_encoders["brightness"], "row", lambda self, values, spans: 0.25 * len(spans))
    frames, seconds = 600, 24.0
    two = planned(root, cache, visual=["brightness", "again=brightness"])
    assert two.reading_hours * 3600 == pytest.approx(3.5 * frames, rel=0.01)
    assert [c.hours * 3600 for c in two.streams] == [pytest.approx(0.25 * frames, rel=0.02)] * 2
    assert two.hours == pytest.approx(two.reading_hours + sum(c.hours for c in two.streams))
    heard = planned(root, cache, audio=["loudness"])
    assert heard.reading_hours * 3600 == pytest.approx(0.5 * frames + 2.0 * seconds, rel=0.02)
    assert "(reading media)" in plan_table(heard).columns[0]._cells
    run_extract(extract_recipe({"dataset": "manifest", "root": root, "cache": cache, **VISUAL_ALONE}), quiet=True)
    assert planned(root, cache, visual=["brightness"]).reading_hours == 0.0
    timed = planned(root, cache, visual=["brightness"], audio=["loudness"])
    assert timed.reading_hours * 3600 == pytest.approx(2.0 * seconds, rel=0.02)


def test_crops_and_sound_alone_are_read_as_the_run_will(light_encoders, clock, media, manifest, tmp_path):
    folder, sound = tmp_path / "crops", np.zeros(4 * 16_000, np.float32)
    folder.mkdir()
    for i in range(50):
        Image.new("RGB", (8, 8)).save(folder / f"{i + 1:05d}.png")
    heard = media(tmp_path / "b.mkv", [0.0], sound=sound)
    clock(crops, "read_crop", 4.0)
    clock(sounds, "_mono", lambda frame: 2.0 * frame.samples / frame.sample_rate)
    root = manifest(a={"crops": folder}, b={"audio": heard})
    plan = planned(root, tmp_path / "cache", visual=["brightness"], audio=["loudness"], fps=25.0)
    twice = 2 * 2.0 * 4  # for its frame times, and for its encoder
    assert plan.reading_hours * 3600 == pytest.approx(4.0 * 50 + twice, rel=0.02)


def test_the_plan_and_the_run_ask_for_the_same_room(light_encoders, recipe, monkeypatch):
    needed = round(run_plan(recipe, quiet=True).gigabytes * 1e9)
    for free, enough in ((needed - 100_000, False), (needed + 100_000, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, free=free: SimpleNamespace(free=free))
        assert run_plan(recipe, quiet=True).fits is enough
        with contextlib.nullcontext() if enough else pytest.raises(CacheError, match="will need"):
            run_extract(recipe, quiet=True)
