"""Overlays: what is drawn on a frame is of that frame's time, and picture and sound lie where they lay."""

from fractions import Fraction

import av
import numpy as np
import pytest

from cache.errors import DataError
from extract.media import VideoFile
from extract.overlay import draw_overlay, draw_overlays
from extract.overlay_panel import COLOURS, DIM, PAGE_S, Panel, pages
from extract.sound import SoundFile

SIZE = 384
UNEVEN = np.cumsum([0.85, *np.tile([0.02, 0.04, 0.07, 0.033], 15)])  # seconds; the film begins late


def trace(pts):
    """Traces that never come near each other."""
    return np.stack([0.5 + 0.2 * np.sin(pts), -0.5 + 0.2 * np.cos(pts)], 1)


def draw(path, out, pts=None):
    pts = VideoFile(path).read_times().pts if pts is None else pts
    draw_overlay(path, pts, trace(pts), out)
    return pts


def frames(path):
    """(times f64[T], frames u8[T,H,W,3])."""
    film = VideoFile(path)
    blocks = [np.stack(b.rgb) for b in film.blocks()]
    return film.timeline.pts, np.concatenate(blocks)


def sound(path):
    """(start in seconds, rate, samples)."""
    file = SoundFile(path)
    samples = np.concatenate([*file.pieces(), np.empty(0, np.float32)])
    return file.start, file.rate, samples


def cursor(frame, layout):
    """Middle of the upright line of a decoded frame, in pixels: what is darker than the same place a little aside."""
    row = frame[-layout.height + (layout.top + layout.bottom) // 2 - 4 : -layout.height + layout.bottom - 4]
    grey = row.astype(float).mean(axis=2)[:, layout.left - 8 : layout.right + 8]
    ink = np.clip(255 - np.median(grey, axis=0) - 60, 0, None)  # the line stands on every row, traces on a few
    return layout.left - 8 + np.average(np.arange(len(ink)), weights=ink)


def test_every_frame_keeps_its_time_and_shows_it(media, tmp_path):
    path = media(tmp_path / "a.mp4", UNEVEN, size=SIZE, sound=np.zeros(16_000 * 3, np.float32))
    pts = draw(path, tmp_path / "o.mp4")
    times, shown = frames(tmp_path / "o.mp4")
    assert len(times) == len(UNEVEN)
    np.testing.assert_allclose(times, pts, atol=1e-6)
    (layout,) = pages(pts, SIZE)
    for time, frame in zip(times, shown, strict=True):
        assert cursor(frame, layout) == pytest.approx(float(layout.x(time)), abs=1)


def test_the_picture_stays_as_it_was_above_the_panel(media, tmp_path):
    steps = [np.full((SIZE, SIZE, 3), v, np.uint8) for v in ((200, 30, 30), (30, 160, 60), (20, 40, 190))]
    path = media(tmp_path / "a.mp4", np.arange(30) / 25, picture=lambda i: steps[i // 10], size=SIZE)
    draw(path, tmp_path / "o.mp4")
    before, after = (frames(p)[1][5::10, 20:-180, 20:-20] for p in (path, tmp_path / "o.mp4"))
    before = before[:, : after.shape[1]]
    assert np.abs(before.astype(int) - after[:, : before.shape[1]].astype(int)).mean() < 4


@pytest.mark.parametrize(("start", "container"), [(0.0, "mp4"), (0.43, "mp4"), (2.4, "mkv")])
def test_sound_is_copied_and_keeps_its_place(media, tmp_path, start, container):
    beeps = np.sin(np.arange(16_000 * 2) * 0.3).astype(np.float32) * (np.arange(32_000) % 8000 < 2000)
    path = media(tmp_path / f"a.{container}", UNEVEN, sound=beeps, sound_start=start)
    draw(path, tmp_path / "o.mp4")
    was, now = sound(path), sound(tmp_path / "o.mp4")
    assert now[0] == pytest.approx(was[0], abs=1024 / 16_000)
    shift = round((was[0] - now[0]) * 16_000)
    a, b = was[2][max(-shift, 0) :][2048:20_000], now[2][max(shift, 0) :][2048:20_000]
    assert np.abs(a - b).max() < 0.02  # the same samples at the same times; one sample off would differ by 0.3


def test_sound_that_mp4_cannot_hold_is_coded_anew(tmp_path):
    path = tmp_path / "a.avi"
    beep = (np.abs(np.arange(16_000) - 8000) < 800) * np.sin(np.arange(16_000) * 0.5)
    with av.open(str(path), "w") as out:
        film, audio = out.add_stream("mpeg4", rate=25), out.add_stream("pcm_s16le", rate=16_000, layout="mono")
        film.width = film.height = 64
        film.pix_fmt = "yuv420p"
        for _ in range(25):
            out.mux(film.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), format="rgb24")))
        out.mux(film.encode(None))
        block = av.AudioFrame.from_ndarray((beep[None] * 20_000).astype(np.int16), format="s16", layout="mono")
        block.sample_rate, block.pts, block.time_base = 16_000, 0, Fraction(1, 16_000)
        out.mux([*audio.encode(block), *audio.encode(None)])
    draw(path, tmp_path / "o.mp4")
    start, rate, samples = sound(tmp_path / "o.mp4")
    loud = np.flatnonzero(np.abs(samples) > 0.2) / rate + start
    assert (loud.min() + loud.max()) / 2 == pytest.approx(0.5, abs=0.01)
    with av.open(str(tmp_path / "o.mp4")) as made:
        assert made.streams.audio[0].codec.canonical_name == "aac"


