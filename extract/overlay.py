"""A film with what was predicted of it below: each frame shown when it was, with the numbers of that very time.

Frame times are the source's, however uneven; sound is copied as it is coded, where MP4 can hold it, else coded anew as
AAC, and keeps its place on the same clock. Rotation and pixels that are not square are honoured.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from cache.errors import DataError, MissingData
from cache.ids import folder_of
from cache.prefetch import prefetched
from cache.progress import progress
from extract.media import Damage, VideoFile, decode, open_media, upright
from extract.overlay_panel import Panel, Pixels

F64 = npt.NDArray[np.float64]
COPIED = {"aac", "ac3", "alac", "eac3", "mp3", "opus"}  # what players expect in MP4
NARROWEST = 320  # pixels; a smaller picture stands in the middle
_TICKS, _TICKS_AT_MOST = 90_000, 1_000_000  # a second
_NEAR_S = 1e-3
_QUALITY = {"preset": "veryfast", "crf": "20", "bf": "0", "g": "60"}  # without B-frames times stay what they are
_BT709 = 1
Sound = Iterator[tuple[float, list[Any]]]


def draw_overlay(video: Path, times: F64, va: F64, out: Path, step: Callable[[], None] = lambda: None) -> None:
    """Write ``out`` (MP4): the film with traces of va f64[T,2] below, T frames shown at ``times`` f64[T] (seconds).

    step: called once a frame. Raises DataError where the film has other frames than these, or cannot be read.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    part, film = out.with_name(f"{out.name}.part"), VideoFile(video)
    try:
        with contextlib.ExitStack() as stack:
            pictures = stack.enter_context(contextlib.closing(prefetched(_pictures(film), what=str(video))))
            base, first = next(pictures)
            ticks = _ticks(base)
            options = {"movflags": "+faststart", "movie_timescale": str(ticks)}
            target = stack.enter_context(av.open(str(part.absolute()), "w", format="mp4", options=options))
            panel = Panel(times, va, max(NARROWEST, first.shape[1] + first.shape[1] % 2))
            shown = itertools.chain([first], (rgb for _, rgb in pictures))
            frames = (_beside(rgb, panel.at(i)) for i, rgb in enumerate(_checked(shown, film, times, step)))
            _write(target, frames, stack.enter_context(open_media(video)), times, ticks)
        part.replace(out)
    except av.FFmpegError as error:
        raise DataError(f"{video} cannot be drawn on: {error.strerror}", hint="re-encode it") from error
    finally:
        part.unlink(missing_ok=True)


def draw_overlays(
    films: Mapping[str, tuple[Path, F64, F64]], out: Path, *, quiet: bool = False
) -> tuple[list[str], dict[str, str]]:
    """``<out>/<name>.mp4`` of each film with its times and (valence, arousal); returns those, and why others failed."""
    drawn: list[str] = []
    failed: dict[str, str] = {}
    with progress("draw", sum(len(times) for _, times, _ in films.values()), quiet=quiet) as step:
        for name, (video, times, va) in films.items():
            path = out / f"{folder_of(name)}.mp4"
            try:
                if path.resolve() == video.resolve():
                    raise DataError(f"{path} is the film itself", hint="write elsewhere: --out DIR")
                draw_overlay(video, times, va, path, step)
                drawn.append(str(path))
            except (DataError, MissingData) as error:
                failed[name] = " ".join(f"{name}, overlay: {error}".split())
    return drawn, failed


def _pictures(film: VideoFile) -> Iterator[tuple[Fraction, Pixels]]:
    """Every frame as it is to be seen, u8[H,W,3], upright, all of the first one's size, with its unit of time."""
    shape = None
    for frame in film.frames():
        rgb = upright(frame)
        shape = shape or _square(rgb.shape, film.aspect, turned=frame.rotation % 180 != 0)
        if rgb.shape[:2] != shape:
            made = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(width=shape[1], height=shape[0])
            rgb = made.to_ndarray(format="rgb24")
        yield frame.time_base, rgb


def _square(shape: tuple[int, ...], aspect: float, *, turned: bool) -> tuple[int, int]:
    """Height and width with square pixels."""
    height, width = shape[:2]
    return (round(height * aspect), width) if turned else (height, round(width * aspect))


