"""The one way into a cache: streams declared, frames laid, rows aligned, labels merged, one recording at a time."""

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache.align import align_blocks
from cache.errors import AffuseError, CacheError, DataError
from cache.fingerprint import stream_key
from cache.interop._clock import NOMINAL_FPS, nominal_frames, on_frames
from cache.interop._layout import Foreign, Layout, Source
from cache.interop._modality import modalities, stream_name
from cache.interop._protocols import merge_labels
from cache.interop._rows import whole_rows
from cache.progress import progress
from cache.records import Labels, Modality, Timeline, Track
from cache.store import FeatureCache

log = logging.getLogger("affuse")
_VERSION = 1


@dataclass(frozen=True)
class Failed:
    """A recording, or its labels, that could not be imported: why, and what to do."""

    recording: str
    cause: str
    hint: str

    def __str__(self) -> str:
        return f"{' '.join(self.recording.split())}: {self.cause}" + (f"; {self.hint}" if self.hint else "")


@dataclass
class Brought:
    """What an import did. streams: keys; made: recordings by key written now; kept: those that were there already."""

    cache: str
    streams: list[str] = field(default_factory=list)
    made: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    labelled: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failures: list[Failed] = field(default_factory=list)
    drops: str = ""


@dataclass(frozen=True)
class _Stream:
    """A stream of the source and the one of the cache that it becomes."""

    source: Source
    name: str
    modality: Modality
    settings: dict[str, Any]
    dtype: str

    @property
    def key(self) -> str:
        return stream_key(self.name, self.settings)


def bring_in(layout: Layout, form: str, cache: FeatureCache, *, quiet: bool = False) -> Brought:
    """Import all recordings. What is committed stays; a recording that fails is listed and the others go on.

    Raises UsageError for streams of unknown modality, CacheError where the cache cannot be written.
    """
    streams = _streams(layout, form)
    done = Brought(str(cache.root), [s.key for s in streams.values()], drops=layout.drops_in)
    labels: dict[str, dict[str, Labels]] = {}
    clocks: Counter[str] = Counter()
    odd: Counter[str] = Counter()
    with progress("import", len(layout.recordings), quiet=quiet) as step:
        for recording in layout.recordings:
            try:
                missing = [n for n, s in streams.items() if not cache.has(s.key, recording)]
                foreign = layout.read(recording, missing)
                tracks = {n: _whole(t, f"{n} of {recording!r}", n, odd) for n, t in foreign.tracks.items()}
                timeline = _timeline(layout, recording, foreign, cache, clocks)
                for name, track in tracks.items():
                    _write(cache, streams[name], recording, track, timeline, foreign.info.get(name), done)
                done.kept.update(s.key for n, s in streams.items() if n not in missing)
                for protocol, annotation in foreign.annotations.items():
                    laid = on_frames(annotation, timeline, recording, layout.wants.label_range)
                    labels.setdefault(protocol, {})[recording] = laid
            except CacheError:
                raise
            except (AffuseError, OSError, ValueError, KeyError, IndexError, MemoryError) as error:
                done.failures.append(_failed(recording, error))
            step()
    done.notes += [f"stream {n}: {c} rows with numbers that are not finite are absent" for n, c in odd.items()]
    done.notes += [f"{c} recordings: {text}" for text, c in clocks.items()]
    done.notes += merge_labels(cache, labels, layout.partitions, layout.delays, done.labelled) + layout.notes
    return done


def _failed(recording: str, error: Exception) -> Failed:
    if isinstance(error, AffuseError):
        return Failed(recording, " ".join(error.message.split()), error.hint)
    return Failed(recording, " ".join(f"{type(error).__name__}: {error}".split()), "get its files anew")


def _whole(track: Track, where: str, name: str, odd: Counter[str]) -> Track:
    kept, dropped = whole_rows(track, where)
    odd.update({name: dropped} if dropped else {})
    return kept


def _streams(layout: Layout, form: str) -> dict[str, _Stream]:
    """By the source's names. Raises DataError where two of them get the same name."""
    found: dict[str, _Stream] = {}
    hashes: dict[Path, str] = {}
    for name, modality in modalities(layout.streams, layout.wants).items():
        source = layout.streams[name]
        dtype = source.dtype or layout.wants.dtype
        settings = source.settings
        if settings is None:
            settings = {
                "encoder": f"imported:{form}",
                "version": _VERSION,
                "options": {"stream": name},
                "weights": _content(source, hashes),
                "align": layout.wants.align,
                "dtype": dtype,
            }
        found[name] = _Stream(source, source.name or stream_name(name), modality, settings, dtype)
    keys = Counter(s.key for s in found.values())
    twice = [s.name for s in found.values() if keys[s.key] > 1]
    if twice:
        raise DataError(f"two streams of {layout.path} are both called {twice[0]!r} here", hint="leave one out: =none")
    return found


def _content(source: Source, known: dict[Path, str]) -> str:
    """sha256 of the source files' names and bytes."""
    total = hashlib.sha256()
    for path in sorted(source.files):
        if path not in known:
            with open(path, "rb") as file:
                known[path] = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.name} {known[path]}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _timeline(layout: Layout, recording: str, foreign: Foreign, cache: FeatureCache, clocks: Counter[str]) -> Timeline:
    """The one in the cache, else the source's own, else nominal frames; the last is counted, to be told."""
    if foreign.timeline is not None:
        cache.timelines.write(recording, foreign.timeline, foreign.clock)
    if cache.timelines.has(recording):
        return cache.timelines.read(recording)
    fps = layout.wants.fps or layout.rate or NOMINAL_FPS
    timeline = nominal_frames(foreign, fps, recording)
    cache.timelines.write(recording, timeline, {"clock": "nominal", "fps": fps, "over": "imported rows"})
    clocks[f"no video times: frames are nominal, {fps:g} a second over what was imported"] += 1
    return timeline


def _write(
    cache: FeatureCache,
    stream: _Stream,
    recording: str,
    track: Track,
    timeline: Timeline,
    info: dict[str, Any] | None,
    done: Brought,
) -> None:
    if stream.key not in cache.stream_keys():
        cache.declare(stream.name, stream.modality, track.values.shape[1], stream.settings, stream.source.origin)
    wanted = cache.stream(stream.key).dim
    if track.values.shape[1] != wanted:
        raise DataError(f"{stream.name} of {recording!r} has {track.values.shape[1]} dimensions, others {wanted}")
    about = {"rows": len(track), "source": {"kind": "import"}} if info is None else info
    aligned = align_blocks(track, timeline, stream.settings.get("align", "overlap"))
    absent = cache.write(stream.key, recording, aligned, about, dtype=stream.dtype)
    if absent == len(timeline):
        done.notes.append(f"{stream.name} of {recording!r} touches no frame: it is absent")
    done.made[stream.key] += 1
