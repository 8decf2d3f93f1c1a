"""Folders of Aff-Wild2's shape: annotation files name the trials, videos and crops are found by those names.

Editions differ in folder names, so the annotation folder is searched for: the one that holds ``Train_Set`` and
``Validation_Set`` and belongs to the valence-arousal challenge. ``<name>_left`` and ``<name>_right`` are two people
in one video: each has its own annotation and crops, and both share the media of ``<name>``. A trial whose video is not
there but whose crops are is a recording of crops alone.
"""

import fnmatch
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cache.errors import DataError, MissingData
from cache.records import Annotation, Partitions, Recording
from extract.datasets._base import Dataset
from extract.datasets._labels import read_labels
from extract.datasets._tables import read_table
from extract.transcripts import find_transcript

_FOLDERS = {"Train_Set": "train", "Validation_Set": "validation", "Test_Set": "test"}
_VIDEO = {".mp4", ".avi", ".webm", ".mkv", ".mov"}


class Affwild2Layout(Dataset):
    """A corpus in Aff-Wild2's layout."""

    def __init__(self, root: Path, options: Any = None) -> None:
        super().__init__(root, options)
        if not self.root.is_dir():
            raise MissingData(f"no folder at {self.root}", hint="give the unpacked corpus: --root DIR (make: ROOT=DIR)")
        self._tree = list(self._walk())
        self.annotations = self._annotation_folder()
        self._videos = self._media()
        self._partition_of = self._split()

    def _walk(self) -> Iterator[tuple[Path, list[str], list[str]]]:
        """Folders, their folders and files, in order; what macOS adds is left out, millions of crops are not listed."""
        for folder, below, files in os.walk(self.root):
            there = sorted(b for b in below if b != "__MACOSX")
            below[:] = [b for b in there if not b.startswith("cropped")]
            yield Path(folder), there, sorted(f for f in files if not f.startswith("."))

    def _annotation_folder(self) -> Path:
        holders = [folder for folder, below, _ in self._tree if {"Train_Set", "Validation_Set"} <= set(below)]
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

    def _split(self) -> dict[str, str]:
        """Partition by trial. Raises DataError where a trial is in two."""
        files = {folder: names for folder, _, names in self._tree}
        found = dict.fromkeys(self._released_test_names(), "test")
        for folder, partition in _FOLDERS.items():
            for name in fnmatch.filter(files.get(self.annotations / folder, []), "*.txt"):
                trial = name.removesuffix(".txt")
                if found.setdefault(trial, partition) != partition:
                    raise DataError(
                        f"{trial} is in {folder} of {self.annotations} and also in {found[trial]}",
                        hint="leave it in one: annotations and test list must be of one edition",
                    )
        return found

    def _released_test_names(self) -> list[str]:
        names = "Valence_Arousal*test_set_release.txt"
        lists = sorted(f / n for f, _, files in self._tree for n in fnmatch.filter(files, names))
        told = [[n.strip() for n in path.read_text(encoding="utf-8").splitlines() if n.strip()] for path in lists]
        if any(set(t) != set(told[0]) for t in told):
            raise DataError(
                f"{self.root} has {len(lists)} test lists that differ: {', '.join(map(str, lists))}",
                hint="leave one edition's below the root",
            )
        return told[0] if told else []

    def recordings(self) -> list[Recording]:
        """One recording a trial that has an annotation file or is in the released test list."""
        transcripts, subjects = self.root / "transcripts", self._subjects()
        found = []
        for trial in sorted(self._partition_of):
            base = trial if trial in self._videos else trial.removesuffix("_left").removesuffix("_right")
            crops, videos = self._crops(trial), self._videos.get(base, [])
            missing = None if crops else self.root / "batch1" / f"{base}.mp4"  # to be named by what looks for it
            found.append(
                Recording(
                    id=trial,
                    video=videos[0] if videos else missing,
                    transcript=find_transcript(transcripts, base),
                    crops=crops,
                    subject=subjects.get(trial, ""),
                    group=base,
                )
            )
        return found

    def _crops(self, trial: str) -> Path | None:
        """Aligned crops, wherever their folders lie; those that are not aligned only where the corpus has no others."""
        holders = [folder / b for folder, below, _ in self._tree for b in below if b.startswith("cropped")]
        aligned = [h for h in holders if h.name.startswith("cropped_aligned")]
        return next((h / trial for h in aligned or holders if (h / trial).is_dir()), None)

    def _media(self) -> dict[str, list[Path]]:
        """Video files by stem, wherever they lie below the root but for the folders of pictures."""
        found: dict[str, list[Path]] = defaultdict(list)
        for path in (folder / name for folder, _, files in self._tree for name in files):
            if path.suffix.lower() in _VIDEO:
                found[path.stem].append(path)
        return dict(found)

    def notes(self) -> list[str]:
        """Videos that are there twice."""
        used = {r.group for r in self.recordings()}
        paths = [p for stem, p in sorted(self._videos.items()) if stem in used and len(p) > 1]
        if not paths:
            return []
        named = " and ".join(str(p.relative_to(self.root)) for p in paths[0])
        return [f"{len(paths)} videos are there twice, such as {named}: the first is used"]

    def _subjects(self) -> dict[str, str]:
        path = self.root / "subjects.csv"
        if not path.is_file():
            return {}
        table = read_table(path)
        if not {"recording", "subject"} <= set(table.columns):
            raise DataError(
                f"{path} has the columns {', '.join(table.columns)}; wanted recording, subject",
                hint="name them so in its header",
            )
        at = [table.columns.index(c) for c in ("recording", "subject")]
        return {cells[at[0]]: cells[at[1]] for _, cells in table.rows}

    def annotation(self, recording: Recording) -> Annotation | None:
        """Its rows, one a video frame; None for trials whose labels are not released."""
        for folder in _FOLDERS:
            path = self.annotations / folder / f"{recording.id}.txt"
            if path.is_file():
                return read_labels(path)
        return None

    def partitions(self) -> Partitions:
        """The split that the annotation folders spell; people in one video are a group."""
        films = {r.id: r.group for r in self.recordings()}
        shared = Counter(films.values())
        groups = {trial: film for trial, film in films.items() if shared[film] > 1}
        return Partitions(dict(sorted(self._partition_of.items())), dict(sorted(self._subjects().items())), groups)
