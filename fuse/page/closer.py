"""A closer look at one run: its hardest recordings, and, where labels are at hand, how its errors are spread."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from markupsafe import Markup

from cache.errors import AffuseError
from cache.ids import as_text, folder_of
from fuse.elsewhere import F64
from fuse.numbers.metrics import ccc_va
from fuse.numbers.moments import Moments, read_moments
from fuse.page.findings import SECTORS, Bin, OfRecording, Region, calibration, of_recordings, regions
from fuse.page.look import Seen, look
from fuse.page.pictures import COLOURS, calibration_picture, region_picture, scatter_picture, trace_picture
from fuse.page.source import Source


@dataclass(frozen=True)
class Trace:
    """One recording's picture. which: best, median or hardest."""

    which: str
    name: str
    picture: str
    valence: float
    arousal: float


@dataclass(frozen=True)
class Spread:
    """What needs labels. frames: labelled ones; sectors: of the circumplex, each within the ring and beyond."""

    frames: int
    traces: list[Trace]
    scatter: str
    calibration: Markup
    bins: dict[str, list[Bin]]
    circumplex: Markup
    sectors: list[tuple[Region, Region]]

    @property
    def by_bin(self) -> list[tuple[Bin, ...]]:
        """The same bin of each dimension side by side."""
        return list(zip(*self.bins.values(), strict=True))


@dataclass(frozen=True)
class Closer:
    """One row's first seed on a partition. chosen: why this one. names: what each recording is called here; hardest
    first, as recordings are.

    others: by recording, the median of its mean CCC over all runs; empty where they were scored on other recordings.
    lacking: why there is no spread, else empty.
    """

    label: str
    run: str
    chosen: str
    recordings: list[OfRecording]
    names: dict[str, str]
    others: dict[str, float]
    spread: Spread | None
    lacking: str


def look_closer(source: Source, partition: str, *, anonymous: bool) -> Closer:
    """At the first seed of the row that validation says is best. Labels of ``test`` are opened once, and counted by
    each run that is in it.
    """
    row = source.table.rows[source.best]
    folder = Path(row.folders[0])
    found = of_recordings(_moments(folder, partition))
    names = {r.recording: f"recording {i}" if anonymous else as_text(r.recording) for i, r in enumerate(found, 1)}
    lacking, spread = "", None
    try:
        spread = _spread(look(folder, source.predicted, partition), found, names)
    except AffuseError as error:  # a report says what it lacks, and is written all the same
        lacking = told(str(error), names)
    chosen = "is best on validation" if row.validation.values else "comes first, as none was scored on validation"
    return Closer(row.label, folder.name, chosen, found, names, _others(source, partition), spread, lacking)


def told(text: str, names: dict[str, str]) -> str:
    """Text that may quote recordings, or name their files, with what they are called here."""
    for recording, name in names.items():
        text = text.replace(repr(recording), repr(name)).replace(f"/{folder_of(recording)}.csv", f"/ of {name}")
    return text


def _moments(folder: Path, partition: str) -> Moments:
    return read_moments(folder / "statistics" / f"{partition}.csv", "raw")


def _others(source: Source, partition: str) -> dict[str, float]:
    """Over all runs that are no controls; what is hard for all of them is the recording's, not the model's."""
    rows = [row for row in source.table.rows if not row.control]
    each = [{r.recording: r.mean for r in of_recordings(_moments(Path(f), partition))} for w in rows for f in w.folders]
    if len(each) < 2 or any(e.keys() != each[0].keys() for e in each):
        return {}
    return {r: median(e[r] for e in each) for r in each[0]}


def _spread(seen: dict[str, Seen], found: Sequence[OfRecording], names: dict[str, str]) -> Spread:
    shown = {"hardest": found[0], "median": found[len(found) // 2], "best": found[-1]}
    first = {r.recording: which for which, r in reversed(shown.items())}  # each once, where there are few
    traces = [_trace(which, names[r], seen[r]) for r, which in first.items()]
    pred, true = (np.concatenate(parts) for parts in zip(*map(_labelled, seen.values()), strict=True))
    bins = {name: calibration(pred[:, i], true[:, i]) for i, name in enumerate(COLOURS)}
    where = regions(pred, true)
    return Spread(
        frames=len(pred),
        traces=traces,
        scatter=scatter_picture(pred, true),
        calibration=calibration_picture(bins),
        bins=bins,
        circumplex=region_picture(where),
        sectors=list(zip(where[: len(SECTORS)], where[len(SECTORS) :], strict=True)),
    )


def _labelled(seen: Seen) -> tuple[F64, F64]:
    on = seen.labels.labelled
    return seen.pred[on], seen.labels.va[on].astype(np.float64)


def _trace(which: str, name: str, seen: Seen) -> Trace:
    scores = ccc_va(seen.pred, seen.labels.va, seen.labels.labelled)
    return Trace(which, name, trace_picture(seen, scores), scores.valence, scores.arousal)
