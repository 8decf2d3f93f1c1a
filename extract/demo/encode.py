"""From pictures and sound to one media file: h264 + aac in mp4, or vp9 + opus in webm.

One encoding thread and bit-exact muxing: the same input gives the same bytes on the same machine.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

CODECS = {
    ".mp4": ("libx264", {"preset": "veryfast", "crf": "20", "threads": "1"}, "aac"),
    ".webm": (
        "libvpx-vp9",
        {"deadline": "realtime", "cpu-used": "8", "crf": "28", "b": "0", "threads": "1"},
        "libopus",
    ),
}
CLOCK = Fraction(1, 90000)  # of video frames, seconds a tick


@dataclass(frozen=True)
class Sound:
    """samples: f32[S] in [-1, 1], mono, at ``rate`` Hz; sample 0 sounds at ``start`` seconds."""

    samples: npt.NDArray[np.float32]
    rate: int
    start: float


def write_media(
    path: Path,
    frames: Iterable[npt.NDArray[np.uint8]],
    edges: npt.NDArray[np.float64],
    size: int,
    rate: Fraction,
    sound: Sound | None,
) -> None:
    """Encode T frames u8[size,size,3] shown during ``[edges[i], edges[i+1])`` seconds (f64[T+1]), and their sound."""
    codec, options, audio_codec = CODECS[path.suffix]
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as container:
        video = container.add_stream(codec, rate=rate, options=options)
        video.width = video.height = size
        video.pix_fmt = "yuv420p"
        video.time_base = video.codec_context.time_base = CLOCK
        video.codec_context.thread_count = 1
        video.codec_context.flags |= av.codec.context.Flags.bitexact
        audio = container.add_stream(audio_codec, rate=sound.rate, layout="mono") if sound else None
        packets = _video_packets(video, frames, edges)
        if audio:
            audio.codec_context.flags |= av.codec.context.Flags.bitexact
            packets += _audio_packets(audio, sound)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)


def _video_packets(
    stream: av.VideoStream, frames: Iterable[npt.NDArray[np.uint8]], edges: npt.NDArray[np.float64]
) -> list[av.Packet]:
    ticks = np.round(edges / float(CLOCK)).astype(int).tolist()
    packets = []
    for image, start, end in zip(frames, ticks[:-1], ticks[1:], strict=True):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.duration, frame.time_base = start, end - start, CLOCK
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _audio_packets(stream: av.AudioStream, sound: Sound) -> list[av.Packet]:
    sample_format = stream.codec_context.format.name
    planar = np.ascontiguousarray(sound.samples[None, :])
    if sample_format.startswith("s16"):
        planar = np.round(planar * 32767).astype(np.int16)
    step, first, packets = stream.codec_context.frame_size or 1024, round(sound.start * sound.rate), []
    for at in range(0, planar.shape[1], step):
        frame = av.AudioFrame.from_ndarray(planar[:, at : at + step], format=sample_format, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = sound.rate, first + at, Fraction(1, sound.rate)
        packets += stream.encode(frame)
    return packets + stream.encode(None)
