"""New media as recordings: files that belong to no corpus, what lies beside them, and names that tell them apart.

In a cache a recording is called by its name and a hash of what is in its files. Another file of the same name is
another recording, and a file that was changed is made anew; an old row is never taken for it.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from cache.errors import MissingData, UsageError
from cache.fingerprint import fingerprint
from cache.records import Recording
from extract.transcripts import READERS, find_transcript

_SOUND = {".aac", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma"}
_FILM = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")


def loose_recordings(media: Iterable[Path], transcript: Path | None = None) -> dict[str, Recording]:
    """A recording a file, by name: a film, sound alone, or a folder of face crops (with the film of its name beside).

    A transcript of a file's name is taken from beside it, or from the folder ``transcript``, which for a single
    recording may be the file itself. Raises UsageError where nothing is given, MissingData where ``transcript`` is not.
    """
    paths = [*{p.resolve(): p for p in media}.values()]
    if not paths:
        raise UsageError("no media is given", hint="give video files, or --partition NAME of a cache")
    if transcript is not None and not transcript.exists():
        raise MissingData(f"no transcript at {transcript}")
    if transcript is not None and transcript.is_file() and len(paths) > 1:
        told = f"one transcript is given for {len(paths)} recordings"
        raise UsageError(told, hint=f"give a folder of transcripts named like the media, e.g. NAME{[*READERS][3]}")
    return {name: _recording(name, path, transcript) for name, path in _named(paths).items()}


def _recording(name: str, path: Path, transcript: Path | None) -> Recording:
    words = _words(path, transcript)
    if path.is_dir():
        film = next((f for suffix in _FILM if (f := path.with_name(path.name + suffix)).is_file()), None)
        files = {"video": film, "crops": path}
    else:
        files = {"audio" if path.suffix.lower() in _SOUND else "video": path}
    about = [_content(f) for f in (*files.values(), words) if f]
    return Recording(id=f"{name}~{fingerprint(about)}", transcript=words, **files)


def _words(path: Path, transcript: Path | None) -> Path | None:
    stem = path.name if path.is_dir() else path.stem
    if transcript is None:
        return find_transcript(path.parent, stem)
    return find_transcript(transcript, stem) if transcript.is_dir() else transcript


def _content(path: Path) -> list[str]:
    """Suffix and hash of a file; of a folder those of its files."""
    if path.is_dir():
        return [part for f in sorted(path.iterdir()) if f.is_file() for part in (f.name, *_content(f))]
    if not path.is_file():
        return [path.name]
    with open(path, "rb") as file:
        return [path.suffix.lower(), hashlib.file_digest(file, "sha256").hexdigest()]


def _named(paths: list[Path]) -> dict[str, Path]:
    """All by their stems, where these differ, else by their file names, else with as many folders as it takes."""
    deepest = max(len(p.resolve().parts) for p in paths)
    spellings = ([_spelled(p, level) for p in paths] for level in range(deepest + 1))
    names = next(s for s in spellings if len(set(s)) == len(paths))
    return dict(zip(names, paths, strict=True))


def _spelled(path: Path, level: int) -> str:
    """The stem, or the last so many parts."""
    return "/".join(path.resolve().parts[-level:]) if level else path.name if path.is_dir() else path.stem
