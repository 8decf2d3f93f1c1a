"""What a recording's streams were made from, kept with them without paths, and whether that is still what is there."""

import hashlib
from pathlib import Path
from typing import Any

from cache.errors import DataError
from cache.fingerprint import fingerprint
from cache.records import Recording, StreamSpec
from cache.store import FeatureCache
from extract.crops import crop_files
from extract.outcome import Failure


def sound_file(recording: Recording) -> Path | None:
    """The file its sound is in; None for crops alone."""
    return recording.audio or recording.video


def identity(path: Path) -> dict[str, Any]:
    """Name and size of a file; its size is None where it is not there."""
    return {"name": path.name, "bytes": path.stat().st_size if path.is_file() else None}


def _content(path: Path) -> dict[str, Any]:
    """Identity of a small file, and a hash of what is in it."""
    about = identity(path)
    return about if about["bytes"] is None else {**about, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:12]}


def _crops(folder: Path) -> dict[str, Any]:
    """Name of a folder of crops, how many there are, and a hash of their numbers: pictures may come and go."""
    if not folder.is_dir():
        return {"name": folder.name, "count": None}
    frames = sorted(crop_files(folder))
    return {"name": folder.name, "count": len(frames), "frames": fingerprint(frames)}


def check_unchanged(recording: Recording, cache: FeatureCache) -> None:
    """Raises DataError where the frame times in the cache are another file's."""
    known = cache.timelines.info(recording.id)
    if known is None or "source" not in known:
        return  # not there, or imported
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
    """What a stream of that modality is made from: kind, file name, and what tells its content.

    recognised: whether words are recognised where there is no transcript.
    """
    sound = sound_file(recording)
    if modality == "text" and recording.transcript:
        return {"kind": "transcript", **_content(recording.transcript)}
    if modality == "text":
        return {"kind": "recognised", **identity(sound)} if recognised and sound else {"kind": "none"}
    if modality == "audio":
        return {"kind": "sound", **identity(sound)} if sound else {"kind": "none"}
    if recording.crops:
        return {"kind": "crops", **_crops(recording.crops)}
    return {"kind": "frames", **identity(recording.video)} if recording.video else {"kind": "none"}


def changed_source(
    recording: Recording, stream: StreamSpec, cache: FeatureCache, *, recognised: bool = False
) -> Failure | None:
    """Where a committed stream was made from another file than the corpus has now. A file that is gone is no change."""
    old = cache.commit_record(stream.key, recording.id).get("source")
    new = source_of(recording, stream.modality, recognised=recognised)
    gone = None in (new.get("bytes", 0), new.get("count", 0)) or (stream.modality == "audio" and new["kind"] == "none")
    if old is None or old == new or gone:
        return None
    was, now = _named(old), _named(new)
    cause = f"{stream.key} was made from {was}, and the corpus now has {now if now != was else f'another {now}'}"
    hint = "give the new media a new id, or extract into a fresh cache (--cache)"
    if new["kind"] != "frames":
        hint += f", or remove {cache.folder(stream.key, recording.id)} to make it anew"
    return Failure(recording.id, "media", cause, hint)


def _named(source: dict[str, Any]) -> str:
    units = {"bytes": "bytes", "count": "pictures"}
    size = "".join(f" ({source[k]} {unit})" for k, unit in units.items() if source.get(k) is not None)
    return " ".join([source["kind"], source.get("name", "")]).strip() + size
