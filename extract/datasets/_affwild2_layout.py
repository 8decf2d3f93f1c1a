"""Folders of Aff-Wild2's shape: annotation files name the trials, videos and crops are found by those names.

Editions differ in folder names, so the annotation folder is searched for: the one that holds ``Train_Set`` and
``Validation_Set`` and belongs to the valence-arousal challenge. ``<name>_left`` and ``<name>_right`` are two people
in one video: each has its own annotation and crops, and both share the media of ``<name>``.
"""

import csv
import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cache.errors import DataError, MissingData
from cache.records import Annotation, Partitions, Recording
from extract.datasets._base import Dataset
from extract.datasets._labels import read_labels
from extract.transcripts import find_transcript

_FOLDERS = {"Train_Set": "train", "Validation_Set": "validation", "Test_Set": "test"}
_VIDEO = {".mp4", ".avi", ".webm", ".mkv", ".mov"}


class Affwild2Layout(Dataset):
    """A corpus in Aff-Wild2's layout."""

    def __init__(self, root: Path, options: Any = None) -> None:
        super().__init__(root, options)
        if not self.root.is_dir():
            raise MissingData(f"no folder at {self.root}", hint="give the unpacked corpus: --root DIR (make: ROOT=DIR)")
        self.annotations = self._annotation_folder()
        self._partition_of = {
            file.stem: partition
            for folder, partition in _FOLDERS.items()
            for file in sorted((self.annotations / folder).glob("*.txt"))
        } | self._released_test_names()

    def _annotation_folder(self) -> Path:
        holders = [folder for folder, below, _ in self._walk() if {"Train_Set", "Validation_Set"} <= set(below)]
        chosen = sorted(h for h in holders if "VA" in h.name.split("_"))
        if not chosen:
            raise MissingData(
                f"{self.root} has no valence-arousal annotations: looked for a folder such as "
                "annotations/VA_Set or VA_Estimation_Challenge that holds Train_Set and Validation_Set",
                hint="unpack the edition's annotations below the root",
            )
        if len(chosen) > 1:
            raise DataError(
                f"{self.root} has {len(chosen)} sets of valence-arousal annotations: {', '.join(map(str, chosen))}",
                hint="leave one edition's below the root",
            )
        return chosen[0]

    def _released_test_names(self) -> dict[str, str]:
        names = "Valence_Arousal*test_set_release.txt"
        lists = sorted(f / n for f, _, files in self._walk() for n in fnmatch.filter(files, names))
        return {n.strip(): "test" for n in lists[-1].read_text().splitlines() if n.strip()} if lists else {}

    def recordings(self) -> list[Recording]:
        """One recording a trial that has an annotation file or is in the released test list."""
        videos, transcripts = self._media(), self.root / "transcripts"
        subjects = self._subjects()
        found = []
        for trial in sorted(self._partition_of):
            base = trial if trial in videos else trial.removesuffix("_left").removesuffix("_right")
            crops = self.root / "cropped_aligned" / trial
            found.append(
                Recording(
                    id=trial,
                    video=videos.get(base, self.root / "batch1" / f"{base}.mp4"),
                    transcript=find_transcript(transcripts, base),
                    crops=crops if crops.is_dir() else None,
                    subject=subjects.get(trial, ""),
                    group=base,
                )
            )
        return found

    def _media(self) -> dict[str, Path]:
        """Video files by stem, wherever they lie below the root but for the folders of pictures."""
        paths = (folder / name for folder, _, files in self._walk() for name in sorted(files))
        found: dict[str, Path] = {}
        for path in paths:
            if path.suffix.lower() in _VIDEO:
                found.setdefault(path.stem, path)
        return found

    def _walk(self) -> Iterator[tuple[Path, list[str], list[str]]]:
        """Folders, their folders and files, in order; millions of face crops are not listed."""
        for folder, below, files in os.walk(self.root):
            below[:] = sorted(b for b in below if not b.startswith("cropped"))
            yield Path(folder), below, files

    def _subjects(self) -> dict[str, str]:
        path = self.root / "subjects.csv"
        if not path.is_file():
            return {}
        with open(path, newline="", encoding="utf-8") as file:
            return {row["recording"]: row["subject"] for row in csv.DictReader(file)}

    def annotation(self, recording: Recording) -> Annotation | None:
        """Its rows, one a video frame; None for trials whose labels are not released."""
        for folder in _FOLDERS:
            path = self.annotations / folder / f"{recording.id}.txt"
            if path.is_file():
                return read_labels(path)
        return None

    def partitions(self) -> Partitions:
        """The split that the annotation folders spell."""
        return Partitions(dict(sorted(self._partition_of.items())), dict(sorted(self._subjects().items())))
