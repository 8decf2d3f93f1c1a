"""What a recording's streams were made from, kept with them without paths, and whether that is still what is there."""

from pathlib import Path
from typing import Any

from cache.errors import DataError
from cache.records import Recording, StreamSpec
from cache.store import FeatureCache
from extract.outcome import Failure


def sound_file(recording: Recording) -> Path | None:
    """The file its sound is in; None for crops alone."""
    return recording.audio or recording.video


def identity(path: Path) -> dict[str, Any]:
    """Name and size of a file; its size is None where it is not there."""
    return {"name": path.name, "bytes": path.stat().st_size if path.is_file() else None}


def check_unchanged(recording: Recording, cache: FeatureCache) -> None:
    """Raises DataError where the frame times in the cache are another file's."""
    known = cache.timelines.info(recording.id)
    if known is None:
        return
    clock = recording.video or (recording.audio if recording.crops is None else None)
    source, now = known["source"], identity(clock) if clock else {"bytes": None}
    if now["bytes"] not in (None, source["bytes"]):
        had = f"read from {source['name']} with {source['bytes']}"
        if source["bytes"] is None:
            had = f"laid at {known['fps']:g} a second over the crops in {source['name']}"
        raise DataError(
            f"{now['name']} has {now['bytes']} bytes; the frame times of {recording.id!r} were {had}",
            hint="its media changed: give the new media a new id, or extract into a fresh cache",
        )


def source_of(recording: Recording, modality: str, *, recognised: bool = False) -> dict[str, Any]:
    """What a stream of that modality is made from: kind, file name and size.

    recognised: whether words are recognised where there is no transcript.
    """
    sound = sound_file(recording)
    if modality == "text" and recording.transcript:
        return {"kind": "transcript", **identity(recording.transcript)}
    if modality == "text":
        return {"kind": "recognised", **identity(sound)} if recognised and sound else {"kind": "none"}
    if modality == "audio":
        return {"kind": "sound", **identity(sound)} if sound else {"kind": "none"}
    if recording.crops:
        return {"kind": "crops", "name": recording.crops.name}
    return {"kind": "frames", **identity(recording.video)} if recording.video else {"kind": "none"}


def changed_source(
    recording: Recording, stream: StreamSpec, cache: FeatureCache, *, recognised: bool = False
) -> Failure | None:
    """Where a committed stream was made from another file than the corpus has now. A file that is gone is no change."""
    old = cache.commit_record(stream.key, recording.id).get("source")
    new = source_of(recording, stream.modality, recognised=recognised)
    gone = new.get("bytes", 0) is None or (stream.modality == "audio" and new["kind"] == "none")
    if old is None or old == new or gone:
        return None
    cause = f"{stream.key} was made from {_named(old)}, and the corpus now has {_named(new)}"
    hint = "give the new media a new id, or extract into a fresh cache (--cache)"
    if new["kind"] != "frames":
        hint += f", or remove {cache.folder(stream.key, recording.id)} to make it anew"
    return Failure(recording.id, "media", cause, hint)


def _named(source: dict[str, Any]) -> str:
    size = f" ({source['bytes']} bytes)" if source.get("bytes") is not None else ""
    return " ".join([source["kind"], source.get("name", "")]).strip() + size
