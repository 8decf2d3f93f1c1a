"""Stage one: plan, then one recording at a time from files to committed streams, then labels."""

import csv
import logging
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from cache.commit import claim
from cache.errors import DataError, UsageError
from cache.ids import folder_of
from cache.progress import progress
from cache.records import MODALITIES, Recording
from cache.store import FeatureCache
from extract.asr import Recogniser
from extract.clock import nominal_fps
from extract.datasets import Dataset, open_dataset
from extract.faces import FaceCrops, face_crops
from extract.heard import give_way
from extract.index import check_same_corpus, index_labels
from extract.job import extract_recording
from extract.media import hardware_decoder
from extract.outcome import Failure, Outcome, failure
from extract.plan import Job, plan
from extract.recipe import ExtractRecipe, options_of
from extract.sizes import bytes_needed, check_room, size_of
from extract.source import changed_source
from extract.streams import Stream, Wanted, declare, want, want_boxes

log = logging.getLogger("affuse")
_ALIKE = 5  # so many recordings failing first, all for one cause, end the run: the cause is not theirs


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
    dataset, recordings, wanted = prepare(recipe)
    cache = FeatureCache.create(recipe.cache, recipe.dataset)
    check_same_corpus(dataset, cache)
    streams = {s.spec.key: s for s in (declare(cache, w, recipe.device) for w in wanted)}
    gave_way = give_way(cache, [key for key, s in streams.items() if s.heard], recordings)
    jobs, kept = plan(recordings, streams, cache.has)
    _check_room(jobs, streams, cache, recipe.dtype)
    outcomes, alike = _run_jobs(jobs, streams, cache, recipe, fresh=not kept, quiet=quiet)
    notes, label_failures = index_labels(dataset, cache)
    notes = [*dataset.notes(), *_notes(recordings, outcomes, streams), *notes]
    notes += [f"{r} has a transcript now: its rows of recognised words gave way" for r in gave_way]
    if recipe.fps and all(r.video for r in recordings):
        notes.append(f"every recording has a video, whose own frame times are used: --fps {recipe.fps:g} does nothing")
    failures = [f for o in outcomes.values() for f in o.failures] + label_failures
    failures += [*_changed(recordings, streams, outcomes, cache), *_other_rates(recordings, outcomes, cache, recipe)]
    _save_failures(cache.root / "failures.csv", failures)
    if alike:
        raise UsageError(f"the first {_ALIKE} recordings all failed: {failures[0].cause}", hint=failures[0].hint)
    made = sum(len(o.made) for o in outcomes.values())
    seconds = round(time.monotonic() - start, 2)
    return ExtractResult(str(cache.root), [*streams], len(recordings), made, kept, seconds, notes, failures)


def prepare(recipe: ExtractRecipe) -> tuple[Dataset, list[Recording], list[Wanted]]:
    """The corpus, its recordings, and the streams that are asked for. Raises on wrong recipes, roots and weights."""
    hardware_decoder(recipe.decode)
    dataset = open_dataset(recipe.dataset, recipe.root, recipe.dataset_options)
    recordings = dataset.recordings()
    if not recordings:
        raise UsageError(f"{recipe.root} holds no recording of {recipe.dataset}")
    wanted = list(_wanted(recipe, face_crops(recipe.faces, recipe.face_weights, recordings)))
    if not wanted:
        raise UsageError("no stream is asked for", hint="name one with --visual, --audio or --text")
    return dataset, recordings, wanted


def _check_room(jobs: list[Job], streams: dict[str, Stream], cache: FeatureCache, dtype: str) -> None:
    """Raises CacheError where the disk will not hold what the jobs will write."""
    sizes = {j.recording.id: size for j in jobs if (size := size_of(j.recording, cache)) is not None}
    specs = {key: stream.spec for key, stream in streams.items()}
    check_room(bytes_needed(jobs, specs, sizes, dtype).total, cache.root)


def _wanted(recipe: ExtractRecipe, faces: FaceCrops | None) -> Iterable[Wanted]:
    recogniser = Recogniser(recipe.recogniser, recipe.language) if recipe.recogniser else None
    how = {"align": recipe.align, "dtype": recipe.dtype, "decode": recipe.decode}
    for modality in MODALITIES:
        for text in getattr(recipe, modality):
            yield want(text, modality, options_of(recipe, text), **how, faces=faces, recogniser=recogniser)
    if faces:
        yield want_boxes(faces, recipe.decode)


