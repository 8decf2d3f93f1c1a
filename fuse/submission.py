"""Files as challenges want them: ABAW's one file after a template, or one file a video as in its earlier editions.

The template is the organisers' sample: ``image_location,valence,arousal``, then ``<video>/00001.jpg,...``, a row for
each frame that is scored. It defines the rows and their order. Its numbers are ignored. Frame numbers count from 1.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.errors import DataError, MissingData, UsageError
from cache.ids import recording_of
from fuse.feeding.locked import LOCKED
from fuse.finished import load_run
from fuse.numbers.postprocess import postprocess
from fuse.prediction_files import F64, prediction_file, read_predictions

HEADER = "image_location,valence,arousal"
PER_VIDEO_HEADER = "valence,arousal"
TOLERANCE = 2  # frames that Aff-Wild2's counts, taken from headers, exceed the frames that can be decoded by
_FRAME = re.compile(r"(.+)/(\d+)\.(?:jpg|jpeg|png)", re.IGNORECASE)


@dataclass(frozen=True)
class Submission:
    """What was written. held: rows beyond a video's last frame, which hold its value; clipped: values into [-1, 1]."""

    path: str
    rows: int
    videos: int
    held: int
    clipped: int


def submit_one(source: Path, template: Path, out: Path, tolerance: int = TOLERANCE) -> Submission:
    """One file with the template's rows, in its order, read back and compared with it before it is there.

    source: a folder of prediction files, or a run, see ``predictions_of``.

    Raises MissingData naming the videos without predictions, DataError where the template has more than ``tolerance``
    frames too many for a video, or is no template.
    """
    rows = read_template(template)
    predictions = predictions_of(source, dict.fromkeys(video for _, video, _ in rows))
    beyond = _beyond(rows, predictions)
    if beyond and max(beyond.values()) > tolerance:
        worst = max(beyond, key=beyond.__getitem__)
        told = f"{template} has frames of {worst!r} up to {beyond[worst]} beyond its last predicted one"
        raise DataError(
            f"{told} ({len(predictions[worst])}); at most {tolerance} are taken from the last",
            hint="get the video anew and extract it again, or allow more: --tolerance N",
        )
    values = np.array([predictions[v][min(n, len(predictions[v])) - 1] for _, v, n in rows])
    held = sum(n > len(predictions[v]) for _, v, n in rows)
    lines = (f"{place},{v:.6f},{a:.6f}" for (place, _, _), (v, a) in zip(rows, np.clip(values, -1, 1), strict=True))
    _write_checked(out, [HEADER, *lines], [place for place, _, _ in rows])
    return Submission(str(out), len(rows), len(predictions), held, int((np.abs(values) > 1).sum()))


def submit_per_video(source: Path, names: Path | None, out: Path) -> Submission:
    """A file a video, ``<video>.txt``: header ``valence,arousal``, then a row a frame.

    names: a list of videos, one a line, as the organisers release it; without one, all that is predicted.
    """
    wanted = None if names is None else [n.strip() for n in names.read_text(encoding="utf-8-sig").split("\n")]
    predictions = predictions_of(source, None if wanted is None else [n for n in wanted if n])
    clipped = rows = 0
    for video, values in predictions.items():
        if "/" in video or video in (".", ".."):
            raise DataError(f"{video!r} cannot be the name of a file", hint="give the recording another id")
        lines = [f"{v:.6f},{a:.6f}" for v, a in np.clip(values, -1, 1)]
        _write_checked(out / f"{video}.txt", [PER_VIDEO_HEADER, *lines], None)
        rows, clipped = rows + len(values), clipped + int((np.abs(values) > 1).sum())
    return Submission(str(out), rows, len(predictions), 0, clipped)


