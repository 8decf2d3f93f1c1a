"""Media of one recording on the container's own clock: frame times, frames and sound, read with PyAV.

Times are decoded presentation times, never ``index / fps``. What the header claims (frame count, rate) is recorded
but not believed: decoding decides. Of several video streams the largest is taken, rotation metadata is honoured,
frames whose time does not increase are kept and nudged by a microsecond so that frame numbers stay what they are.
"""

import heapq
import itertools
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.stream import Disposition

from cache.errors import DataError, MissingData, UsageError
from cache.records import Timeline
from extract.blocks import FrameBlock

DECODER = "pyav-2"  # part of every fingerprint: raise it when the same file would give other frames, times or samples
FRAMES_AT_ONCE = 64
_NUDGE_S = 1e-6
_DAMAGED_AT_MOST = 10_000  # a demuxer that fails for ever must not hold the run
_CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")  # hours, minutes, seconds
_REORDERED_AT_MOST = 16  # frames between which H.264 may change the order
_SEEK_BACK_S = (0.5, 10.0)  # how far before a wanted frame to look for one to begin with
_WITH_LENGTHS = ("matroska", "mov", "avi", "flv", "asf", "wav", "flac", "gif")  # formats whose headers say how long
_BACK_AT_MOST_S = 1.0  # frame times that fall back further are another file's, joined on without new times


def decoder(decode: str) -> str:
    """What stands in fingerprints: the version of decoding here, and where it is done if not on the CPU."""
    return DECODER if decode == "cpu" else f"{DECODER}+{decode}"


def hardware_decoder(name: str) -> HWAccel | None:
    """How PyAV is asked to decode on ``cuda``, ``qsv``, ...; None for ``cpu``. Raises UsageError for what is not there.

    There is no silent way back to the CPU: frames of another decoder may differ by a level, so it is in fingerprints.
    """
    if name == "cpu":
        return None
    known = hwdevices_available()
    if name not in known:
        raise UsageError(f"decode = {name!r} is none that PyAV was built with", hint=f"use cpu, {', '.join(known)}")
    return HWAccel(device_type=name, allow_software_fallback=False)


def open_media(path: Path, decode: str = "cpu") -> "av.container.InputContainer":
    """Open a media file. Raises MissingData or DataError with the cause on one line."""
    if not path.is_file():  # a pipe would be waited for, a name such as http:x fetched
        if path.exists():
            raise DataError(f"{path} cannot be opened as media: it is not a file")
        raise MissingData(f"no media file at {path}", hint="unpack it there, or take it out of the corpus")
    try:
        return av.open(str(path.absolute()), mode="r", hwaccel=hardware_decoder(decode))
    except (av.FFmpegError, UnicodeDecodeError, RuntimeError) as error:
        if decode != "cpu":
            told = f"{path} cannot be decoded on {decode}: {_cause(error)}"
            raise DataError(told, hint="decode on the CPU: --set decode=cpu") from error
        cause = _cause(error) if path.stat().st_size else "the file is empty"
        raise DataError(f"{path} cannot be opened as media: {cause}") from error


@dataclass
class Damage:
    """How many packets of a stream could not be read or decoded."""

    packets: int = 0


