"""The one way into a cache: streams declared, frames laid, rows aligned, labels merged, one recording at a time."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cache.align import align_blocks
from cache.dtypes import dtype_of, largest
from cache.errors import AffuseError, CacheError, DataError, UsageError
from cache.fingerprint import stream_key
from cache.interop._labels import in_range, merge_labels, on_frames
from cache.interop._layout import UNREADABLE, Foreign, Label, Layout, Source
from cache.interop._report import Brought, Failed
from cache.interop._tables import whole_rows
from cache.interop._times import NOMINAL_FPS, nominal_frames, stretched
from cache.interop._wants import modalities, stream_name
from cache.progress import progress
from cache.records import Labels, Modality, Timeline, Track
from cache.store import FeatureCache

_VERSION = 1


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


@dataclass
class _Tally:
    """What is known only when all recordings are through. odd: rows left out; clocks: recordings without times."""

    labels: dict[str, dict[str, Labels]] = field(default_factory=dict)
    odd: Counter[str] = field(default_factory=Counter)
    clocks: Counter[str] = field(default_factory=Counter)
    untouched: Counter[str] = field(default_factory=Counter)

    def notes(self) -> list[str]:
        return [
            *(f"stream {n}: {c} rows with numbers that are not finite are absent" for n, c in self.odd.items()),
            *(f"stream {n}: {c} recordings touch no frame and are absent" for n, c in self.untouched.items()),
            *(f"{c} recordings: {text}" for text, c in self.clocks.items()),
        ]


def bring_in(layout: Layout, form: str, cache: FeatureCache, *, quiet: bool = False) -> Brought:
    """Import all recordings. What is committed stays; a recording that fails is listed and the others go on.

    Raises UsageError for what an option must tell (modality, range or columns of labels), CacheError where the cache
    cannot be written.
    """
    streams = _streams(layout, form)
    done = Brought(cache.where, [s.key for s in streams.values()], drops=layout.drops_in)
    tally = _Tally()
    for recording, label in () if layout.wants.label_range else layout.labels.items():
        in_range(label, None, repr(recording))  # before anything is written
    with progress("import", len(layout.recordings), quiet=quiet) as step:
        for recording in layout.recordings:
            try:
                _one(layout, recording, streams, cache, done, tally)
            except (CacheError, UsageError):
                raise
            except UNREADABLE as error:
                done.failures.append(_failed(recording, error))
            step()
    done.notes += tally.notes() + merge_labels(cache, tally.labels, layout.partitions, layout.delays) + layout.notes
    done.labelled = {p: len(tally.labels.get(p, {})) for p in sorted({*tally.labels, *layout.partitions})}
    return done


def _failed(recording: str, error: Exception) -> Failed:
    if isinstance(error, AffuseError):
        return Failed(recording, " ".join(error.message.split()), error.hint)
    return Failed(recording, " ".join(f"{type(error).__name__}: {error}".split()), "get its files anew")


def _one(
    layout: Layout, recording: str, streams: dict[str, _Stream], cache: FeatureCache, done: Brought, tally: _Tally
) -> None:
    missing = [n for n, s in streams.items() if not cache.has(s.key, recording)]
    foreign = layout.read(recording, missing)
    given = {layout.wants.protocol: layout.labels[recording]} if recording in layout.labels else foreign.labels
    labels = {p: in_range(a, layout.wants.label_range, repr(recording)) for p, a in given.items()}
    tracks = {}
    for name, track in foreign.tracks.items():
        tracks[name], odd = whole_rows(track, f"{name} of {recording!r}")
        tally.odd.update({name: odd} if odd else {})
        _check_fits(tracks[name], streams[name], recording)
    timeline = _timeline(layout, recording, foreign, given, cache, tally)
    for name, track in tracks.items():
        laid = stretched(track, foreign.untimed, timeline) if foreign.untimed else track
        absent = _write(cache, streams[name], recording, laid, timeline, foreign.info.get(name))
        tally.untouched.update([name] if absent == len(timeline) and len(track) else [])
        done.made[streams[name].key] += 1
    done.kept.update(s.key for n, s in streams.items() if n not in missing)
    for protocol, label in labels.items():
        tally.labels.setdefault(protocol, {})[recording] = on_frames(label, timeline, recording)


def _streams(layout: Layout, form: str) -> dict[str, _Stream]:
    """By the source's names. Raises DataError where two of them get the same name."""
    found: dict[str, _Stream] = {}
    hashes: dict[Path, str] = {}
    told = modalities({n: s.modality for n, s in layout.streams.items()}, layout.wants.modalities)
    for name, modality in told.items():
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


def _check_fits(track: Track, stream: _Stream, recording: str) -> None:
    reach = float(np.abs(np.asarray(track.values)).max(initial=0.0))
    if reach > largest(dtype_of(stream.dtype)):
        raise DataError(
            f"{stream.name} of {recording!r} has numbers up to {reach:g}, which {stream.dtype} cannot hold",
            hint="import with --dtype float32",
        )


def _timeline(
    layout: Layout, recording: str, foreign: Foreign, labels: dict[str, Label], cache: FeatureCache, tally: _Tally
) -> Timeline:
    """The one in the cache, else the source's own, else nominal frames; the last is counted, to be told."""
    if foreign.timeline is not None:
        cache.timelines.write(recording, foreign.timeline, foreign.clock)
    if cache.timelines.has(recording):
        return cache.timelines.read(recording)
    fps = layout.wants.fps or layout.rate or NOMINAL_FPS
    timeline = nominal_frames(foreign.tracks, labels, fps, recording)
    cache.timelines.write(recording, timeline, {"clock": "nominal", "fps": fps, "over": "imported rows"})
    tally.clocks[f"no video times: frames are nominal, {fps:g} a second over what was imported"] += 1
    return timeline


def _write(
    cache: FeatureCache, stream: _Stream, recording: str, track: Track, timeline: Timeline, info: dict[str, Any] | None
) -> int:
    """Commit one track; returns how many frames are absent."""
    width = track.values.shape[1]
    if stream.key not in cache.stream_keys():
        cache.declare(stream.name, stream.modality, width, stream.settings, stream.source.origin)
    wanted = cache.stream(stream.key).dim
    if width != wanted:
        raise DataError(f"{stream.name} of {recording!r} has {width} dimensions, others {wanted}")
    about = {"rows": len(track), "source": {"kind": "import"}} if info is None else info
    aligned = align_blocks(track, timeline, stream.settings.get("align", "overlap"))
    return cache.write(stream.key, recording, aligned, about, dtype=stream.dtype)
