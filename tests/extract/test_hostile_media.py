"""One corpus of files as they are found in the wild and worse, one run over it: each has its declared outcome.

``CASES`` is the table: what the file is, how many frames are committed and how much of its sound, what the user is
told, or the cause of the failure. Every picture is of one grey and every sound of one loudness, so that what was
decoded can be checked by its value, whatever it was packed in.
"""

import csv
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

import cli
from cache.records import Recording
from cache.store import FeatureCache
from extract.media import VideoFile
from extract.sizes import size_of

RATE = 16_000
T = 25  # frames of a healthy film, one second
CFR = np.arange(T) / 25
GREY, LOUD = 128, 0.5 * 2 / np.pi  # mean of every picture (of 255), mean absolute value of every sound


# -- writing -----------------------------------------------------------------------------------------------------------


def grey(i: int, width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def noisy(i: int, width: int, height: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (height, width, 3), np.uint8)


@dataclass(frozen=True)
class Sound:
    """A tone of so many seconds."""

    seconds: float = 1.0
    start: float = 0.0
    rate: int = RATE
    codec: str = "pcm_s16le"
    layout: str = "mono"
    format: str = "s16"


@dataclass(frozen=True)
class Picture:
    """Frames shown at pts (s). stamp(number, ticks): other ticks to write than a frame's own."""

    pts: np.ndarray = field(default_factory=lambda: CFR)
    codec: str = "libx264"
    pixels: str = "yuv420p"
    size: tuple[int, int] = (64, 48)
    turn: int = 0
    paint: Callable[[int, int, int], np.ndarray] = grey
    ticks: int = 90_000
    stamp: Callable[[int, int], int] | None = None


FAST = {
    "libx264": {"preset": "ultrafast", "bf": "0", "g": "6"},
    "h264": {"bf": "3", "g": "12"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=error"},
    "libvpx-vp9": {"cpu-used": "8", "deadline": "realtime"},
    "mpeg2video": {"flags": "+ilme+ildct"},
}


def write(path: Path, *streams: Picture | Sound, **options: str) -> Path:
    with av.open(str(path), "w", options=options) as container:
        made = [(s, _declare(container, s)) for s in streams]
        container.start_encoding()
        for stream, out in made:
            (_show if isinstance(stream, Picture) else _play)(container, out, stream)
    return path


def _declare(container, wanted):
    if isinstance(wanted, Sound):
        return container.add_stream(wanted.codec, rate=wanted.rate, layout=wanted.layout, format=wanted.format)
    out = container.add_stream(wanted.codec, rate=25, options=FAST.get(wanted.codec, {}))
    out.width, out.height = wanted.size
    out.pix_fmt = wanted.pixels
    out.time_base = out.codec_context.time_base = Fraction(1, wanted.ticks)
    if wanted.turn:
        out.set_display_rotation(wanted.turn)
    return out


def _show(container, out, wanted):
    packets = []
    for i, time in enumerate(wanted.pts):
        frame = av.VideoFrame.from_ndarray(wanted.paint(i, *wanted.size), format="rgb24")
        frame.pts, frame.time_base = round(time * wanted.ticks), Fraction(1, wanted.ticks)
        packets += out.encode(frame.reformat(format=wanted.pixels))
    for number, packet in enumerate([*packets, *out.encode(None)]):
        if wanted.stamp:
            packet.pts, packet.dts = wanted.stamp(number, packet.pts), number
        container.mux_one(packet)


def _play(container, out, wanted):
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[wanted.layout]
    t = np.arange(round(wanted.seconds * wanted.rate)) / wanted.rate
    tone = np.tile(0.5 * np.sin(2 * np.pi * 500 * t), (channels, 1)).astype(np.float32)
    to = av.AudioResampler(format=wanted.format, layout=wanted.layout, rate=wanted.rate)
    for at in range(0, len(t), 1024):
        frame = av.AudioFrame.from_ndarray(tone[:, at : at + 1024].copy(), format="fltp", layout=wanted.layout)
        frame.sample_rate, frame.time_base = wanted.rate, Fraction(1, wanted.rate)
        frame.pts = round(wanted.start * wanted.rate) + at
        for piece in to.resample(frame):
            container.mux(out.encode(piece))
    container.mux(out.encode(None))


# -- files that need more than streams ---------------------------------------------------------------------------------


def cut(path: Path, *streams: Picture | Sound, **options: str) -> None:
    """The front part of a file."""
    whole = write(path, *streams, **options).read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])


