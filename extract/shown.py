"""What a corpus adds to what is viewed: the file of each recording that plays, and its words at their times."""

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cache.errors import DataError, MissingData
from cache.ids import folder_of
from cache.records import Recording
from cache.store import FeatureCache
from extract.datasets import open_dataset
from extract.heard import FOLDER
from extract.source import check_unchanged
from extract.transcripts import find_transcript, read_transcript

LOOSE = "media"  # a folder of films that belong to no corpus


@dataclass(frozen=True)
class Shown:
    """What plays of each recording. media: its film, or its sound; sound: its sound, where the film has another file.

    transcripts: of those that have one; notes: what is left out, and why.
    """

    cache: FeatureCache
    media: dict[str, Path]
    sound: dict[str, Path]
    transcripts: dict[str, Path]
    notes: list[str]

    def words(self, recording: str) -> list[tuple[str, float, float]]:
        """(text, start, end in seconds) of the corpus's transcript; without one, of what was recognised in the cache.

        Raises DataError for a transcript that cannot be read.
        """
        path = self.transcripts.get(recording) or self._heard(recording)
        return [(u.text, u.start, u.end) for u in read_transcript(path)] if path else []

    def _heard(self, recording: str) -> Path | None:
        found = sorted(self.cache.root.glob(f"{FOLDER}/whisper-*/{folder_of(recording)}.json"))
        return found[0] if found else None


def shown(cache: FeatureCache, dataset: str, root: Path | None, options: Mapping[str, Any]) -> Shown:
    """Media and transcripts of a corpus below ``root``, or of a folder of films (``media``); none without a root.

    A file that is not the one the cache's frame times were read from is left out: traces would not belong to it.
    Raises MissingData where the root is not of that corpus.
    """
    if root is None:
        return Shown(cache, {}, {}, {}, [])
    found = (
        _loose(root, cache)
        if dataset == LOOSE
        else {r.id: r for r in open_dataset(dataset, root, options).recordings()}
    )
    files: dict[str, list[Path]] = {}
    notes: list[str] = []
    for name, recording in found.items():
        try:
            check_unchanged(recording, cache)
            files[name] = [p for p in (recording.video, recording.audio) if p and p.is_file()]
        except DataError as error:
            notes.append(f"{name} is shown without its media: {error.message}")
    media = {name: some[0] for name, some in files.items() if some}
    sound = {name: some[1] for name, some in files.items() if len(some) > 1}
    words = {n: r.transcript for n, r in found.items() if r.transcript and r.transcript.is_file()}
    return Shown(cache, media, sound, words, notes)


def usual_root(dataset: str) -> Path | None:
    """Where a corpus usually lies, if it is there: ``data/NAME``, or where ``demo`` wrote it."""
    usual = (Path("data") / dataset, Path("var") / dataset / "corpus") if dataset else ()
    return next((p for p in usual if p.is_dir()), None)


def _loose(root: Path, cache: FeatureCache) -> dict[str, Recording]:
    """Films and sound by their stems and names, as ``predict`` calls them, and as its cache does: NAME~HASH."""
    if not root.is_dir():
        raise MissingData(f"there is no folder {root}", hint="give --root the folder that has the media")
    kinds = {p: (mimetypes.guess_type(p.name)[0] or "").partition("/")[0] for p in sorted(root.iterdir())}
    named = {
        name: Recording(name, video=path, transcript=find_transcript(root, path.stem))
        for path, kind in kinds.items()
        if kind in ("video", "audio")
        for name in (path.stem, path.name)
    }
    kept = {r: named[n] for r in cache.timelines.recordings() if (n := r.rpartition("~")[0]) in named}
    return {**named, **{r: replace(recording, id=r) for r, recording in kept.items()}}
