"""One recording, several streams: what one stream's encoder does, or how long a file takes, is no other's affair."""

import numpy as np
import pytest
from PIL import Image

from cache.records import Track
from cache.store import FeatureCache
from extract.encoders import ENCODERS
from extract.recipe import extract_recipe
from extract.run import run_extract
from extract.sound import SoundFile
from extract.streams import Stream

CFR = np.arange(75) / 25
LOUD = np.full(48_000, 0.1, np.float32)  # three seconds


def run(root, cache, **more):
    given = {"dataset": "manifest", "root": root, "cache": cache, "visual": ["brightness"], "audio": [], "text": []}
    return run_extract(extract_recipe({**given, **more}), quiet=True)


def stream(cache_root, name, recording):
    cache = FeatureCache(cache_root)
    return cache.read(cache.resolve(name).key, recording)


@pytest.fixture
def made(light_encoders, monkeypatch):
    """Registers a light visual encoder with other methods for one test."""

    def register(name, **methods):
        cls = type(name.title(), (light_encoders["brightness"],), methods)
        monkeypatch.setitem(ENCODERS._classes, name, cls)
        return cls

    return register


def out_of_memory(*given):
    raise RuntimeError("CUDA out of memory")


@pytest.mark.parametrize("step", ["begin", "push", "finish"])
@pytest.mark.parametrize("order", [["sick", "brightness"], ["brightness", "sick"]])
def test_an_encoder_that_fails_costs_its_own_stream_alone(made, media, manifest, tmp_path, step, order):
    made("sick", **{step: out_of_memory})
    root = manifest(**{n: {"video": media(tmp_path / f"{n}.mkv", CFR, sound=LOUD)} for n in "ab"})
    result = run(root, tmp_path / "cache", visual=order, audio=["loudness"])
    assert [(f.recording, f.stage) for f in result.failures] == [("a", "encoder"), ("b", "encoder")]
    assert result.failures[0].cause == "RuntimeError: CUDA out of memory"
    assert "--set STREAM.batch_size=1" in result.failures[0].hint
    assert result.made == 4
    assert stream(tmp_path / "cache", "brightness", "b").present.all()
    assert not FeatureCache(tmp_path / "cache").recordings(FeatureCache(tmp_path / "cache").resolve("sick").key)


def test_weights_that_cannot_be_loaded_later_cost_their_stream_alone(made, media, manifest, tmp_path, monkeypatch):
    """The stream is known from an earlier run, so its weights are loaded at its first recording of this one."""
    made("sick")
    film = {n: {"video": media(tmp_path / f"{n}.mkv", CFR)} for n in "ab"}
    assert run(manifest(a=film["a"]), tmp_path / "cache", visual=["sick", "brightness"]).made == 2
    monkeypatch.setattr(ENCODERS.get("sick"), "load", out_of_memory)
    result = run(manifest(**film), tmp_path / "cache", visual=["sick", "brightness"])
    assert [(f.recording, f.stage) for f in result.failures] == [("b", "encoder")]
    assert (result.made, result.kept) == (1, 2)
    assert stream(tmp_path / "cache", "brightness", "b").present.all()


def test_an_encoder_whose_rows_have_another_width_than_it_says_is_told(made, media, manifest, tmp_path):
    for name, width in (("wide", 4), ("narrow", 1)):

        def push(self, block, width=width):
            return Track(block.spans, np.ones((len(block.rgb), width), np.float32))

        made(name, push=push)
    root = manifest(a={"video": media(tmp_path / "a.mkv", CFR)})
    result = run(root, tmp_path / "cache", visual=["wide", "narrow", "brightness"])
    assert [f.cause for f in result.failures] == [f"rows of shape ({n},); wanted (2,)" for n in (4, 1)]
    assert result.made == 1