def decode(container: "av.container.InputContainer", stream: Any, damage: Damage) -> Iterator[Any]:
    """Frames of one stream in order of presentation. A damaged packet is counted and skipped; a broken end ends."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            frames = packet.decode() if packet is not None else None
        except av.FFmpegError:
            damage.packets += 1
            if damage.packets > _DAMAGED_AT_MOST:
                return
            continue
        if frames is None:
            return
        yield from frames


def _cause(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).strip().lower()


class VideoFile:
    """The largest video stream of a file. ``timeline`` and ``info`` are complete once it was read to the end.

    aspect: width of a pixel over its height, known once the first frame is out; frames come as they are coded.
    """

    def __init__(self, path: Path, decode: str = "cpu") -> None:
        self.path, self.decode = path, decode
        self.info: dict[str, Any] = {}
        self.aspect = 1.0
        self._pts: list[float] = []
        self._end = 0.0
        self._moved = 0.0
        self._untimed = 0

    @property
    def timeline(self) -> Timeline:
        """Times of the frames decoded so far; the last frame lasts as long as it says, else the median frame."""
        pts = np.asarray(self._pts)
        gap = float(np.median(np.diff(pts))) if len(pts) > 1 else 1 / float(self.info.get("fps") or 25)
        return Timeline(pts, max(self._end, float(pts[-1])) if self._end > pts[-1] else float(pts[-1]) + gap)

    def read_times(self) -> Timeline:
        """Decode to the end without making pictures."""
        for _ in self.frames():
            pass
        return self.timeline

    def blocks(self, size: int = FRAMES_AT_ONCE) -> Iterator[FrameBlock]:
        """Decode once; blocks of ``size`` RGB frames with the times they are on screen."""
        waiting: list[npt.NDArray[np.uint8]] = []
        start = 0
        for frame in self.frames():
            if len(waiting) == size:  # the newest frame's time is the end of the last one waiting
                yield FrameBlock(waiting, _spans(np.asarray(self._pts[start:])))
                waiting, start = [], start + size
            waiting.append(upright(frame))
        edges = self.timeline.edges[start:]
        yield FrameBlock(waiting, _spans(edges))

    def shown_at(self, times: Iterable[float]) -> Iterator[npt.NDArray[np.uint8]]:
        """The frames u8[H,W,3] that are on screen at some increasing times (s), without decoding all that is between.

        Raises DataError where the file cannot be read.
        """
        with open_media(self.path) as container:
            stream = self._largest(container)
            stream.thread_type = "AUTO"
            if container.format.name == "avi":  # its frames have their times only in order from the beginning
                yield from map(upright, _on_screen(_times_in_order(decode(container, stream, Damage())), times))
                return
            for time in times:
                yield from map(upright, _on_screen(_from_before(container, stream, time), [time]))

    def frames(self) -> Iterator["av.VideoFrame"]:
        """Decode once, noting times."""
        with open_media(self.path, self.decode) as container:
            stream = self._largest(container)
            stream.thread_type = "AUTO"
            self.aspect = float(stream.sample_aspect_ratio or 1)
            fps = float(stream.average_rate) if stream.average_rate else 0.0
            self.info = {"stream": stream.index, "codec": stream.codec_context.name, "fps": fps}
            claimed = claimed_s(container, stream)
            repaired, spoilt, damage = 0, 0, Damage()
            frames = decode(container, stream, damage)
            for frame in _times_in_order(frames) if container.format.name == "avi" else frames:
                repaired += self._note_time(frame)
                spoilt += frame.is_corrupt
                yield frame
        if not self._pts:
            raise DataError(f"{self.path}: no frame could be decoded ({damage.packets} damaged packets)")
        if 2 * self._untimed > len(self._pts) > 1:
            raise DataError(
                f"{self.path}: {self._untimed} of {len(self._pts)} frames carry no time",
                hint="put it into a container at its frame rate: ffmpeg -r RATE -i FILE -c copy FILE.mkv",
            )
        self.info |= {"repaired_times": repaired, "damaged_packets": damage.packets}
        self.info |= {"damaged_frames": spoilt, "claimed_s": claimed}
        if repaired:
            self.info["moved_s"] = round(self._moved, 6)

    def _largest(self, container: "av.container.InputContainer") -> "av.VideoStream":
        films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not container.streams:
            raise DataError(f"{self.path} has no stream that can be read; it may be cut off or damaged")
        if not films:
            raise DataError(f"{self.path} has no video stream", hint="give it as audio instead")
        return max(films, key=lambda s: (s.width * s.height, -s.index))

    def _note_time(self, frame: "av.VideoFrame") -> bool:
        time = _shown_at(frame)
        last = self._pts[-1] if self._pts else -np.inf
        self._untimed += time is None
        late = time is None or time <= last
        if time is not None and last - time > _BACK_AT_MOST_S:
            raise DataError(
                f"{self.path}: frame {len(self._pts)} is shown at {time:.3f} s, after one at {last:.3f} s",
                hint="the file looks joined from several; give it new times, e.g. by remuxing or re-encoding it",
            )
        self._pts.append((last + _NUDGE_S if self._pts else 0.0) if late else time)
        if late and time is not None:
            self._moved = max(self._moved, self._pts[-1] - time)
        if frame.duration and frame.time_base:
            self._end = self._pts[-1] + float(frame.duration * frame.time_base)
        return bool(late)


def claimed_s(container: "av.container.InputContainer", stream: Any) -> float:
    """When a stream ends by what headers say, in seconds; 0 where they say nothing or FFmpeg only guesses."""
    said = [0.0]
    if container.format.name.split(",")[0] not in _WITH_LENGTHS:
        return 0.0
    if stream.duration and stream.time_base:
        said.append(float(stream.duration * stream.time_base))
    elif tag := _CLOCK.fullmatch(stream.metadata.get("DURATION", "")):  # Matroska's
        said.append(3600 * float(tag[1]) + 60 * float(tag[2]) + float(tag[3]))
    elif container.duration and len(container.streams) == 1:
        said.append(container.duration / av.time_base)
    if stream.type == "video" and stream.frames and stream.average_rate:
        said.append(float(stream.frames / stream.average_rate))
    return round(max(said), 3)


def looks_cut(claimed: float, end: float) -> bool:
    """Whether a stream that ends at ``end`` seconds ends too early for what its header claims."""
    return claimed > 1.05 * end + 0.2


def _from_before(container: "av.container.InputContainer", stream: Any, time: float) -> Iterator["av.VideoFrame"]:
    """Frames from one at ``time`` (s) or before it on; containers seek by times of decoding, which may be too late."""
    for back in (*_SEEK_BACK_S, None):
        begin = int((time - back) / stream.time_base) if back is not None else stream.start_time or 0
        try:
            container.seek(begin, stream=stream)
        except av.FFmpegError:  # before its beginning, or past an index that is cut off
            continue
        frames = decode(container, stream, Damage())
        first = next(frames, None)
        if first is not None and (back is None or (_shown_at(first) or 0.0) <= time + _NUDGE_S):
            yield from itertools.chain([first], frames)
            return


def _on_screen(frames: Iterator["av.VideoFrame"], times: Iterable[float]) -> Iterator["av.VideoFrame"]:
    """For each of increasing times (s) the last frame that begins by then, else the first one."""
    shown = following = next(frames, None)
    for time in times:
        while following is not None and (_shown_at(following) or 0.0) <= time + _NUDGE_S:
            shown, following = following, next(frames, None)
        if shown is not None:
            yield shown


def _times_in_order(frames: Iterator["av.VideoFrame"]) -> Iterator["av.VideoFrame"]:
    """AVI has no times of presentation, and some codecs come with those of other frames: the i-th gets the i-th."""
    waiting: deque[av.VideoFrame] = deque()
    times: list[int] = []
    for frame in frames:
        waiting.append(frame)
        if frame.pts is not None:
            heapq.heappush(times, frame.pts)
        if len(waiting) > _REORDERED_AT_MOST:
            yield _retimed(waiting.popleft(), times)
    yield from (_retimed(frame, times) for frame in waiting)


def _retimed(frame: "av.VideoFrame", times: list[int]) -> "av.VideoFrame":
    if frame.pts is not None:
        frame.pts = heapq.heappop(times)
    return frame


def _shown_at(frame: "av.VideoFrame") -> float | None:
    """Presentation time in seconds, where the container gives one."""
    return None if frame.time is None else float(frame.time)


def _spans(edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.stack([edges[:-1], edges[1:]], axis=1)


def upright(frame: "av.VideoFrame") -> npt.NDArray[np.uint8]:
    """A frame as u8[H,W,3] RGB, turned as its rotation metadata asks."""
    rgb = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90) % 4)) if frame.rotation else rgb