def test_a_turned_film_stands_upright(media, tmp_path):
    def half(i):
        rgb = np.full((SIZE, SIZE, 3), 20, np.uint8)
        rgb[: SIZE // 2] = 220
        return rgb

    plain, path = media(tmp_path / "p.mp4", np.arange(6) / 25, picture=half, size=SIZE), tmp_path / "a.mp4"
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90)
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    upright = frames(path)[1][3]
    draw(path, tmp_path / "o.mp4")
    shown = frames(tmp_path / "o.mp4")[1][3]
    assert np.abs(shown[:SIZE].astype(int) - upright).mean() < 4
    assert abs(int(upright[:, :100].mean()) - int(upright[:, -100:].mean())) > 100  # it is turned at all


@pytest.mark.parametrize(("turn", "shape"), [(0, (320, 640)), (90, (640, 320))])
def test_pixels_that_are_not_square_are_shown_as_they_are_meant(tmp_path, turn, shape):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        film = out.add_stream("libx264", rate=25)
        film.width = film.height = 320
        film.pix_fmt, film.codec_context.sample_aspect_ratio = "yuv420p", Fraction(2, 1)
        film.set_display_rotation(turn)
        for _ in range(5):
            out.mux(film.encode(av.VideoFrame.from_ndarray(np.full((320, 320, 3), 90, np.uint8), format="rgb24")))
        out.mux(film.encode(None))
    draw(path, tmp_path / "o.mp4")
    shown = frames(tmp_path / "o.mp4")[1][0]
    panel = Panel(np.zeros(1), np.zeros((1, 2)), shape[1]).height
    assert shown.shape == (shape[0] + panel, shape[1], 3)


def test_small_odd_and_silent_films_are_drawn(media, tmp_path):
    path = media(tmp_path / "a.mp4", np.array([0.0]))
    draw(path, tmp_path / "o.mp4")
    assert frames(tmp_path / "o.mp4")[1].shape[1:] == (64 + Panel(np.zeros(1), np.zeros((1, 2)), 320).height, 320, 3)
    assert not len(sound(tmp_path / "o.mp4")[2])


@pytest.mark.parametrize("pts", [np.arange(9) / 25, np.arange(11) / 25, np.arange(10) / 24])
def test_predictions_of_another_film_are_not_drawn(media, tmp_path, pts):
    path = media(tmp_path / "a.mp4", np.arange(10) / 25)
    with pytest.raises(DataError, match="other frames"):
        draw(path, tmp_path / "o.mp4", pts)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_film_is_never_written_over_and_the_others_go_on(media, tmp_path):
    pts = np.arange(10) / 25
    a, b = (media(tmp_path / n, pts) for n in ("a.mp4", "b.mp4"))
    before = a.read_bytes()
    drawn, failed = draw_overlays({"a": (a, pts, trace(pts)), "other": (b, pts, trace(pts))}, tmp_path, quiet=True)
    assert drawn == [str(tmp_path / "other.mp4")]
    assert "is the film itself" in failed["a"]
    assert a.read_bytes() == before


def test_long_recordings_turn_pages_and_no_frame_falls_between():
    times = np.arange(0, 200, 0.5) + 7
    panel = Panel(times, trace(times), 640)
    assert len(panel.pages) == 4
    for i, time in enumerate(times):
        page = panel.pages[panel.page_of(i)]
        assert page.begin <= time < page.begin + PAGE_S
    assert len(pages(times[:150], 640)) == 1


def test_what_was_is_in_full_colour_and_what_comes_is_faded():
    times = np.arange(0, 10, 0.04)
    panel = Panel(times, np.tile([0.5, -0.5], (len(times), 1)), 640)
    layout, shown = panel.pages[0], panel.at(125)
    for value, colour in zip((0.5, -0.5), COLOURS, strict=True):
        row = shown[round(float(layout.y(value))) - 1 :][:2].min(axis=0).astype(int)  # the line is two pixels wide
        past, coming = row[layout.left + 20], row[layout.right - 20]
        assert np.abs(past - colour).max() < 40
        assert coming.min() > past.min() + 80
    x = round(float(layout.x(times[125])))
    assert np.abs(shown[(layout.top + layout.bottom) // 2 + 6, x].astype(int) - DIM).max() < 60


def test_the_point_goes_right_with_valence_and_up_with_arousal():
    times = np.arange(50) / 25

    def point(v, a):
        panel = Panel(times, np.tile([v, a], (50, 1)), 640)
        side = panel.at(49)[:, -panel.height :].astype(int).sum(axis=2)
        rows, columns = np.nonzero(side < 200)
        return columns.mean() - panel.height / 2, panel.height / 2 - rows.mean()

    for v, a in ((0.8, 0.6), (-0.8, 0.6), (-0.5, -0.7), (0.5, -0.7)):
        right, up = point(v, a)
        assert np.sign(right) == np.sign(v)
        assert np.sign(up) == np.sign(a)
        assert right / up == pytest.approx(v / a, rel=0.1)