def overwritten(path: Path, *streams: Picture | Sound, every: int = 997) -> None:
    """Damage in the middle of a file."""
    data = bytearray(write(path, *streams).read_bytes())
    for at in range(len(data) // 3, 2 * len(data) // 3, every):
        data[at] ^= 0xFF
    path.write_bytes(bytes(data))


def lying(path: Path) -> None:
    """An mp4 whose headers say that it lasts a hundred times as long."""
    data = bytearray(write(path, Picture()).read_bytes())
    for box, at in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):
        place = data.index(box) + at
        data[place : place + 4] = (int.from_bytes(data[place : place + 4], "big") * 100).to_bytes(4, "big")
    path.write_bytes(bytes(data))


def miscounting(path: Path, frames: int = 9999) -> None:
    """An avi whose headers say that it has so many frames, and 100 of them a second."""
    data = bytearray(write(path, Picture(codec="mpeg4", ticks=25)).read_bytes())
    main, stream = data.index(b"avih") + 8, data.index(b"strh") + 8
    for place in (main + 16, stream + 32):
        data[place : place + 4] = frames.to_bytes(4, "little")
    data[main : main + 4] = (10_000).to_bytes(4, "little")
    path.write_bytes(bytes(data))


def with_cover(path: Path, *streams: Picture | Sound) -> None:
    """A cover picture, larger than the film, beside the streams."""
    with av.open(str(path), "w") as container:
        made = [(s, _declare(container, s)) for s in streams]
        cover = Picture(CFR[:1], "mjpeg", "yuvj420p", (640, 640), ticks=25)
        out = _declare(container, cover)
        out.disposition = av.stream.Disposition.attached_pic
        _show(container, out, cover)
        for stream, out in made:
            (_show if isinstance(stream, Picture) else _play)(container, out, stream)


def with_subtitles(path: Path) -> None:
    words = path.with_suffix(".srt")
    words.write_text("1\n00:00:00,000 --> 00:00:00,500\nhello\n")
    with av.open(str(words)) as source, av.open(str(path), "w") as container:
        out = _declare(container, Picture())
        copy = container.add_stream_from_template(source.streams.subtitles[0])
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copy
                container.mux_one(packet)
        _show(container, out, Picture())


