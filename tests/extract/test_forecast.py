"""What a run would cost, before it runs; and that a run does not begin where the disk will not hold it."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from cache.errors import CacheError
from cache.store import FeatureCache
from extract.forecast import plan_table, run_plan
from extract.recipe import extract_recipe
from extract.run import run_extract

CFR = np.arange(300) / 25


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
    assert plan.hours == pytest.approx(sum(c.hours for c in plan.streams if c.chosen), abs=1e-3)
    assert "600 frames" in str(plan_table(plan).title)


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
