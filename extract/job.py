"""One recording, from files to committed streams: decode once, encode, align, commit.

Whatever a recording lacks (sound, transcript, faces) gives a stream that is absent in every frame, never zeros that
look like data. Whatever is there but cannot be read is an error of this recording alone. Rows go to disk as they are
made and are aligned and committed block by block: memory does not grow with the length of a recording.
"""

import math
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from typing import Any

from cache.align import align_blocks
from cache.prefetch import prefetched, within
from cache.records import Recording, Timeline
from cache.store import FeatureCache
from extract.blocks import FrameBlock
from extract.clock import nominal_fps, nominal_frames
from extract.crops import crop_blocks, surplus_crops
from extract.media import DECODER, VideoFile, decoder
from extract.outcome import Outcome
from extract.remarks import remarks
from extract.sound import sound_at
from extract.source import check_unchanged, identity, sound_file, source_of
from extract.spent import Spent, Watch
from extract.spool import TrackSpool
from extract.streams import Stream
from extract.transcripts import read_transcript


@dataclass
class _Work:
    """A recording in hand. until: when it is given up, on the clock of ``time.monotonic``."""

    recording: Recording
    cache: FeatureCache
    until: float
    fps: float | None
    watch: Watch
    outcome: Outcome = field(default_factory=Outcome)

    @property
    def spent(self) -> Spent:
        return self.outcome.spent

    def noting(self, stage: str) -> Any:
        """What fails inside becomes a failure of this recording at that stage."""
        return self.outcome.noting(self.recording.id, stage)

    def tries(self, stage: str, step: Callable[..., None], *given: Any) -> bool:
        """Whether a step went well; if not, that is a failure of this recording at that stage."""
        with self.noting(stage):
            step(*given)
            return True
        return False


def extract_recording(
    recording: Recording,
    streams: list[Stream],
    cache: FeatureCache,
    deadline_s: float = math.inf,
    fps: float | None = None,
    watch: Watch | None = None,
) -> Outcome:
    """Commit the timeline of one recording and these streams of it, each as soon as it is made.

    fps: frames a second where it has no video; see ``nominal_fps``. watch: is told how far it is.

    A file that cannot be read costs the streams that need it, no others; without frame times there is nothing.
    """
    work = _Work(recording, cache, time.monotonic() + deadline_s, fps, watch or Watch())
    work.watch.begin(recording.id, work.spent)
    with work.noting("media"):
        check_unchanged(recording, cache)
    if work.outcome.failures:
        return work.outcome
    with work.noting("media"):
        _see(work, [s for s in streams if s.spec.modality == "visual"])
        work.outcome.remarks += _remarks(recording, cache)
    if cache.timelines.info(recording.id) is None:
        return work.outcome
    timeline = cache.timelines.read(recording.id)  # it may be there although the pictures are not
    with work.noting("audio"):
        _hear(work, [s for s in streams if s.spec.modality == "audio"], timeline)
    with work.noting("recognise"):
        _read(work, [s for s in streams if s.spec.modality == "text"], timeline)
    return work.outcome


def _see(work: _Work, visual: list[Stream]) -> None:
    """The timeline and the visual streams, from one decode."""
    recording, cache = work.recording, work.cache
    known = cache.timelines.info(recording.id) is not None
    if recording.video is None:
        _nominal_clock(work)
    elif recording.crops or not visual:
        if not known:
            video = VideoFile(recording.video)
            ahead = within(prefetched(video.frames(), what=str(video.path)), work.until, str(video.path))
            for _ in work.spent.waiting(ahead, "decode"):
                pass  # its times are all we want
            _write_timeline(work, video)
    else:
        film, faces = VideoFile(recording.video, visual[0].decode), visual[0].faces
        _look(work, visual, faces.blocks(film.blocks()) if faces else film.blocks(), film)
        return
    timeline = cache.timelines.read(recording.id)
    _look(work, visual, crop_blocks(recording.crops, timeline) if recording.crops and visual else [], None)


def _look(work: _Work, visual: list[Stream], blocks: Iterable[FrameBlock], film: VideoFile | None) -> None:
    """Push every block to every visual encoder; commit what they give, and the film's times before it.

    An encoder that fails costs its own stream, and the others go on.
    """
    name = str(work.recording.crops or work.recording.video)
    with ExitStack() as stack:
        rows = {s.spec.key: stack.enter_context(closing(TrackSpool(work.cache.root, s.spec.dim))) for s in visual}
        ahead = stack.enter_context(closing(prefetched(blocks, what=name)))
        going = [s for s in visual if work.tries("encoder", _begin, work, s)]
        work.watch.doing, first = "frames", math.inf
        for block in work.spent.waiting(within(ahead, work.until, name), "decode"):
            if block.rgb:  # else no face in any of these frames
                going = [s for s in going if work.tries("encoder", _push, work, s, rows[s.spec.key], block)]
                first = min(first, block.spans[0, 0])
                work.watch.seconds = float(block.spans[-1, 1] - first)
        if film is not None:
            _write_timeline(work, film)
        timeline = work.cache.timelines.read(work.recording.id)
        for stream in going:
            work.tries("encoder", _end, work, stream, rows[stream.spec.key], timeline)


