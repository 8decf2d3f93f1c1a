"""What is wrong with a corpus, before any GPU hour: each recording by itself, then what is wrong between them."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cache.errors import UsageError
from cache.progress import progress
from cache.records import Partitions, Recording
from extract.datasets import open_dataset
from extract.examine import examine
from extract.finding import READING, Examined, Finding, Severity
from extract.recipe import ExtractRecipe

if TYPE_CHECKING:
    from rich.table import Table

_ORDER = {"fault": 0, "warning": 1, "note": 2}
_USUAL = ("train", "validation", "test")
_OF_SOME: dict[
    str, tuple[Severity, str]
] = {  # what of a recording may be None, and what that means where others have it
    "crops": ("warning", "recordings have no face crops: whole frames would be encoded"),
    "transcript": ("note", "recordings have no transcript: their text is absent"),
}
_SHOWN = 5  # findings of one kind that the table spells out


@dataclass(frozen=True)
class Diagnosis:
    """A corpus examined. rows, invalid: annotation rows of all recordings; findings: the worst first."""

    dataset: str
    root: str
    recordings: int
    frames: int
    hours: float
    rows: int
    invalid: int
    faults: int
    findings: list[Finding]


def run_doctor(recipe: ExtractRecipe, *, quiet: bool = False) -> Diagnosis:
    """Read every file of a corpus once. Raises for a wrong root or option; whatever is wrong inside is a finding."""
    dataset = open_dataset(recipe.dataset, recipe.root, recipe.dataset_options)
    recordings = dataset.recordings()
    if not recordings:
        raise UsageError(f"{recipe.root} holds no recording of {recipe.dataset}")
    seen: list[Examined] = []
    with progress("doctor", len(recordings), quiet=quiet) as step:
        for recording in recordings:
            seen.append(examine(recording, dataset, recipe.fps))
            step()
    split = dataset.partitions()
    findings = [Finding("warning", "corpus", "", note) for note in dataset.notes()]
    findings += [f for s in seen for f in s.findings]
    findings += [*_between(recordings, split), *_labels(seen, split)]
    findings.sort(key=lambda f: (_ORDER[f.severity], f.check, f.recording))
    faults = sum(f.severity == "fault" for f in findings)
    frames, hours = sum(s.frames for s in seen), round(sum(s.seconds for s in seen) / 3600, 3)
    rows, invalid = sum(s.rows for s in seen), sum(s.invalid for s in seen)
    return Diagnosis(recipe.dataset, str(recipe.root), len(recordings), frames, hours, rows, invalid, faults, findings)


def _between(recordings: list[Recording], split: Partitions) -> Iterator[Finding]:
    """What no recording shows by itself: subjects and media in two partitions, copies, who is in no partition."""
    subjects: dict[str, set[str]] = defaultdict(set)
    for recording in recordings:
        partition, subject = split.of.get(recording.id), split.subjects.get(recording.id, recording.subject)
        if partition and subject:
            subjects[subject].add(partition)
    for subject, partitions in sorted(subjects.items()):
        if len(partitions) > 1:
            told = f"subject {subject!r} is in {' and '.join(sorted(partitions))}"
            yield Finding("fault", "subject-in-two-partitions", "", told)
    yield from _copies(recordings, split)
    yield from _memberships(recordings, split)


def _labels(seen: list[Examined], split: Partitions) -> Iterator[Finding]:
    rows, invalid = sum(s.rows for s in seen), sum(s.invalid for s in seen)
    without = [s.recording for s in seen if not s.rows and split.of.get(s.recording) in _USUAL[:2]]
    if not rows:
        yield Finding("warning", "no-labels", "", "no recording has labels: nothing can be trained or scored")
    elif without:
        told = f"{_some(without)} of train and validation have no labels that can be read"
        yield Finding("warning", "no-labels", "", told)
    if invalid:
        told = f"{invalid / rows:.1%} of {rows} annotation rows are invalid (-5 or empty) and masked"
        yield Finding("note", "invalid-labels", "", told)


def _memberships(recordings: list[Recording], split: Partitions) -> Iterator[Finding]:
    for recording in recordings:
        partition = split.of.get(recording.id)
        if not partition:
            yield Finding("warning", "no-partition", recording.id, "in no partition: neither trained on nor scored")
        elif partition not in _USUAL:
            told = f"its partition is called {partition!r}; training looks for {', '.join(_USUAL)}"
            yield Finding("warning", "partition-name", recording.id, told)
    for what, (severity, told) in _OF_SOME.items():
        without = [r.id for r in recordings if getattr(r, what) is None and r.video is not None]
        if without and len(without) < len(recordings):
            yield Finding(severity, f"no-{what}", "", f"{_some(without)} of {len(recordings)} {told}")


def _some(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _copies(recordings: list[Recording], split: Partitions) -> Iterator[Finding]:
    """One file used by two recordings is no copy (two people in one video), but must not lie in two partitions."""
    users: dict[Path, list[str]] = defaultdict(list)
    for recording in recordings:
        for path in {p for p in (recording.video, recording.audio) if p is not None}:
            users[path].append(recording.id)
    for paths in _alike(list(users)):
        names = sorted({r for p in paths for r in users[p]})
        partitions = sorted({split.of[n] for n in names if n in split.of})
        where = f", in {' and '.join(partitions)}" if len(partitions) > 1 else ""
        if len(paths) > 1 and len(names) > 1:
            told = f"the same bytes as {', '.join(names[1:3])}{' ...' if len(names) > 3 else ''}{where}"
            severity: Severity = "fault" if where else "warning"
            yield Finding(severity, "duplicate-media", names[0], told)
        elif where:
            yield Finding("warning", "media-in-two-partitions", names[0], f"shares its file with {names[1]}{where}")


def _alike(paths: list[Path]) -> list[list[Path]]:
    """Paths by content. Only files of one size are read to be compared."""
    sizes: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        if path.is_file():
            sizes[path.stat().st_size].append(path)
    groups: dict[tuple[int, str], list[Path]] = defaultdict(list)
    for size, same in sizes.items():
        for path in same:
            groups[size, _digest(path) if len(same) > 1 and size else str(path)].append(path)
    return list(groups.values())


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except READING:
        return str(path)  # what cannot be read is told by examine


def diagnosis_table(found: Diagnosis) -> "Table":
    """The findings for a terminal; of many alike the first few."""
    from rich import box
    from rich.table import Table

    rows = f"{found.rows} annotation rows"
    title = f"{found.root}: {found.recordings} recordings, {found.hours:.2f} h, {found.frames} frames, {rows}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    table.add_column("recording", max_width=22, overflow="fold")
    table.add_column("what", overflow="fold")
    kinds: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in found.findings:
        kinds[finding.severity, finding.check].append(finding)
    for (severity, check), alike in kinds.items():
        for finding in alike[:_SHOWN]:
            table.add_row(severity, finding.recording or "(corpus)", finding.detail)
        if len(alike) > _SHOWN:
            table.add_row(severity, f"+ {len(alike) - _SHOWN} more", f"of {check}; all of them with --json")
    if not found.findings:
        table.add_row("", "", "nothing is wrong")
    return table
