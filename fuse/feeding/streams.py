"""Which streams of a cache a run uses: those it names, or all that hold anything."""

import logging
from collections.abc import Iterable
from typing import Any

from cache.errors import CacheError, UsageError
from cache.records import FACE_BOX, MODALITIES, StreamSpec
from cache.store import FeatureCache

log = logging.getLogger("affuse")


def choose_streams(
    cache: FeatureCache, wanted: tuple[str, ...], without: tuple[str, ...] = ()
) -> tuple[StreamSpec, ...]:
    """Streams by name or key; by default all of the cache but ``face-box`` and those of modalities in ``without``.

    By default a stream that is absent in every frame of every recording (a corpus without transcripts) is left out,
    and said so. Raises CacheError where nothing is left, AmbiguousStream where a bare name stands for several.
    """
    if wanted:
        named = [s for s in map(cache.resolve, wanted) if s.modality not in without]
        if not named:
            raise UsageError(f"of the streams {', '.join(wanted)} none is left without {', '.join(without)}")
        return tuple(named)
    specs = [cache.stream(k) for k in cache.stream_keys()]
    kept = [s.name for s in specs if s.modality not in without and s.name != FACE_BOX]
    if without and not kept:
        raise UsageError("no stream is left", hint="name one with --visual, --audio or --text")
    specs = [cache.resolve(n) for n in sorted(set(kept))]
    used = [s for s in specs if _ever_present(cache, s.key)]
    for spec in specs:
        if spec not in used:
            log.info("stream %s is absent in every recording and left out", spec.key)
    if not used:
        raise CacheError(f"the cache at {cache.root} holds no stream to train on", hint="run: python cli.py extract")
    return tuple(sorted(used, key=lambda s: (MODALITIES.index(s.modality), s.name)))


def named_streams(cache: FeatureCache, named: dict[str, list[str] | None]) -> dict[str, list[str] | None]:
    """``streams`` and ``without`` of a recipe from names by modality: None is not said, an empty list is none of it.

    Naming any stream leaves out all that are not named. Raises UsageError for a stream of another modality.
    """
    for modality, names in named.items():
        for name in names or []:
            spec = cache.resolve(name)
            if spec.modality != modality:
                raise UsageError(f"stream {name!r} is {spec.modality}", hint=f"give it as --{spec.modality} {name}")
    streams = [n for names in named.values() for n in names or []]
    return {"streams": streams or None, "without": [m for m, names in named.items() if names == []] or None}


def describe(cache: FeatureCache, streams: Iterable[StreamSpec]) -> dict[str, Any]:
    """What it takes to make these streams again elsewhere, by key: the cache's record of each.

    Visual ones also say what they were made from (``sources``: frames, crops): their key does not.
    """
    return {s.key: {**cache.about(s.key), "sources": _sources(cache, s)} for s in streams}


def _sources(cache: FeatureCache, spec: StreamSpec) -> list[str]:
    recordings = cache.recordings(spec.key) if spec.modality == "visual" else []
    records = (cache.commit_record(spec.key, r).get("source") for r in recordings)
    return sorted({str(source["kind"]) for source in records if source})


def _ever_present(cache: FeatureCache, key: str) -> bool:
    """Whether any recording of a stream has a frame that is present; by the commit records alone."""
    for recording in cache.recordings(key):
        record = cache.commit_record(key, recording)
        if record.get("absent_frames", 0) < record["arrays"]["present"]["shape"][0]:
            return True
    return False
