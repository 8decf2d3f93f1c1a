"""Where traces come from: the prediction files of a run, of an ensemble, or of a folder that ``predict`` wrote."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cache.errors import AffuseError, DataError, MissingData
from cache.ids import as_text, folder_of
from fuse.feeding.locked import LOG
from fuse.numbers.compare import seeds_of
from fuse.numbers.moments import read_moments
from fuse.prediction_files import F64, read_predictions, strayed

Pair = tuple[float, float]


@dataclass(frozen=True)
class Source:
    """Predictions in files. files: by file stem; scored: raw CCC of valence and arousal as the run left them, by id."""

    name: str
    folder: Path
    files: dict[str, Path]
    scored: dict[str, Pair]

    def has(self, recording: str) -> bool:
        """Whether it predicted that recording."""
        return folder_of(recording) in self.files

    def trace(self, recording: str, pts: F64) -> F64:
        """(valence, arousal) f64[T,2] on frames shown at ``pts`` f64[T] seconds.

        Raises DataError where the file is none of predictions, or its frames are others.
        """
        times, va = read_predictions(self.files[folder_of(recording)])
        if len(times) != len(pts):
            raise DataError(f"it predicts {len(times)} frames, the recording has {len(pts)}")
        if apart := strayed(times, pts):
            raise DataError(f"its frames are up to {apart:.3f} s away from the recording's")
        return va


def open_sources(paths: Sequence[Path]) -> tuple[Source, ...]:
    """Each folder once, in the order given; a run's path without ``-seedN`` stands for all its seeds.

    Raises MissingData where a folder holds no predictions.
    """
    folders = [*{f.resolve(): f for path in paths for f in seeds_of(path)}.values()]
    short = [f.resolve().name for f in folders]
    return tuple(_open(f, as_text(n if short.count(n) == 1 else str(f))) for f, n in zip(folders, short, strict=True))


def _open(folder: Path, name: str) -> Source:
    is_run = (folder / "predictions").is_dir() or (folder / "recipe.json").is_file()
    found = folder.glob("predictions/*/*.csv") if is_run else folder.glob("*.csv")
    files = {p.stem: p for p in sorted(found) if p.name != LOG}
    if not files:
        hint = "give a finished run's folder, or one that predict wrote"
        raise MissingData(f"there are no predictions in {folder}", hint=hint)
    return Source(name, folder, files, _scored(folder))


def _scored(folder: Path) -> dict[str, Pair]:
    """From what the run left when it was scored: no label is opened."""
    found = {}
    for path in sorted(folder.glob("statistics/*.csv")):
        one = read_moments(path, "raw")
        for recording, (valence, arousal) in zip(one.recordings, one.ccc().tolist(), strict=True):
            found[recording] = (valence, arousal)
    return found


def in_cache(source: Source, known: Sequence[str]) -> Source:
    """A source whose files have the names of the cache's recordings: new media are called NAME~HASH there.

    A file stays on its own where several recordings have its name.
    """
    named = [(folder_of(name), recording) for recording in known if (name := recording.rpartition("~")[0])]
    count = Counter(stem for stem, _ in named)
    loose = {stem: recording for stem, recording in named if count[stem] == 1}
    return replace(source, files={folder_of(loose[s]) if s in loose else s: p for s, p in source.files.items()})


def why_not(error: AffuseError) -> str:
    """An error as one line of text for the page."""
    return " ".join(as_text(str(error)).split())
