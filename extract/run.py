"""Stage one: plan, then one recording at a time from files to committed streams, then labels."""

import csv
import logging
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from cache.errors import AffuseError, CacheError, UsageError
from cache.progress import progress
from cache.records import MODALITIES
from cache.store import FeatureCache
from extract.datasets import open_dataset
from extract.index import index_labels
from extract.job import Outcome, extract_recording
from extract.plan import Job, plan
from extract.recipe import ExtractRecipe
from extract.streams import Stream, Wanted, declare, want

log = logging.getLogger("affuse")
_ALIKE = 5  # so many recordings failing first, all for one cause, end the run: the cause is not theirs


@dataclass(frozen=True)
class Failure:
    """A recording that could not be done, and why."""

    recording: str
    cause: str


@dataclass(frozen=True)
class ExtractResult:
    """What a run did. made, kept: (recording, stream) pairs; notes: what a user should know, a line each."""

    cache: str
    streams: list[str]
    recordings: int
    made: int
    kept: int
    seconds: float
    notes: list[str]
    failures: list[Failure]


def run_extract(recipe: ExtractRecipe, *, quiet: bool = False) -> ExtractResult:
    """Extract what is missing. Raises on wrong recipes, roots and weights; single bad recordings are reported."""
    start = time.monotonic()
    dataset = open_dataset(recipe.dataset, recipe.root, recipe.dataset_options)
    recordings = dataset.recordings()
    if not recordings:
        raise UsageError(f"{recipe.root} holds no recording of {recipe.dataset}")
    wanted = list(_wanted(recipe))
    cache = FeatureCache.create(recipe.cache, recipe.dataset)
    streams = {s.spec.key: s for s in (declare(cache, w, recipe.device) for w in wanted)}
    jobs, kept = plan(recordings, streams, cache.has)
    notes, failures = _run_jobs(jobs, streams, cache, quiet)
    label_notes, label_failures = index_labels(dataset, cache)
    notes += label_notes
    failures += [Failure(*f) for f in label_failures]
    _save_failures(cache.root / "failures.csv", failures)
    failed = {f.recording for f in failures}
    made = sum(len(j.keys) for j in jobs if j.recording.id not in failed)
    seconds = round(time.monotonic() - start, 2)
    return ExtractResult(str(cache.root), [*streams], len(recordings), made, kept, seconds, notes, failures)


def _wanted(recipe: ExtractRecipe) -> Iterable[Wanted]:
    for modality in MODALITIES:
        for name in getattr(recipe, modality):
            options = recipe.encoders.get(name, {})
            yield want(name, modality, options, align=recipe.align, dtype=recipe.dtype)


def _run_jobs(
    jobs: list[Job], streams: dict[str, Stream], cache: FeatureCache, quiet: bool
) -> tuple[list[str], list[Failure]]:
    """Notes and failures of all jobs; one bad recording never stops the others."""
    failures: list[Failure] = []
    outcomes: dict[str, Outcome] = {}
    with progress("extract", len(jobs), quiet=quiet) as step:
        for done, job in enumerate(jobs, start=1):
            try:
                chosen = [streams[k] for k in job.keys]
                outcomes[job.recording.id] = extract_recording(job.recording, chosen, cache)
            except CacheError:
                raise  # the cache itself cannot be written: no other recording would fare better
            except (AffuseError, OSError, RuntimeError, ValueError) as error:
                failures.append(Failure(job.recording.id, " ".join(str(error).split())))
                log.warning("%s: %s", job.recording.id, failures[-1].cause)
                if len(failures) == done == _ALIKE and len({_kind(f) for f in failures}) == 1:
                    raise UsageError(f"the first {_ALIKE} recordings all failed: {failures[0].cause}") from error
            step()
    return _notes(outcomes, streams), failures


def _notes(outcomes: dict[str, Outcome], streams: Iterable[str]) -> list[str]:
    """Remarks on media, and for each stream how many recordings have nothing of it."""
    notes = [remark for outcome in outcomes.values() for remark in outcome.remarks]
    for key in streams:
        without = [r for r, outcome in outcomes.items() if key in outcome.absent]
        if without:
            named = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
            notes.append(f"{key} is absent throughout in {len(without)} of {len(outcomes)} recordings: {named}")
    return notes


def _kind(failure: Failure) -> str:
    """A cause without the file and recording it speaks of."""
    return re.sub(r"\S*/\S*", "", failure.cause).replace(failure.recording, "")


def _save_failures(path: Path, failures: list[Failure]) -> None:
    path.unlink(missing_ok=True)
    if failures:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["recording", "cause"])
            writer.writeheader()
            writer.writerows(asdict(f) for f in failures)