def _begin(work: _Work, stream: Stream) -> None:
    with work.spent.on("load"):
        stream.begin()


def _push(work: _Work, stream: Stream, rows: TrackSpool, block: FrameBlock) -> None:
    with work.spent.on("encode"):
        track = stream.ready().push(block)
    with work.spent.on("write"):
        rows.append(track)


def _end(work: _Work, stream: Stream, rows: TrackSpool, timeline: Timeline) -> None:
    with work.spent.on("encode"):
        track = stream.ready().finish()
    with work.spent.on("write"):
        rows.append(track)
    _commit(work, stream, rows, timeline)


def _hear(work: _Work, audio: list[Stream], timeline: Timeline) -> None:
    """The audio streams, from one decode; an encoder that fails costs its own stream."""
    path = sound_file(work.recording)
    rates = {s.encoder.rate for s in audio}
    work.watch.doing = "sound" if path and audio else work.watch.doing
    with ExitStack() as stack:
        with work.spent.on("decode"):
            heard = sound_at(path, rates, work.cache.root, work.until) if path and audio else nullcontext({})
            sounds = stack.enter_context(heard)
        for stream in audio:
            sound = sounds.get(stream.encoder.rate)
            with work.noting("audio"):
                _encode(work, stream, sound, timeline)


def _read(work: _Work, text: list[Stream], timeline: Timeline) -> None:
    """The text streams, from the recording's transcript, else from the words that a recogniser hears."""
    path = work.recording.transcript
    work.watch.doing = "words" if text else work.watch.doing
    if path is None and text and text[0].heard is not None:
        with work.spent.on("encode"):
            path = text[0].heard.transcript(work.recording, work.until)
    for stream in text:
        with work.noting("transcript"):
            units = read_transcript(path) if path else []
            _encode(work, stream, units or None, timeline)


def _encode(work: _Work, stream: Stream, whole: Any, timeline: Timeline) -> None:
    """A stream of a whole recording at once (sound, transcript); None gives one that is absent throughout."""
    with closing(TrackSpool(work.cache.root, stream.spec.dim)) as rows:
        with work.spent.on("load"):
            encoder = stream.ready() if whole is not None else None
        tracks = encoder.tracks(whole) if encoder else ()
        for track in work.spent.waiting(within(tracks, work.until, work.recording.id), "encode"):
            with work.spent.on("write"):
                rows.append(track)
        _commit(work, stream, rows, timeline)


def _commit(work: _Work, stream: Stream, rows: TrackSpool, timeline: Timeline) -> None:
    track, id = rows.track, work.recording.id
    source = source_of(work.recording, stream.spec.modality, recognised=stream.heard is not None)
    info = {"rows": len(track), "source": source}
    aligned = align_blocks(track, timeline, stream.align)
    with work.spent.on("write"):
        absent = work.cache.write(stream.spec.key, id, aligned, info, dtype=stream.dtype)
    work.outcome.made.append(stream.spec.key)
    if absent == len(timeline):
        work.outcome.absent.append(stream.spec.key)


def _write_timeline(work: _Work, video: VideoFile) -> None:
    about = {"clock": "container", "decoder": decoder(video.decode), "source": identity(video.path), **video.info}
    with work.spent.on("write"):
        work.cache.timelines.write(work.recording.id, video.timeline, about)


def _nominal_clock(work: _Work) -> None:
    """Frames of a recording without video: by the numbers of its crops, or over its sound. Its timeline says so."""
    recording, known = work.recording, work.cache.timelines.info(work.recording.id)
    if known is not None and known["clock"] != "nominal":
        return  # the frames of a video that is gone since
    fps = nominal_fps(recording, known, work.fps)
    with work.spent.on("decode"):
        timeline = nominal_frames(recording, fps, work.until)
    about = {"clock": "nominal", "fps": fps, "decoder": DECODER}
    over = "crops" if recording.crops else "sound"
    about |= {"over": over, "source": identity(recording.crops or recording.audio)}
    work.cache.timelines.write(recording.id, timeline, about)


def _remarks(recording: Recording, cache: FeatureCache) -> list[str]:
    info, timeline = cache.timelines.info(recording.id), cache.timelines.read(recording.id)
    told = [*remarks(info or {}, timeline).values()]
    surplus = surplus_crops(recording.crops, timeline) if recording.crops else []
    if surplus:
        told.append(f"crops up to number {surplus[-1]} for {len(timeline)} frames: {len(surplus)} are of no frame")
    return [f"{recording.id}: {text}" for text in told]
