"""Recordings without video: nominal frames over numbered face crops or over sound, at a rate that is part of them."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import cli
from cache.errors import ConfigError, UsageError
from cache.store import FeatureCache
from extract.forecast import run_plan
from extract.recipe import extract_recipe
from extract.run import run_extract

SOUND = np.full(16_000 * 2, 0.25, np.float32)  # two seconds


@pytest.fixture
def crops(tmp_path):
    """Writes a folder of crops by number, whose grey is their number."""

    def write(numbers, name="crops", suffix="png"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for number in numbers:
            Image.new("L", (4, 4), number % 256).save(folder / f"{number:05d}.{suffix}")
        return folder

    return write


def run(root, cache, **more):
    data = {"dataset": "manifest", "root": root, "cache": cache, "visual": ["brightness"], "audio": ["loudness"]}
    return run_extract(extract_recipe({**data, "text": ["length"], **more}), quiet=True)


def test_crops_alone_get_nominal_frames_by_their_numbers(light_encoders, crops, manifest, tmp_path):
    (tmp_path / "a.csv").write_text("valence,arousal\n" + "".join(f"{i / 100},0\n" for i in range(14)))
    (tmp_path / "a.srt").write_text("1\n00:00:00,100 --> 00:00:00,300\nhello\n")
    row = {"crops": crops([2, 3, 7, 12]), "labels": "a.csv", "transcript": "a.srt", "partition": "train"}
    result = run(manifest(a=row), tmp_path / "cache", fps=30)
    assert not result.failures
    assert "a: no video: its frames are nominal, 30 a second over its crops" in result.notes
    cache = FeatureCache(tmp_path / "cache")
    info = cache.timelines.info("a")
    assert (info["clock"], info["fps"], info["over"]) == ("nominal", 30.0, "crops")
    timeline = cache.timelines.read("a")
    np.testing.assert_allclose(timeline.edges, np.arange(13) / 30)
    faces = cache.read(cache.resolve("brightness").key, "a")
    assert np.flatnonzero(faces.present).tolist() == [1, 2, 6, 11]
    np.testing.assert_allclose(faces.values[[1, 2, 6, 11], 0] * 255, [2, 3, 7, 12], atol=0.1)
    assert not cache.read(cache.resolve("loudness").key, "a").present.any()
    assert np.flatnonzero(cache.read(cache.resolve("length").key, "a").present).tolist() == [3, 4, 5, 6, 7, 8]
    labels = cache.labels.read("va", "a")
    np.testing.assert_allclose(labels.va[:, 0], np.arange(12) / 100, atol=1e-6)
    assert "a: 14 annotation rows, face crops up to frame 12; dropped 2 from the tail" in result.notes


def test_sound_beside_crops_keeps_its_own_clock(light_encoders, crops, manifest, media, tmp_path):
    sound = media(tmp_path / "a.mkv", [0.0], sound=SOUND[:8_000], sound_start=0.5)
    run(manifest(a={"crops": crops(range(1, 41)), "audio": sound}), tmp_path / "cache", fps=20)
    cache = FeatureCache(tmp_path / "cache")
    assert len(cache.timelines.read("a")) == 40
    heard = np.flatnonzero(cache.read(cache.resolve("loudness").key, "a").present)
    assert heard[0] == 10  # 0.5 s
    assert heard[-1] in (19, 20)  # AAC pads its last block


def test_without_a_rate_every_such_recording_says_what_to_give(light_encoders, crops, manifest, media, tmp_path):
    film = media(tmp_path / "film.mp4", np.arange(10) / 25)
    rows = {"a": {"crops": crops([1, 2])}, "b": {"crops": crops([1, 2], "b")}, "film": {"video": film}}
    result = run(manifest(**rows), tmp_path / "cache")
    assert [(f.recording, f.stage) for f in result.failures] == [("a", "media"), ("b", "media")]
    assert result.failures[0].cause == "recording 'a' has no video; crops alone need --fps"
    assert result.made == 3
    rows |= {str(i): {"crops": crops([1], f"c{i}")} for i in range(5)}
    with pytest.raises(UsageError, match=r"first 5 recordings all failed: .* crops alone need --fps; give the frames"):
        run(manifest(**rows), tmp_path / "other")


@pytest.mark.parametrize("made", [{"brightness": {"gain": 2.0}}, {}])
def test_another_rate_for_the_same_recording_is_an_error_that_names_both(
    light_encoders, crops, manifest, tmp_path, made
):
    """Whether or not there is anything left to make of it."""
    root = manifest(a={"crops": crops([1, 2, 3])})
    run(root, tmp_path / "cache", fps=30)
    (failure,) = run(root, tmp_path / "cache", fps=25, **made).failures
    assert failure.cause == "the frames of 'a' were laid at 30 a second, and --fps now says 25"
    assert failure.hint.startswith("give --fps 30")
    assert not run(root, tmp_path / "cache", **made).failures  # without one, the cache's own
    assert not run(root, tmp_path / "cache", fps=30, **made).failures
    np.testing.assert_allclose(FeatureCache(tmp_path / "cache").timelines.read("a").pts, np.arange(3) / 30)


def test_a_rate_is_for_sound_alone_too_and_25_by_default(light_encoders, manifest, media, tmp_path):
    root = manifest(a={"audio": media(tmp_path / "a.mkv", [0.0], sound=SOUND)})
    run(root, tmp_path / "one")
    assert len(FeatureCache(tmp_path / "one").timelines.read("a")) == 51  # AAC pads to 2.048 s
    run(root, tmp_path / "two", fps=10)
    assert FeatureCache(tmp_path / "two").timelines.info("a")["fps"] == 10.0
    assert len(FeatureCache(tmp_path / "two").timelines.read("a")) == 20
    (failure,) = run(root, tmp_path / "one", fps=10).failures
    assert "were laid at 25 a second" in failure.cause


def test_a_rate_where_every_recording_has_a_video_does_nothing_and_says_so(light_encoders, manifest, media, tmp_path):
    result = run(manifest(a={"video": media(tmp_path / "a.mp4", np.arange(5) / 25)}), tmp_path / "cache", fps=30)
    assert any("--fps 30 does nothing" in n for n in result.notes)
    assert FeatureCache(tmp_path / "cache").timelines.read("a").pts[1] == pytest.approx(0.04)


def test_crops_that_changed_and_a_video_that_came_or_went(light_encoders, crops, manifest, media, tmp_path):
    folder = crops([1, 2, 3])
    root = manifest(a={"crops": folder})
    run(root, tmp_path / "cache", fps=25)
    crops([9])
    (failure,) = run(root, tmp_path / "cache", fps=25, brightness={"gain": 2.0}).failures
    assert "now has 9 frames" in failure.cause
    film = media(tmp_path / "a.mp4", np.arange(9) / 25)
    with_film = manifest(a={"crops": folder, "video": film})
    failures = run(with_film, tmp_path / "cache", brightness={"gain": 2.0}).failures
    assert any("were laid at 25 a second over the crops" in f.cause for f in failures)
    run(with_film, tmp_path / "fresh")
    result = run(manifest(a={"crops": folder}), tmp_path / "fresh", brightness={"gain": 2.0})  # its times are known
    assert not result.failures
    assert FeatureCache(tmp_path / "fresh").timelines.info("a")["clock"] == "container"


@pytest.mark.parametrize(
    ("numbers", "cause"), [([0, 1, 2], "numbered from 0; wanted from 1"), ([], "holds no numbered picture")]
)
def test_crops_whose_frames_are_not_known_are_refused(light_encoders, crops, manifest, media, tmp_path, numbers, cause):
    folder = crops(numbers)
    (failure,) = run(manifest(a={"crops": folder}), tmp_path / "cache", fps=25).failures
    assert cause in failure.cause
    film = media(tmp_path / "a.mp4", np.arange(3) / 25)
    failures = run(manifest(a={"crops": folder, "video": film}), tmp_path / "with video").failures
    assert [cause in f.cause for f in failures] == [True] * bool(numbers)  # a film without a face is no error


def test_two_crops_of_one_frame_are_refused(light_encoders, crops, manifest, tmp_path):
    crops([1, 2, 3])
    (failure,) = run(manifest(a={"crops": crops([2], suffix="jpg")}), tmp_path / "cache", fps=25).failures
    assert "two crops of frame 2: 00002.jpg and 00002.png" in failure.cause


@pytest.mark.parametrize("fps", [0, -25, 1e9, float("nan")])
def test_a_rate_that_is_none_is_refused(tmp_path, fps):
    with pytest.raises(ConfigError, match="wanted frames a second"):
        extract_recipe({"dataset": "manifest", "root": tmp_path, "fps": fps})


def test_the_commands_take_it_and_the_doctor_asks_for_it(light_encoders, crops, manifest, tmp_path):
    (tmp_path / "a.csv").write_text("valence,arousal\n" + "0.1,0.1\n" * 9)
    root = manifest(a={"crops": crops(range(1, 7)), "labels": "a.csv", "partition": "train"})

    def doctor(*more):
        args = ["doctor", "--dataset", "manifest", "--root", str(root), "--quiet", "--json", *more]
        result = CliRunner().invoke(cli.app, args)
        found = {f["check"]: f for f in json.loads(result.stdout)["findings"]}
        return result.exit_code, found

    code, found = doctor()
    assert (code, found["crops"]["severity"]) == (1, "fault")
    assert "crops alone need --fps" in found["crops"]["detail"]
    code, found = doctor("--fps", "25")
    assert code == 0
    assert {k: f["severity"] for k, f in found.items()} == {
        "nominal-clock": "warning",
        "no-audio": "warning",
        "label-rows": "warning",
    }
    assert found["label-rows"]["detail"].startswith("9 label rows, crops up to frame 6")
    given = {"dataset": "manifest", "root": root, "cache": tmp_path / "none"}
    forecast = run_plan(extract_recipe({**given, "visual": ["brightness"], "audio": [], "text": []}))
    assert (forecast.frames, forecast.unreadable) == (6, 0)
    args = ["extract", "--dataset", "manifest", "--root", str(root), "--cache", str(tmp_path / "cache"), "--fps", "25"]
    args += ["--visual", "brightness", "--audio", "none", "--text", "none", "--quiet"]
    assert CliRunner().invoke(cli.app, args).exit_code == 0