@pytest.mark.parametrize("order", [["held", "once"], ["once", "held"], ["held"]])
def test_frames_of_a_recording_that_broke_off_do_not_reach_the_next(made, manifest, tmp_path, monkeypatch, order):
    """Times of the second go on where those of the first ended, as those of crops may."""
    for name, numbers in (("a", range(1, 101)), ("b", range(100, 121))):
        (tmp_path / name).mkdir()
        for i in numbers:
            grey = 255 if name == "a" else i
            Image.new("RGB", (8, 8), (grey, grey, grey)).save(tmp_path / name / f"{i:05d}.png")
    rows = {n: {"crops": tmp_path / n} for n in "ab"}

    def held(self, block):
        """A block's rows come with the next one."""
        before, self.waiting = getattr(self, "waiting", Track.concat([], 2)), light(self, block)
        return before

    def rest(self):
        track, self.waiting = self.waiting, Track.concat([], 2)
        return track

    cls = made("held")
    light = cls.push
    cls.begin = lambda self: setattr(self, "waiting", Track.concat([], 2))
    cls.push, cls.finish = held, rest
    run(manifest(b=rows["b"]), tmp_path / "clean", visual=["held"], fps=25.0)

    def breaking(self, block):
        return out_of_memory() if 2.5 < block.spans[0, 0] < 2.7 else light(self, block)

    made("once", push=breaking)
    if order == ["held"]:
        real = held

        def held_and_breaking(self, block):
            track = real(self, block)
            return out_of_memory() if 2.5 < block.spans[0, 0] < 2.7 else track

        cls.push = held_and_breaking
    result = run(manifest(**rows), tmp_path / "cache", visual=order, fps=25.0)
    assert [(f.recording, f.stage) for f in result.failures] == [("a", "encoder")]
    alone, after = (stream(tmp_path / c, "held", "b") for c in ("clean", "cache"))
    assert np.array_equal(alone.values, after.values)
    assert np.array_equal(alone.present, after.present)


def test_a_stream_begins_every_recording_with_its_encoder(made, media, manifest, tmp_path, monkeypatch):
    begun, begin = [], Stream.begin
    monkeypatch.setattr(Stream, "begin", lambda self: begun.append(self.spec.name) or begin(self))
    root = manifest(**{n: {"video": media(tmp_path / f"{n}.mkv", CFR)} for n in "ab"})
    run(root, tmp_path / "cache")
    assert begun == ["brightness"] * 2


@pytest.fixture
def counted(monkeypatch):
    """How many pieces of sound were decoded."""
    count, pieces = [], SoundFile.pieces

    def counting(self):
        for piece in pieces(self):
            count.append(len(piece))
            yield piece

    monkeypatch.setattr(SoundFile, "pieces", counting)
    return count


def test_deadlines_cover_frame_times_that_are_read_without_pictures(light_encoders, media, manifest, tmp_path):
    root = manifest(a={"video": media(tmp_path / "a.mkv", CFR, sound=LOUD)})
    result = run(root, tmp_path / "cache", visual=[], audio=["loudness"], deadline_s=-1.0)
    assert [(f.stage, result.made) for f in result.failures] == [("media", 0)]
    assert "a.mkv was given up: its deadline has passed" in result.failures[0].cause


def test_deadlines_cover_the_decoding_of_sound(light_encoders, counted, media, manifest, tmp_path):
    root = manifest(a={"video": media(tmp_path / "a.mkv", CFR, sound=LOUD)})
    run(root, tmp_path / "cache")  # the frame times are known from here on
    result = run(root, tmp_path / "cache", audio=["loudness"], deadline_s=-1.0)
    assert [(f.stage, result.made) for f in result.failures] == [("audio", 0)]
    assert "a.mkv was given up: its deadline has passed" in result.failures[0].cause
    assert len(counted) < 10  # of 47


def test_deadlines_cover_the_clock_that_is_laid_over_sound(light_encoders, counted, media, manifest, tmp_path):
    root = manifest(a={"audio": media(tmp_path / "a.mkv", CFR[:1], sound=LOUD)})
    result = run(root, tmp_path / "cache", visual=[], audio=["loudness"], deadline_s=-1.0)
    assert [(f.stage, result.made) for f in result.failures] == [("media", 0)]
    assert "a.mkv was given up: its deadline has passed" in result.failures[0].cause
    assert len(counted) < 10
