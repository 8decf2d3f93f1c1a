"""Times, frames and sound are what the container says."""

import av
import numpy as np
import pytest

from cache.errors import DataError, MissingData
from cache.records import Timeline
from extract.crops import crop_blocks
from extract.media import VideoFile
from extract.sound import read_waveform

VFR = np.cumsum([0.0, *np.random.default_rng(0).uniform(0.014, 0.12, 90)])
CFR = np.arange(50) / 25


def container_times(path):
    with av.open(str(path)) as container:
        return np.array([f.time for f in container.decode(video=0)])


def beep(seconds, rate=16_000, at=0.0, length=None):
    t = np.arange(round(seconds * rate)) / rate
    on = (t >= at) & (t < at + (length or seconds))
    return (0.5 * np.sin(2 * np.pi * 440 * t) * on).astype(np.float32)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_pitfall_1_variable_frame_rate_keeps_container_times(media, tmp_path, suffix):
    path = media(tmp_path / f"vfr{suffix}", VFR)
    times = VideoFile(path).read_times()
    assert len(times) == len(VFR)
    np.testing.assert_allclose(times.pts, container_times(path), atol=1e-9)
    np.testing.assert_allclose(times.pts, VFR, atol=1e-3)
    by_index = np.arange(len(VFR)) / VideoFile(path).info.get("fps", 25)
    assert np.abs(by_index - VFR).max() > 0.1  # what index / fps would have said


def test_blocks_carry_each_frame_with_its_own_span(media, tmp_path):
    path = media(tmp_path / "a.mp4", VFR, picture=lambda i: np.full((64, 64, 3), (i * 2) % 256, np.uint8))
    video = VideoFile(path)
    blocks = list(video.blocks(size=16))
    assert [len(b.rgb) for b in blocks] == [16, 16, 16, 16, 16, 11]
    spans = np.concatenate([b.spans for b in blocks])
    edges = video.timeline.edges
    assert np.array_equal(spans, np.stack([edges[:-1], edges[1:]], 1))
    grey = [f.mean() for b in blocks for f in b.rgb]
    assert np.abs(np.array(grey) - (np.arange(91) * 2) % 256).max() < 6


def test_pitfall_2_a_video_that_starts_late_keeps_the_containers_clock(media, tmp_path):
    path = media(tmp_path / "late.mkv", CFR + 0.85, sound=beep(2.5, at=1.0, length=0.2))
    assert VideoFile(path).read_times().pts[0] == pytest.approx(0.85, abs=1e-3)
    sound = read_waveform(path, 16_000)
    loud = np.flatnonzero(np.abs(sound.samples) > 0.2) / sound.rate + sound.start
    assert loud[0] == pytest.approx(1.0, abs=0.01)


def test_pitfall_2_sound_that_starts_late_keeps_the_containers_clock(media, tmp_path):
    path = media(tmp_path / "late.mp4", CFR, sound=beep(1.0, at=0.5, length=0.2), sound_start=0.6)
    sound = read_waveform(path, 16_000)
    loud = np.flatnonzero(np.abs(sound.samples) > 0.2) / sound.rate + sound.start
    assert loud[0] == pytest.approx(1.1, abs=0.01)
    assert loud[-1] == pytest.approx(1.3, abs=0.02)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_sound_of_any_rate_keeps_its_time_at_16_khz(media, tmp_path, rate):
    path = media(tmp_path / "a.mkv", CFR, sound=beep(2.0, rate, at=1.5, length=0.25), rate=rate)
    sound = read_waveform(path, 16_000)
    loud = np.flatnonzero(np.abs(sound.samples) > 0.2) / 16_000 + sound.start
    assert loud[0] == pytest.approx(1.5, abs=0.012)
    assert loud[-1] == pytest.approx(1.75, abs=0.012)


def test_a_hole_in_the_sound_does_not_pull_later_sound_forward(tmp_path):
    path = tmp_path / "hole.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for start in (0, 32_000):  # 1 s of sound, 1 s missing, 1 s of sound
            for at in range(0, 16_000, 1_000):
                frame = av.AudioFrame.from_ndarray(np.full((1, 1000), 8000, np.int16), format="s16", layout="mono")
                frame.sample_rate, frame.pts = 16_000, start + at
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    sound = read_waveform(path, 16_000)
    assert len(sound.samples) == pytest.approx(48_000, abs=400)
    assert (np.abs(sound.samples[17_000:31_000]) < 1e-6).all()
    assert (sound.samples[33_000:47_000] > 0.2).all()