def _run_jobs(
    jobs: list[Job], streams: dict[str, Stream], cache: FeatureCache, recipe: ExtractRecipe, *, fresh: bool, quiet: bool
) -> tuple[dict[str, Outcome], bool]:
    """What became of each recording, and whether a fresh run was stopped because its first ones all failed alike.

    What another process is at work on is left for last, and by then usually done.
    """
    outcomes: dict[str, Outcome] = {}
    with progress("extract", len(jobs), quiet=quiet) as step:
        for wait in (False, True):
            for job in [j for j in jobs if j.recording.id not in outcomes]:
                with claim(cache.root, folder_of(job.recording.id), wait=wait) as mine:
                    if not mine:
                        continue
                    left = [streams[k] for k in job.keys if not cache.has(k, job.recording.id)]
                    made = Outcome()
                    if left:
                        made = extract_recording(job.recording, left, cache, recipe.deadline_s, recipe.fps)
                    outcomes[job.recording.id] = made
                for failure in outcomes[job.recording.id].failures:
                    log.warning("%s", failure)
                step()
                if fresh and len(outcomes) == _ALIKE and _failed_alike(outcomes):
                    return outcomes, True
    return outcomes, False


def _failed_alike(outcomes: dict[str, Outcome]) -> bool:
    """Whether all recordings failed, made nothing, and for one cause, whatever files they speak of."""
    kinds = set()
    for recording, outcome in outcomes.items():
        if outcome.made or not outcome.failures:
            return False
        cause = re.sub(r"'[^']*'|\S*[/.]\S*|\d+", "", outcome.failures[0].cause)
        kinds.add(cause.replace(recording, ""))
    return len(kinds) == 1


def _changed(
    recordings: list[Recording], streams: dict[str, Stream], outcomes: dict[str, Outcome], cache: FeatureCache
) -> list[Failure]:
    """Streams committed earlier, from other files than the corpus has now."""
    found = (
        changed_source(recording, stream.spec, cache, recognised=stream.heard is not None)
        for recording in recordings
        for key, stream in streams.items()
        if cache.has(key, recording.id) and key not in outcomes.get(recording.id, Outcome()).made
    )
    return [failure for failure in found if failure]


def _other_rates(
    recordings: list[Recording], outcomes: dict[str, Outcome], cache: FeatureCache, recipe: ExtractRecipe
) -> list[Failure]:
    """Recordings with nothing left to do whose nominal frames are of another rate than this run's."""
    found = []
    for recording in recordings if recipe.fps else ():
        if recording.video is None and recording.id not in outcomes:
            try:
                nominal_fps(recording, cache.timelines.info(recording.id), recipe.fps)
            except DataError as error:
                found.append(failure(recording.id, "media", error))
    return found


def _notes(recordings: list[Recording], outcomes: dict[str, Outcome], streams: dict[str, Stream]) -> list[str]:
    """Remarks on media, what is absent throughout, and whether faces and whole frames are mixed."""
    notes = [remark for outcome in outcomes.values() for remark in outcome.remarks]
    for key in streams:
        without = [r for r, outcome in outcomes.items() if key in outcome.absent]
        if without:
            named = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
            notes.append(f"{key} is absent throughout in {len(without)} of {len(outcomes)} recordings: {named}")
    whole = [r for r in recordings if r.crops is None]
    if outcomes and 0 < len(whole) < len(recordings) and any(s.spec.modality == "visual" for s in streams.values()):
        notes.append(f"{len(whole)} of {len(recordings)} recordings have no face crops: their whole frames were used")
    untold = [r for r in recordings if r.transcript is None]
    heard = next((s.heard for s in streams.values() if s.heard), None)
    if outcomes and untold and heard is not None:
        which = f"{len(untold)} of {len(recordings)} recordings have no transcript"
        notes.append(f"{which}: their words are those that {heard.settings['recogniser']} recognised")
    return notes


def _save_failures(path: Path, failures: list[Failure]) -> None:
    path.unlink(missing_ok=True)
    if failures:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["recording", "stage", "cause", "hint"])
            writer.writeheader()
            writer.writerows(asdict(f) for f in failures)
