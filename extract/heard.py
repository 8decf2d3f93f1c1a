"""Recognised words in the cache: ``transcripts/whisper-<fingerprint>/<recording>.json``, in whisper's layout.

They outlive the streams that are made of them, so a second encoder of text does not hear the sound again. The hash of
the recogniser's weights is in the fingerprint; while their files look the same (``signature``) it is known without
loading them.
"""

import json
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.check import sealed_fault
from cache.commit import discard, publish_file
from cache.errors import CorruptCache, DataError
from cache.fingerprint import canonical, stream_key
from cache.groups import attributes, group_once
from cache.ids import folder_of
from cache.layout import seal
from cache.prefetch import within
from cache.records import Recording
from cache.store import FeatureCache
from cache.turns import take_turn
from extract.asr import RATE, Recogniser
from extract.device import torch_device
from extract.sound import sound_at
from extract.source import identity, sound_file

log = logging.getLogger("affuse")
FOLDER = "transcripts"


@dataclass(frozen=True)
class Heard:
    """The words of one recogniser in one cache. settings: all that decides them, with the hash of its weights."""

    recogniser: Recogniser
    settings: dict[str, Any]
    root: Path
    device: str

    def transcript(self, recording: Recording, until: float) -> Path | None:
        """The recording's words as a file; heard now where they are not kept. None for one without a file of sound.

        until: when to give up, on the clock of ``time.monotonic``. Raises DataError then, and for bad sound.
        """
        sound = sound_file(recording)
        if sound is None:
            return None
        path = self.root / FOLDER / stream_key("whisper", self.settings) / f"{folder_of(recording.id)}.json"
        source = identity(sound)
        if _source(path) != source:
            found = self._segments(recording, sound, until)
            data: dict[str, Any] = {"recording": recording.id, "source": source, "segments": found}
            data["crc32c"] = seal(data)
            publish_file(self.root, path, (json.dumps(data, ensure_ascii=False, indent=1) + "\n").encode())
        return path

    def _segments(self, recording: Recording, sound: Path, until: float) -> list[dict[str, Any]]:
        with sound_at(sound, {RATE}, self.root, until) as sounds:
            if not sounds:
                return []
            self._ready()
            found = [*within(self.recogniser.segments(sounds[RATE]), until, recording.id)]
        if not found:
            log.warning("%s: no words were recognised in %s", recording.id, sound.name)
        return found

    def _ready(self) -> None:
        if not self.recogniser.weights_hash:
            self.recogniser.load(torch_device(self.device))
        if self.recogniser.weights_hash != self.settings["weights"]:
            raise DataError(
                f"the weights of {self.recogniser.model!r} changed without changing their files' size or time",
                hint="touch the weights file and run again: words will be recognised anew",
            )


def heard(cache: FeatureCache, recogniser: Recogniser, device: str) -> Heard:
    """The words of a recogniser in a cache; loads its weights only where their hash is not known."""
    weights = known_weights(cache, recogniser)
    if not weights:
        if not recogniser.weights_hash:
            recogniser.load(torch_device(device))
        weights = recogniser.weights_hash
    settings = {**recogniser.settings(), "weights": weights}
    folder = cache.root / FOLDER
    group_once(cache.root, folder, {"holds": FOLDER})
    record = {"settings": settings, "origin": {"signature": recogniser.signature()}}
    group_once(cache.root, folder / stream_key("whisper", settings), record)
    return Heard(recogniser, settings, cache.root, device)


def known_weights(cache: FeatureCache, recogniser: Recogniser) -> str:
    """The hash of its weights, where words were recognised with the same files before; else an empty string."""
    wanted = canonical([recogniser.settings(), recogniser.signature()])
    for path in sorted(cache.root.glob(f"{FOLDER}/*/zarr.json")):
        try:
            about = attributes(path.parent)
        except CorruptCache:
            continue  # written anew, if it is that of this recogniser
        settings = {k: v for k, v in about["settings"].items() if k != "weights"}
        if canonical([settings, about["origin"]["signature"]]) == wanted:
            return str(about["settings"]["weights"])
    return ""


def give_way(cache: FeatureCache, keys: Collection[str], recordings: Iterable[Recording]) -> list[str]:
    """Discard rows of recognised words where there is a transcript by now, to be made anew; returns those recordings.

    keys: of text streams. A recording at a time among all processes.
    """
    found = []
    for recording in recordings:
        if any(_superseded(cache, key, recording) for key in keys):
            with take_turn(cache.root, recording.id, wait=True):
                for key in [k for k in keys if _superseded(cache, k, recording)]:
                    discard(cache.root, cache.folder(key, recording.id))
            found.append(recording.id)
    return found


def _superseded(cache: FeatureCache, key: str, recording: Recording) -> bool:
    if recording.transcript is None or not cache.has(key, recording.id):
        return False
    return cache.commit_record(key, recording.id).get("source", {}).get("kind") == "recognised"


def _source(path: Path) -> dict[str, Any] | None:
    """What the words in that file were heard in; None where there is no such file, or it is damaged."""
    if not path.is_file() or sealed_fault(path):
        return None
    return dict(json.loads(path.read_bytes())["source"])