def _checked(shown: Iterator[Pixels], film: VideoFile, times: F64, step: Callable[[], None]) -> Iterator[Pixels]:
    """The pictures, as long as their times are those of what was predicted."""
    count = 0
    for count, rgb in enumerate(shown, start=1):
        if count > len(times):
            break
        yield rgb
        step()
    found = film.timeline.pts
    if count != len(times) or len(found) != count or np.abs(found - times).max() > _NEAR_S:
        raise DataError(
            f"{film.path} has other frames than those predicted ({len(times)})",
            hint="predict this very file, then draw on it",
        )


def _beside(rgb: Pixels, panel: Pixels) -> Pixels:
    """The picture, in the middle where it is narrower, above its panel; both sides even."""
    height, width = rgb.shape[:2]
    canvas = np.zeros((height + height % 2 + len(panel), panel.shape[1], 3), np.uint8)
    left = (panel.shape[1] - width) // 2
    canvas[:height, left : left + width] = rgb
    canvas[-len(panel) :] = panel
    return canvas


def _ticks(base: Fraction) -> int:
    """Ticks a second in which every time of the source is whole; at least 90,000."""
    ticks = base.denominator * -(-_TICKS // base.denominator)
    return min(ticks, _TICKS_AT_MOST)


def _write(target: Any, frames: Iterator[Pixels], source: Any, times: F64, ticks: int) -> None:
    """Encode the frames at their times, sound between them in its order."""
    shift = max(0.0, -float(times[0]))  # MP4 shows nothing before 0
    first = next(frames)
    stream = _film(target, first.shape, times, ticks)
    sound = _sound(source, target, shift)
    packets = next(sound, None)
    last = -1
    for time, pixels in zip(times, itertools.chain([first], frames), strict=False):
        while packets is not None and packets[0] <= time:
            target.mux(packets[1])
            packets = next(sound, None)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        last = max(round((time + shift) * ticks), last + 1)
        frame.pts, frame.time_base = last, Fraction(1, ticks)
        target.mux(stream.encode(frame))
    next(frames, None)  # says whether there were more
    target.mux(stream.encode(None))
    for _, rest in itertools.chain([packets] if packets else [], sound):
        target.mux(rest)


def _film(target: Any, shape: tuple[int, ...], times: F64, ticks: int) -> Any:
    gap = float(np.median(np.diff(times))) if len(times) > 1 else 0.04
    rate = Fraction(1 / max(gap, 1e-3)).limit_denominator(1001)
    stream = target.add_stream("libx264", rate=rate, options=_QUALITY)
    stream.height, stream.width, stream.pix_fmt = shape[0], shape[1], "yuv420p"
    stream.time_base = stream.codec_context.time_base = Fraction(1, ticks)
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = 1  # from 16 to 235, as film has it
    return stream


def _sound(source: Any, target: Any, shift: float) -> Sound:
    """Packets of the source's sound for the target, with the time of the first of each; none where there is none."""
    stream = source.streams.best("audio")
    if stream is None:
        return iter(())
    if stream.codec.canonical_name in COPIED:
        return _copied(source, stream, target.add_stream_from_template(stream), shift)
    coded = target.add_stream("aac", rate=stream.rate, layout="mono" if stream.channels == 1 else "stereo")
    return _coded(source, stream, coded, shift)


def _copied(source: Any, stream: Any, to: Any, shift: float) -> Sound:
    for packet in source.demux(stream):
        if packet.dts is None or 0 <= packet.dts <= (stream.start_time or 0) - (packet.duration or 0):
            continue  # the end; or what only wakes the decoder, and is not heard
        later = round(shift / packet.time_base)
        packet.pts, packet.dts = (packet.pts if packet.pts is not None else packet.dts) + later, packet.dts + later
        time = float(packet.dts * packet.time_base)
        packet.stream = to
        yield time - shift, [packet]


def _coded(source: Any, stream: Any, to: Any, shift: float) -> Sound:
    resampler = av.AudioResampler("fltp", to.layout, to.rate)
    last = -(1 << 62)
    for frame in decode(source, stream, Damage()):
        time = frame.time or 0.0
        for part in resampler.resample(frame):
            last = max(round((part.time + shift) * to.rate), last)
            part.pts, part.time_base = last, Fraction(1, to.rate)
            last += part.samples
            yield time, to.encode(part)
    yield float("inf"), to.encode(None)