def test_pitfall_29_no_sound_is_none_not_silence(media, tmp_path):
    assert read_waveform(media(tmp_path / "mute.mp4", CFR), 16_000) is None


def test_sound_without_picture_is_an_error_for_video(tmp_path, media):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
    with pytest.raises(DataError, match="has no video stream"):
        VideoFile(path).read_times()


def test_the_larger_of_two_video_streams_is_taken_and_named(tmp_path):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = []
        for size, frames in ((64, 10), (128, 14)):
            stream = container.add_stream("libx264", rate=25)
            stream.width = stream.height = size
            streams.append((stream, size, frames))
        for stream, size, frames in streams:
            for _ in range(frames):
                picture = np.zeros((size, size, 3), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    video = VideoFile(path)
    assert len(video.read_times()) == 14
    assert video.info["stream"] == 1


def test_pitfall_30_unreadable_files_say_why_in_one_line(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("this is not a film\n" * 50)
    for name, cause in (("empty.mp4", "the file is empty"), ("text.mp4", "invalid data")):
        with pytest.raises(DataError, match=cause) as error:
            VideoFile(tmp_path / name).read_times()
        assert "\n" not in str(error.value)
    with pytest.raises(MissingData, match="no media file at"):
        VideoFile(tmp_path / "none.mp4").read_times()


def test_pitfall_6_the_decoded_count_is_the_truth(media, tmp_path):
    path = media(tmp_path / "cut.mkv", np.arange(200) / 25)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    times = VideoFile(path).read_times()
    assert 10 < len(times) < 200
    np.testing.assert_allclose(times.pts, np.arange(len(times)) / 25, atol=2e-3)


def test_one_frame_is_a_recording(media, tmp_path):
    times = VideoFile(media(tmp_path / "one.mp4", CFR[:1])).read_times()
    assert len(times) == 1
    assert times.end > times.pts[0]


def test_pitfall_8_crops_belong_to_the_frame_of_their_number(tmp_path):
    from PIL import Image

    for number in (1, 2, 5, 10, 99):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / f"{number:05d}.png")
    (tmp_path / "notes.txt").write_text("not a crop")
    timeline = Timeline(np.arange(10) / 25, 10 / 25)
    (block,) = crop_blocks(tmp_path, timeline)
    assert [int(p[0, 0, 0]) for p in block.rgb] == [1, 2, 5, 10]
    np.testing.assert_allclose(block.spans[:, 0], np.array([0, 1, 4, 9]) / 25)


def test_pitfall_5_times_that_do_not_increase_keep_every_frame(media, tmp_path, monkeypatch):
    path = media(tmp_path / "a.mp4", CFR)
    video = VideoFile(path)
    times = iter([0.0, 0.04, 0.04, 0.02, 0.12, None, 0.2])
    monkeypatch.setattr("extract.media._shown_at", lambda frame: next(times, frame.time))
    timeline = video.read_times()
    assert len(timeline) == 50
    assert (np.diff(timeline.pts) > 0).all()
    np.testing.assert_allclose(timeline.pts[:7], [0, 0.04, 0.04, 0.04, 0.12, 0.12, 0.2], atol=5e-6)
    assert video.info["repaired_times"] == 3


def test_damaged_packets_are_counted_and_the_rest_is_read(media, tmp_path):
    path = media(tmp_path / "a.mkv", np.arange(200) / 25, picture=lambda i: _noise(i))
    data = bytearray(path.read_bytes())
    spots = np.random.default_rng(0).integers(len(data) // 4, len(data) - 2000, 200)
    for spot in spots:
        data[spot] ^= 0xFF
    path.write_bytes(bytes(data))
    video = VideoFile(path)
    times = video.read_times()
    assert 50 < len(times) <= 200
    assert (np.diff(times.pts) > 0).all()
    assert "damaged_packets" in video.info


def _noise(seed):
    return np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8)
