"""One recording as one picture: what is gathered is what is there, and what is missing is said, not fatal."""

import json
from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from cache.errors import CacheError, UsageError
from cache.ids import folder_of
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.store import FeatureCache
from extract.blocks import TimedText
from extract.datasets import open_dataset
from extract.inspect import THUMBNAILS, gather
from extract.inspect_panels import ACROSS_IN, LEFT_IN
from extract.inspect_plot import notes, plot_recording
from extract.media import VideoFile

PTS = 0.5 + np.r_[np.arange(60) / 25, 2.9 + np.arange(60) / 25]  # half a second between two halves
VISUAL, AUDIO, TEXT = (0x00, 0x9E, 0x73), (0xCC, 0x79, 0xA7), (0xE6, 0x9F, 0x00)
NAME = "odd $x_1$ [b]"


@pytest.fixture
def cache(tmp_path):
    """Three streams: all there but ten frames, not extracted, and of a name too long for its place."""
    cache = FeatureCache.create(tmp_path / "cache", "manifest")
    cache.timelines.write(NAME, Timeline(PTS, PTS[-1] + 0.04), {"clock": "container"})
    present = np.arange(120) >= 10
    for name, modality in (("swin", "visual"), ("hubert", "audio"), ("roberta-of-a-very-long-name", "text")):
        spec = cache.declare(name, modality, 2, {"encoder": name}, {})
        if name != "hubert":
            cache.write(spec.key, NAME, Aligned(np.ones((120, 2), np.float32), present))
    va = np.stack([np.sin(PTS), np.cos(PTS)], 1).astype(np.float32)
    labels = Labels(np.where(present[::-1, None], va, 0), present[::-1])
    cache.labels.write("abaw", {NAME: labels}, Partitions({NAME: "test"}))
    return cache


@pytest.fixture
def corpus(tmp_path, media):
    """Its media: pictures that get brighter, a second of sound at half scale and one of silence, three cues."""
    sound = np.zeros(32_000, np.float32)
    sound[:16_000] = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    media(tmp_path / "v.mp4", PTS, picture=lambda i: np.full((64, 96, 3), 20 + i, np.uint8)[:, :64], sound=sound)
    cues = ("1.0 1.4 one", "1.5 1.6 $\\frac{", "3.0 3.1 情感")
    text = "".join(
        f"{i}\n00:00:0{a}00 --> 00:00:0{b}00\n{word}\n\n"
        for i, (a, b, word) in enumerate((c.replace(".", ",").split(" ") for c in cues), 1)
    )
    (tmp_path / "w.srt").write_text(text)
    (tmp_path / "manifest.csv").write_text(f"id,video,transcript\n{NAME},v.mp4,w.srt\n")
    return open_dataset("manifest", tmp_path / "manifest.csv", {})


def test_the_picture_at_a_time_is_the_frame_on_screen_then(corpus, tmp_path):
    times = [0.5, 0.55, 1.0, 2.9, 3.1, 3.41, PTS[-1] + 0.03, 0.5]
    frames = np.searchsorted(PTS, np.add(times, 1e-4), "right") - 1
    found = [float(p.mean()) for p in VideoFile(tmp_path / "v.mp4").shown_at(times)]
    np.testing.assert_allclose(found, 20 + frames, atol=3)
    assert len(set(frames)) > 5


def test_all_that_is_there_is_gathered(cache, corpus):
    shown = gather(cache, NAME, corpus)
    assert shown.missing == []
    assert len(shown.at) == THUMBNAILS
    bright = [float(p.mean()) for p in shown.pictures["frames"]]
    np.testing.assert_allclose(bright, 20 + np.searchsorted(PTS, shown.at), atol=3)
    times, level = shown.level
    assert level[(times > 0.1) & (times < 0.9)] == pytest.approx(20 * np.log10(0.5 / 2**0.5), abs=1)
    assert level[(times > 1.2) & (times < 1.8)].max() < -60
    assert [u.text for u in shown.words] == ["one", "$\\frac{", "情感"]
    assert [m for m, _ in shown.streams.values()] == ["visual", "audio", "text"]
    (_, swin), (_, hubert), _ = shown.streams.values()
    assert (swin.sum(), hubert) == (110, None)
    assert shown.labels["abaw"].labelled.sum() == 110
    assert shown.partitions == {"abaw": "test"}


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_a_picture_of_everything_holds_the_streams_colours_where_they_are_present(cache, corpus, tmp_path):
    plot_recording(tmp_path / "new" / "a.png", gather(cache, NAME, corpus))
    pixels = pixels_of(tmp_path / "new" / "a.png")
    height, width, _ = pixels.shape
    assert width == 1540
    assert height < 1200
    for colour in (VISUAL, AUDIO, TEXT, (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0xDD, 0xDD, 0xDD)):
        assert (pixels == colour).all(axis=2).any(), colour
    green = np.flatnonzero((pixels == VISUAL).all(axis=2).any(axis=0))
    left, right = (LEFT_IN * 140, (LEFT_IN + ACROSS_IN) * 140)
    first = left + (PTS[10] - PTS[0]) / (PTS[-1] + 0.04 - PTS[0]) * (right - left)
    assert green[0] == pytest.approx(first, abs=2), "the bar begins with the first present frame"
    assert green[-1] == pytest.approx(right, abs=2)
    plot_recording(tmp_path / "b.png", gather(cache, NAME))
    assert not (pixels_of(tmp_path / "b.png") == AUDIO).all(axis=2).any(), "no sound, and hubert is not extracted"


