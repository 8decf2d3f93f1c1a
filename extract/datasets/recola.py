"""RECOLA (Ringeval et al., FG workshops 2013): five minutes of each of up to 34 people, rated at 40 ms by six raters.

Licensed: ask its authors for it. Read as released (``RECOLA-Video-recordings``, ``RECOLA-Audio-recordings``,
``RECOLA-Annotation/emotional_behaviour``) and as packed for AVEC 2015, 2016 and 2018 (``recordings_video``,
``recordings_audio``, ``ratings_gold_standard`` or ``labels/gs_1``, ``ratings_individual``).

Where no gold standard is given it is computed from the raters. Labels keep their own times and are not shifted: the
raters' delay is for training to undo. The split is ``split.csv`` (recording,partition) in the root where there is one,
else what AVEC's file names say, else AVEC's nine, nine and nine people; others are in no partition.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import DataError, MissingData
from cache.records import Annotation, Partitions, Recording
from extract.datasets import DATASETS
from extract.datasets._base import Dataset
from extract.datasets._gold_standard import gold_standard
from extract.datasets._labels import as_annotation
from extract.datasets._tables import read_table
from extract.transcripts import find_transcript

_NAME = re.compile(r"P\d+|(train|dev|test)_\d+", re.IGNORECASE)
_MEDIA = {
    "RECOLA-Video-recordings": "video",
    "recordings_video": "video",
    "RECOLA-Audio-recordings": "audio",
    "recordings_audio": "audio",
}
_RATINGS = {
    "gold_standard": "gold",
    "ratings_gold_standard": "gold",
    "gs_1": "gold",
    "emotional_behaviour": "raters",
    "ratings_individual": "raters",
}
_SUFFIXES = {"video": (".mp4", ".avi", ".mov", ".mkv"), "audio": (".wav",), "ratings": (".csv", ".arff")}
_PARTITIONS = {"train": "train", "dev": "validation", "devel": "validation", "validation": "validation", "test": "test"}
_DIMENSIONS = ("valence", "arousal")
AVEC_SPLIT = Path(__file__).with_name("recola_avec_split.csv")


@DATASETS.register("recola")
class Recola(Dataset):
    """The direct release or an AVEC package."""

    def __init__(self, root: Path, options: Any = None) -> None:
        super().__init__(root, options)
        if not self.root.is_dir():
            raise MissingData(f"no folder at {self.root}", hint="give the unpacked corpus: --root DIR (make: ROOT=DIR)")
        self.files = dict(self._found())
        self.names = sorted({name for _, name in self.files})
        if not self.names:
            raise MissingData(
                f"{self.root} is not RECOLA: looked for folders such as RECOLA-Video-recordings and "
                "RECOLA-Annotation, or recordings_video and ratings_gold_standard, with files such as P16 or train_1",
                hint="unpack the recordings and the annotation below one root",
            )

    def _found(self) -> Iterator[tuple[tuple[str, str], Path]]:
        """((kind, recording), file) of every media and annotation file, wherever its folder lies below the root."""
        for folder, below, files in os.walk(self.root):
            below[:] = sorted(b for b in below if not b.startswith("cropped"))
            place = Path(folder)
            kind = _MEDIA.get(place.name, "")
            if place.name.lower() in _DIMENSIONS and place.parent.name in _RATINGS:
                kind = f"{_RATINGS[place.parent.name]} {place.name.lower()}"
            suffixes = _SUFFIXES.get(kind, _SUFFIXES["ratings"])
            for path in (place / f for f in sorted(files) if kind):
                if _NAME.fullmatch(path.stem) and path.suffix.lower() in suffixes:
                    yield (kind, path.stem), path

    def recordings(self) -> list[Recording]:
        """One a person. Sound comes from its own file where there is one."""
        found = []
        for name in self.names:
            video, audio = self.files.get(("video", name)), self.files.get(("audio", name))
            folder = self.root / "cropped_aligned" / name
            crops = folder if folder.is_dir() else None
            missing = self.root / "RECOLA-Video-recordings" / f"{name}.mp4"  # to be named by what looks for it
            found.append(
                Recording(
                    id=name,
                    video=video if video or audio or crops else missing,
                    audio=audio,
                    transcript=find_transcript(self.root / "transcripts", name),
                    crops=crops,
                    subject=name,
                )
            )
        return found

    def annotation(self, recording: Recording) -> Annotation | None:
        """The gold standard at its own times; None for people whose ratings are not released."""
        rated = [self._rated(recording.id, dimension) for dimension in _DIMENSIONS]
        valence, arousal = rated
        if valence is None and arousal is None:
            return None
        if valence is None or arousal is None:
            missing = _DIMENSIONS[0] if valence is None else _DIMENSIONS[1]
            raise MissingData(f"{recording.id} in {self.root} has no {missing} ratings, only the other dimension")
        if len(valence[0]) != len(arousal[0]) or not np.allclose(valence[0], arousal[0], atol=1e-3):
            raise DataError(
                f"{recording.id} in {self.root}: valence and arousal are rated at different times "
                f"({len(valence[0])} and {len(arousal[0])} rows)"
            )
        return as_annotation(np.stack([valence[1], arousal[1]], axis=1), valence[0], recording.id)

    def _rated(self, name: str, dimension: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
        """Times in seconds and the gold standard of one dimension."""
        gold, raters = (self.files.get((f"{kind} {dimension}", name)) for kind in ("gold", "raters"))
        path = gold or raters
        if path is None:
            return None
        table = read_table(path)
        times = [c for c in table.columns if c in ("time", "frametime")]
        rated = [c for c in table.columns if c not in ("time", "frametime", "instance_name", "name", "")]
        if len(times) != 1 or not rated:
            raise DataError(f"{path} has the columns {', '.join(table.columns)}; wanted a time and ratings")
        ratings = np.stack([table.numbers(c) for c in rated], axis=1)
        return table.numbers(times[0]), ratings[:, -1] if gold else gold_standard(ratings)

    def partitions(self) -> Partitions:
        """See the top of this file for where the split comes from."""
        given = self.root / "split.csv"
        by_name = {n: _PARTITIONS[m[1].lower()] for n in self.names if (m := _NAME.fullmatch(n)) and m[1]}
        of = _read_split(given) if given.is_file() else _read_split(AVEC_SPLIT) | by_name
        return Partitions({n: of[n] for n in self.names if n in of}, {n: n for n in self.names})


def _read_split(path: Path) -> dict[str, str]:
    table = read_table(path)
    if table.columns != ["recording", "partition"]:
        raise DataError(f"{path} has the columns {', '.join(table.columns)}; wanted recording,partition")
    for line, (_, partition) in table.rows:
        if partition.lower() not in _PARTITIONS:
            raise DataError(f"{path} line {line}: {partition!r} is none of {', '.join(_PARTITIONS)}")
    return {name: _PARTITIONS[partition.lower()] for _, (name, partition) in table.rows}