def read_template(path: Path) -> list[tuple[str, str, int]]:
    """(image location, video, frame number from 1 on) of each row. Raises MissingData or DataError with the line."""
    if not path.is_file():
        raise MissingData(f"no template at {path}", hint="give --template the sample file that the organisers ship")
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    if not lines or lines[0].replace(" ", "") != HEADER:
        raise DataError(f"{path} begins with {lines[0][:80] if lines else 'nothing'!r}, wanted {HEADER}")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        place = line.partition(",")[0]
        match = _FRAME.fullmatch(place)
        if match is None or int(match[2]) < 1:
            raise DataError(f"{path} line {number} is {line[:80]!r}; wanted VIDEO/00001.jpg,... counted from 1")
        rows.append((place, match[1], int(match[2])))
    if not rows:
        raise DataError(f"{path} has no rows")
    return rows


def predictions_of(source: Path, videos: Iterable[str] | None) -> dict[str, F64]:
    """(valence, arousal) f64[T,2] of these videos, or of all there are.

    Files of a folder are taken as they are. A run's own predictions of test are raw, and are smoothed here as the run
    was scored. Raises MissingData naming the videos without a file.
    """
    if not source.is_dir():
        raise MissingData(f"no folder at {source}", hint="give a folder that predict wrote, or a run's")
    is_run = (source / "recipe.json").is_file()
    folder = source / "predictions" / LOCKED if is_run else source
    if videos is None:
        videos = [*_videos(folder)]
    files = {video: prediction_file(folder, video) for video in videos}
    lacking = [video for video, path in files.items() if not path.is_file()]
    if lacking or not files:
        named = ", ".join(lacking[:20]) + (", ..." if len(lacking) > 20 else "")
        raise MissingData(
            f"{folder} has no predictions" + (f" of {len(lacking)} of {len(files)} videos: {named}" if files else ""),
            hint="make them with: python cli.py predict RUN --cache DIR --partition test, and submit that folder",
        )
    found = {video: read_predictions(path)[1] for video, path in files.items()}
    return _smoothed(source, found) if is_run else found


def _smoothed(source: Path, found: dict[str, F64]) -> dict[str, F64]:
    run = load_run(source)
    if run.recipe.interpolate:
        hint = "python cli.py predict RUN --cache DIR --partition test bridges them; submit the folder that it writes"
        raise UsageError("the run bridges frames without a face, which its prediction files do not tell", hint=hint)
    return postprocess(found, run.width)


def _videos(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.csv")):
        video = recording_of(path.stem)
        if video is None:
            raise DataError(f"{path} stands for a name that is too long to be in it", hint="name the videos in a list")
        yield video


def _beyond(rows: list[tuple[str, str, int]], predictions: dict[str, F64]) -> dict[str, int]:
    """How many frames each video's highest number lies beyond its last predicted frame, of those that do."""
    highest: dict[str, int] = {}
    for _, video, number in rows:
        highest[video] = max(number, highest.get(video, 0))
    surplus = {video: number - len(predictions[video]) for video, number in highest.items()}
    return {video: count for video, count in surplus.items() if count > 0}


def _write_checked(path: Path, lines: list[str], places: list[str] | None) -> None:
    """Write, read back, compare, and only then give the file its name.

    places: what the first column has to be, where there is one. Raises DataError where the file is not what it should.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    back = part.read_text(encoding="utf-8").split("\n")[:-1]
    cells = [line.split(",") for line in back[1:]]
    wanted = [[place] for place in places] if places is not None else [[]] * (len(lines) - 1)
    numbers = [float(c) for row in cells for c in row[-2:]]
    if back[0] != lines[0] or [row[:-2] for row in cells] != wanted:
        raise DataError(f"{part} is not, row by row, what was to be written", hint="is the disk full or damaged?")
    if not all(math.isfinite(n) and -1 <= n <= 1 for n in numbers):
        raise DataError(f"{part} has values that are no numbers in [-1, 1]", hint="look at the prediction files")
    part.replace(path)


def submission_lines(made: Submission) -> list[str]:
    """What was written, and what was done to values."""
    lines = [f"{made.rows:,} rows of {made.videos} videos in {made.path}, read back and compared"]
    lines += [f"{made.held} rows lie beyond a video's last frame and hold its value"] if made.held else []
    return [*lines, f"{made.clipped} values were clipped to [-1, 1]"] if made.clipped else lines