def test_a_file_that_is_no_picture_is_refused(cache, tmp_path):
    with pytest.raises(UsageError, match=r"a\.docx is no name of a picture"):
        plot_recording(tmp_path / "a.docx", gather(cache, NAME))


def test_words_that_a_recogniser_heard_are_shown_where_there_is_no_transcript(cache, corpus, tmp_path):
    for name, word in (("whisper-b", "second"), ("whisper-a", "first")):
        folder = cache.root / "transcripts" / name
        folder.mkdir(parents=True)
        segments = [{"start": 1.0, "end": 2.0, "text": word}]
        (folder / f"{folder_of(NAME)}.json").write_text(json.dumps({"segments": segments}))
    shown = gather(cache, NAME)
    assert ([u.text for u in shown.words], shown.heard_by) == (["first"], "whisper-a")
    assert any("whisper-b" in m for m in shown.missing)
    plot_recording(tmp_path / "a.png", shown)
    shown = gather(cache, NAME, corpus)
    assert (shown.words[0].text, shown.heard_by) == ("one", "")


def test_letters_that_no_font_has_are_said(cache):
    shown = replace(gather(cache, NAME), words=[TimedText("plain \u00e4", 1.0, 1.5)])
    assert notes(shown) == shown.missing
    shown.words.append(TimedText("\ue83a", 2.0, 2.5))  # of private use: no font has it
    assert notes(shown)[-1].startswith("letters that no font here has, drawn as boxes: 1;")


def test_what_is_too_much_to_be_seen_is_thinned_out_and_said(tmp_path, cache):
    """Half an hour: sound by column, words counted, a mask that flickers as a shade; drawn, not left out."""
    frames = 45_000
    present = np.arange(frames) % 2 == 0
    flicker = {"roberta-1": ("text", present), "swin-1": ("visual", present)}
    shown = replace(
        gather(cache, NAME),
        timeline=Timeline(np.arange(frames) / 25, frames / 25),
        streams=flicker,
        labels={},
        level=(np.arange(90_000) * 0.02, np.where(np.arange(90_000) == 44_000, -3.0, -100.0)),
        words=[TimedText(f"word{i}", i * 0.36, i * 0.36 + 0.2) for i in range(5000)],
    )
    plot_recording(tmp_path / "a.png", shown)
    pixels = pixels_of(tmp_path / "a.png")
    half = np.rint((np.array(VISUAL) + 0xEE) / 2)
    assert (np.abs(pixels - half).max(axis=2) <= 3).sum() > 10_000, "half as strong as a stream that is all there"
    assert (pixels == AUDIO).all(axis=2).any(), "the only loud moment of half an hour is still seen"
    told = notes(shown)
    assert sum("thinned out" in line for line in told) == 3
    assert "swin-1" in " ".join(told)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts"])
def test_seeking_finds_the_same_frame_as_decoding_from_the_beginning(suffix, tmp_path):
    path = tmp_path / f"v.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "3", "g": "12"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(75):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 + 3 * i, np.uint8))))
        container.mux(stream.encode())
    video = VideoFile(path)
    every = [float(rgb.mean()) for block in video.blocks() for rgb in block.rgb]
    found = [float(p.mean()) for p in VideoFile(path).shown_at(video.timeline.pts)]
    assert len(every) == 75
    assert found == every


def test_without_the_corpus_the_cache_is_drawn_and_what_is_missing_is_said(cache, tmp_path):
    shown = gather(cache, NAME)
    assert "--root DIR" in shown.missing[0]
    plot_recording(tmp_path / "a.png", shown)
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_media_that_cannot_be_read_cost_their_own_panel_alone(cache, corpus, tmp_path):
    (tmp_path / "w.srt").unlink()
    shown = gather(cache, NAME, corpus)
    assert [m.split(":")[0] for m in shown.missing] == ["no words"]
    (tmp_path / "v.mp4").write_text("not a film")
    shown = gather(cache, NAME, corpus)
    assert [m.split(":")[0] for m in shown.missing] == ["no frames", "no sound", "no words"]
    plot_recording(tmp_path / "a.png", shown)


def test_a_frame_without_a_face_has_no_picture(cache, tmp_path):
    folder = tmp_path / "crops"
    folder.mkdir()
    for number in range(1, 61):
        Image.new("RGB", (20, 30), (number, 0, 0)).save(folder / f"{number:05}.png")
    (tmp_path / "manifest.csv").write_text(f"id,crops\n{NAME},crops\n")
    shown = gather(cache, NAME, open_dataset("manifest", tmp_path / "manifest.csv", {}))
    crops = shown.pictures["face crops"]
    there = [p is not None for p in crops]
    assert there == sorted(there, reverse=True)
    reds = [int(p[0, 0, 0]) for p in crops if p is not None]
    assert reds == [6, 17, 28, 39, 50, 60, 60], "the last one stays on screen for half a second"
    plot_recording(tmp_path / "a.png", shown)


def test_a_damaged_stream_and_a_recording_without_anything_are_drawn(cache, tmp_path):
    key = cache.stream_keys()[-1]
    (cache.folder(key, NAME) / "present" / "c" / "0").unlink()
    shown = gather(cache, NAME)
    assert key not in shown.streams
    assert any("missing" in m for m in shown.missing)
    cache.timelines.write("bare", Timeline([0.0], 0.04))
    bare = FeatureCache.create(tmp_path / "bare")
    bare.timelines.write("bare", Timeline([0.0], 0.04))
    plot_recording(tmp_path / "a.png", gather(bare, "bare"))
    assert len(gather(bare, "bare").at) == 1
    with pytest.raises(CacheError, match="did you mean 'bare'"):
        gather(cache, "bear")