# -- the table ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """make(path) writes the file. frames: that are committed, 0 for none.

    sound: the frames that have some: all, some or none. told: words of a note or of the failure. stage: of the failure,
    if it is one. noise: values are not checked. doctor: its checks beside no-audio. column: of
    the manifest; beside: a healthy film is its video.
    """

    name: str
    make: Callable[[Path], object]
    frames: int = T
    sound: str = "none"
    told: str = ""
    stage: str = ""
    doctor: tuple[str, ...] = ()
    column: str = "video"
    beside: bool = False
    noise: bool = False


def good(name: str, *streams: Picture | Sound, **more) -> Case:
    return Case(name, lambda path: write(path, *streams), **more)


def heard(name: str, tone: Sound, **more) -> Case:
    return good(name, Picture(), tone, **{"sound": "all", **more})


def bad(name: str, make, told: str, **more) -> Case:
    return Case(name, make, 0, **{"told": told, "stage": "media", "doctor": ("media",), **more})


AAC, MP3 = Sound(codec="aac", format="fltp"), Sound(codec="libmp3lame", format="s16p", rate=44_100)
NOISE = Picture(paint=noisy)
VFR = np.cumsum([0.0, *np.random.default_rng(0).uniform(0.014, 0.12, T - 1)])
CASES = [
    heard("healthy.mp4", AAC),
    bad("empty.mp4", lambda p: p.write_bytes(b""), "the file is empty"),
    bad("text.mp4", lambda p: p.write_text("this is no film\n" * 99), "invalid data"),
    bad("noise.mp4", lambda p: p.write_bytes(np.random.default_rng(0).bytes(9999)), "invalid data"),
    bad("playlist.mp4", lambda p: p.write_text("#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/x.ts\n"), "invalid data"),
    bad("no index.mp4", lambda p: cut(p, NOISE), "invalid data"),
    bad("folder.mp4", lambda p: p.mkdir(), "it is not a file"),
    bad("pipe.mp4", os.mkfifo, "it is not a file"),
    bad("link to nowhere.mp4", lambda p: p.symlink_to("gone.mp4"), "no media file at"),
    bad("sound alone.mp4", lambda p: write(p, AAC), "has no video stream"),
    bad("cover.mp3", lambda p: with_cover(p, MP3), "has no video stream"),
    bad("no times.h264", lambda p: write(p, Picture()), "25 of 25 frames carry no time"),
    bad(
        "joined.mkv",
        lambda p: write(p, Picture(CFR * 8, "mjpeg", "yuvj420p", stamp=lambda n, t: t % 400_000 + 100)),
        "after one at 4.",
    ),
    bad("no sound.wav", lambda p: write(p, Sound(0.0)), "has neither picture nor sound", column="audio"),
    bad("text.wav", lambda p: p.write_text("no sound\n" * 99), "invalid data", column="audio"),
    Case("bad sound.wav", lambda p: p.write_text("?"), T, "absent", "invalid data", "audio", ("media",), "audio", True),
    Case("cut off.mkv", lambda p: cut(p, NOISE), 14, told="its header says 1.0 s", doctor=("cut-off",), noise=True),
    Case(
        "cut off.avi",
        lambda p: cut(p, Picture(paint=noisy, codec="mpeg4", ticks=25)),
        8,
        told="its header says 1.0 s",
        doctor=("cut-off", "damaged-frames"),
        noise=True,
    ),
    Case(
        "overwritten.mkv", lambda p: overwritten(p, NOISE), told="are damaged", doctor=("damaged-frames",), noise=True
    ),
    Case(
        "spoilt packets.mkv",
        lambda p: overwritten(p, Picture(paint=noisy, codec="ffv1", ticks=25)),
        24,
        told="1 damaged packets",
        doctor=("damaged-media", "variable-rate"),
        noise=True,
    ),
    Case(
        "spoilt sound.mkv",
        lambda p: overwritten(p, AAC, every=97),
        6,
        "all",
        told="its header says 1.1 s of sound, it ends at 0.3 s",
        doctor=("damaged-media", "nominal-clock"),
        column="audio",
        noise=True,
    ),
    Case("lying.mp4", lying),
    Case("miscounting.avi", miscounting, told="its header says", doctor=("cut-off",)),
    good("mute.mp4", Picture()),
    heard("sound that ends early.mkv", Sound(0.4), sound="some", doctor=("short-audio",)),
    heard("sound that goes on.mkv", Sound(3.0)),
    heard("sound that starts late.mkv", Sound(0.5, 0.5), sound="some", doctor=("late-start", "short-audio")),
    good("picture that starts late.mkv", Picture(CFR + 0.85), Sound(3.0), sound="all", doctor=("late-start",)),
    good(
        "variable rate.mp4",
        Picture(VFR),
        Sound(3.0, codec="aac", format="fltp"),
        sound="all",
        doctor=("variable-rate",),
    ),
    *[good(f"turned {turn}.mp4", Picture(turn=turn)) for turn in (90, 180, 270)],
    good("10 bits.mkv", Picture(codec="libx265", pixels="yuv420p10le")),
    good("16 bits.mkv", Picture(codec="ffv1", pixels="yuv444p16le")),
    good("shades of grey.mkv", Picture(codec="ffv1", pixels="gray")),
    good("odd sides.mkv", Picture(codec="ffv1", size=(63, 47))),
    good("16 by 16.mp4", Picture(size=(16, 16))),
    heard("5.1.mkv", Sound(layout="5.1", codec="ac3", format="fltp", rate=48_000)),
    *[heard(f"{rate} hz.mkv", Sound(rate=rate)) for rate in (8_000, 11_025, 44_100, 48_000, 96_000)],
    heard("8 bits.mkv", Sound(codec="pcm_u8", format="u8")),
    heard("32 bits.mkv", Sound(codec="pcm_s32le", format="s32")),
    heard("flac.mkv", Sound(codec="flac", rate=48_000)),
    good("opus.webm", Picture(codec="libvpx-vp9"), Sound(codec="libopus", rate=48_000), sound="all"),
    good("alone.wav", Sound(), column="audio", sound="all", told="25 a second over", doctor=("nominal-clock",)),
    good("alone.mp3", MP3, column="audio", sound="all", told="frames are nominal", doctor=("nominal-clock",)),
    good("one frame.mp4", Picture(CFR[:1]), frames=1),
    heard("sound of no length.mp4", Sound(0.0, codec="aac", format="fltp"), sound="none"),
    good("two films.mkv", Picture(CFR[:9]), Picture(size=(128, 96))),
    Case("cover.mp4", lambda p: with_cover(p, Picture(size=(32, 32)))),
    good("two sounds.mkv", Picture(), Sound(0.3, rate=8_000), Sound(layout="stereo"), sound="all"),
    Case("subtitles.mkv", with_subtitles),
    good(
        "times that fall back.mkv",
        Picture(codec="mjpeg", pixels="yuvj420p", stamp=lambda n, t: t + 90 - 9_000 * (n in (5, 11))),
        told="2 frame times did not increase",
        doctor=("frame-times", "variable-rate"),
    ),
    good("times below zero.mkv", Picture(CFR - 0.2)),
    good("edit list.mp4", Picture(CFR - 0.2), frames=20),
    good(
        "an hour missing.mkv",
        Picture(np.r_[CFR[:10], CFR[10:] + 3600]),
        told="one picture stays for 3600 s",
        doctor=("long-frame", "variable-rate"),
    ),
    good("pictures out of order.avi", Picture(codec="h264", ticks=25)),
    good("motion.avi", Picture(codec="mjpeg", pixels="yuvj420p", ticks=25)),
    good("interlaced.mkv", Picture(codec="mpeg2video", ticks=25)),
    good("picture.gif", Picture(codec="gif", pixels="rgb8", ticks=100)),
    good("see through.webm", Picture(codec="libvpx-vp9", pixels="yuva420p")),
    good("professional.mov", Picture(codec="prores_ks", pixels="yuv422p10le")),
    good("broadcast.ts", Picture()),
    good("new\nline, 100 % ü 日本 %20%s.mp4", Picture()),
    good("x" * 236 + ".mp4", Picture()),
    good("a/same name.mp4", Picture()),
    good("b/same name.mp4", Picture(CFR[:9]), frames=9),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """All cases as files, and their manifest."""
    root, rows = tmp_path_factory.mktemp("hostile"), []
    write(root / "film.mkv", Picture())
    for case in CASES:
        path = root / case.name
        path.parent.mkdir(exist_ok=True)
        case.make(path)
        row = {"id": case.name, case.column: case.name, "partition": "train"}
        rows.append(json.dumps(row | ({"video": "film.mkv"} if case.beside else {})))
    if os.geteuid():
        write(root / "locked.mp4", Picture()).chmod(0)
        rows.append(json.dumps({"id": "locked.mp4", "video": "locked.mp4", "partition": "train"}))
    (root / "manifest.jsonl").write_text("\n".join(rows))
    return root


def command(name, corpus, *more):
    return CliRunner().invoke(cli.app, [name, "--dataset", "manifest", "--root", str(corpus), "--quiet", *more])


def test_every_file_has_its_declared_outcome_and_none_is_silent(corpus, light_encoders, tmp_path):
    streams = ["--visual", "brightness", "--audio", "loudness", "--text", "none"]
    result = command("extract", corpus, "--cache", str(tmp_path), *streams)
    assert result.exit_code == 3, result.output
    lines = result.output.splitlines()
    cache = FeatureCache(tmp_path)
    with open(tmp_path / "failures.csv", newline="", encoding="utf-8") as file:
        failures = {row["recording"]: row for row in csv.DictReader(file)}
    wrong = [w for case in CASES for w in _wrong(case, cache, failures.pop(case.name, None), lines)]
    assert not wrong, "\n".join(wrong)
    assert set(failures) == ({"locked.mp4"} if os.geteuid() else set())


def _wrong(case, cache, failure, lines):
    """What is not as declared."""
    name, said = " ".join(case.name.split()), [line for line in lines if " ".join(case.name.split()) in line]
    if bool(case.stage) != bool(failure):
        yield f"{name}: failed with {failure}, declared {case.stage!r}"
    elif failure:
        if failure["stage"] != case.stage or case.told not in failure["cause"] or not failure["hint"]:
            yield f"{name}: {failure}, declared {case.told!r}"
        if not any(f"{name}, {case.stage}: " in s and failure["hint"] in s for s in said):
            yield f"{name}: its failure and what to do are not printed"
    elif case.told and not any(case.told in s for s in said):
        yield f"{name}: {case.told!r} is not told, but {said}"
    there = case.name in cache.timelines.recordings()
    frames = len(cache.timelines.read(case.name)) if there else 0
    if frames != case.frames:
        yield f"{name}: {frames} frames, declared {case.frames}"
    elif frames:
        yield from (f"{name}: {w}" for w in _wrong_values(case, cache))


def _wrong_values(case, cache):
    if case.column == "video" or case.beside:
        seen = cache.read(cache.resolve("brightness").key, case.name)
        if not seen.present.all():
            yield f"{(~seen.present).sum()} pictures are absent"
        elif not case.noise and np.abs(seen.values[:, 0] * 255 - GREY).max() > 3:
            yield f"pictures of {GREY} are {seen.values[:, 0] * 255}"
    key = cache.resolve("loudness").key
    if case.sound == "absent":
        if cache.has(key, case.name):
            yield "there is sound"
        return
    loud = cache.read(key, case.name)
    share = {0: "none", len(loud.present): "all"}.get(int(loud.present.sum()), "some")
    if share != case.sound:
        yield f"{share} of its frames have sound, declared {case.sound}"
    if case.noise:
        return
    inner = loud.values[loud.present, 0][2:-2]
    if len(inner) and np.abs(inner - LOUD).max() > 0.02:
        yield f"sound of {LOUD:.3f} is {inner}"


def test_the_doctor_names_every_one_of_them(corpus):
    result = command("doctor", corpus, "--json")
    assert result.exit_code == 1
    found = {case.name: set() for case in CASES}
    for finding in json.loads(result.stdout)["findings"]:
        if finding["recording"] in found and finding["check"] != "duplicate-media":
            found[finding["recording"]].add(finding["check"])
    wrong = {}
    for case in CASES:
        silent = case.sound == "none" and case.column == "video"
        declared = {*case.doctor, *(["no-audio"] if silent else [])}
        if found[case.name] != declared and not (case.stage and found[case.name] == {*case.doctor}):
            wrong[case.name] = found[case.name], declared
    assert not wrong


def test_an_avi_whose_codec_changes_the_order_of_pictures_keeps_their_times(tmp_path):
    levels = [20 + 8 * i for i in range(T)]
    film = Picture(codec="h264", ticks=25, paint=lambda i, w, h: np.full((h, w, 3), levels[i], np.uint8))
    video = VideoFile(write(tmp_path / "a.avi", film))
    shown = [float(frame.mean()) for block in video.blocks() for frame in block.rgb]
    np.testing.assert_allclose(shown, levels, atol=4)
    np.testing.assert_allclose(np.diff(video.timeline.pts), 0.04, atol=1e-6)
    assert video.info["repaired_times"] == 0


def test_a_header_that_lies_cannot_claim_more_room_than_its_file_could_fill(tmp_path):
    miscounting(tmp_path / "a.avi", 2**30)
    size = size_of(Recording("a", video=tmp_path / "a.avi"))
    assert size.frames <= (tmp_path / "a.avi").stat().st_size / 8
    assert size_of(Recording("b", video=write(tmp_path / "b.mp4", Picture()))).frames == T


@pytest.mark.parametrize(("turn", "corner"), [(0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (270, (0, -1))])
def test_a_turned_film_is_seen_upright(tmp_path, turn, corner):
    def marked(i, width, height):
        picture = np.zeros((height, width, 3), np.uint8)
        picture[: height // 2, : width // 2] = 255
        return picture

    path = write(tmp_path / "a.mp4", Picture(CFR[:2], turn=turn, paint=marked))
    (block,) = VideoFile(path).blocks()
    picture = block.rgb[0]
    assert picture.shape == ((48, 64, 3) if turn % 180 == 0 else (64, 48, 3))
    assert {at for at in ((0, 0), (0, -1), (-1, 0), (-1, -1)) if picture[at].mean() > 128} == {corner}
