"""Stage one: plan, then every recording from files to committed streams, then labels."""

import math
import re
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from cache.care.heal import clear_damaged
from cache.commit import at_work
from cache.errors import UsageError
from cache.progress import progress
from cache.records import Recording
from cache.remote import remote_of
from cache.room import mirror_bytes
from cache.store import FeatureCache
from cache.tables import publish_table
from extract.bench import Bench, wanted_of
from extract.datasets import Dataset, open_dataset
from extract.executor import extracted
from extract.faces import face_crops
from extract.heard import give_way
from extract.index import check_same_corpus, index_labels
from extract.media import hardware_decoder
from extract.notes import changed_media, healed_notes, media_notes, other_rates
from extract.outcome import Failure, Outcome
from extract.plan import Job, plan
from extract.recipe import ExtractRecipe
from extract.sizes import Size, bytes_needed, check_room, size_of
from extract.spent import Spent, bottleneck, rounded
from extract.streams import Stream, Wanted, declare
from extract.underway import Underway

FAILURES = "failures.csv"
GAVE_WAY = "has a transcript now: its rows of recognised words gave way"
LABELS_EVERY_S = 600.0  # so that training can begin on what is there
_ALIKE = 5  # so many recordings failing first, all for one cause, end the run: the cause is not theirs
Prepared = tuple[Dataset, list[Recording], list[Wanted]]


@dataclass(frozen=True)
class ExtractResult:
    """What a run did. made, kept: (recording, stream) pairs; notes: what a user should know, a line each.

    spent: where the time went, of all workers; bottleneck: what held the run up, in words.
    """

    cache: str
    streams: list[str]
    recordings: int
    made: int
    kept: int
    seconds: float
    notes: list[str]
    failures: list[Failure]
    spent: Spent
    bottleneck: str


def run_extract(recipe: ExtractRecipe, *, quiet: bool = False) -> ExtractResult:
    """Extract what is missing. Raises on wrong recipes, roots and weights; single bad recordings are reported."""
    return run_prepared(recipe, prepare(recipe), quiet=quiet)


def run_prepared(recipe: ExtractRecipe, prepared: Prepared, *, quiet: bool = False) -> ExtractResult:
    """As ``run_extract``, for recordings and streams that are known; of the recipe only where and how they are made."""
    start = time.monotonic()
    cache = FeatureCache.create(recipe.cache, recipe.dataset)
    with at_work(cache.root):  # so that nothing is pruned meanwhile
        return _run(recipe, prepared, cache, start, quiet)


def _run(recipe: ExtractRecipe, prepared: Prepared, cache: FeatureCache, start: float, quiet: bool) -> ExtractResult:
    dataset, recordings, wanted = prepared
    check_same_corpus(dataset, cache)
    streams = {s.spec.key: s for s in (declare(cache, w, recipe.device) for w in wanted)}
    healed = clear_damaged(cache, [*streams], [r.id for r in recordings])
    gave_way = give_way(cache, [key for key, s in streams.items() if s.heard], recordings)
    jobs, kept = plan(recordings, streams, cache.has, cache.timelines.has)
    sizes = _check_room(jobs, streams, cache, recipe.dtype)
    outcomes: dict[str, Outcome] = {}
    found: list[Failure] = []
    alike = False
    try:
        publish_table(cache.root, cache.root / FAILURES, [])
        label = _every(LABELS_EVERY_S, lambda: index_labels(dataset, cache))
        bench = Bench(cache, streams, recipe.deadline_s, recipe.fps)
        underway = Underway(jobs, sizes, bench.watch)
        shown = progress("extract", len(jobs), quiet=quiet, whole=underway.whole, below=underway.lines)
        with shown as step, closing(extracted(jobs, recipe, bench)) as ended:
            for recording, outcome in ended:
                outcomes[recording] = outcome
                step(*underway.end(recording, outcome.spent))
                alike = not kept and len(outcomes) == _ALIKE and _failed_alike(outcomes)
                if alike:
                    break
                label()
        notes, label_failures = index_labels(dataset, cache)
        found += [*label_failures, *changed_media(recordings, streams, outcomes, cache)]
        found += other_rates(recordings, outcomes, cache, recipe)
    finally:  # whatever ends the run
        failures = [*(f for o in outcomes.values() for f in o.failures), *found]
        publish_table(cache.root, cache.root / FAILURES, failures)
    notes = [*dataset.notes(), *media_notes(recordings, outcomes, streams, recipe), *notes]
    notes += [*healed_notes(cache, healed), *(f"{r} {GAVE_WAY}" for r in gave_way)]
    if alike:
        raise UsageError(f"the first {_ALIKE} recordings all failed: {failures[0].cause}", hint=failures[0].hint)
    made = sum(len(o.made) for o in outcomes.values())
    seconds = round(time.monotonic() - start, 2)
    where = cache.where, [*streams], len(recordings)
    return ExtractResult(
        *where, made, kept, seconds, notes, failures, rounded(underway.spent), bottleneck(underway.spent)
    )


def prepare(recipe: ExtractRecipe) -> Prepared:
    """The corpus, its recordings, and the streams that are asked for. Raises on wrong recipes, roots and weights."""
    hardware_decoder(recipe.decode)
    dataset = open_dataset(recipe.dataset, recipe.root, recipe.dataset_options)
    recordings = dataset.recordings()
    if not recordings:
        raise UsageError(f"{recipe.root} holds no recording of {recipe.dataset}")
    wanted = wanted_of(recipe, face_crops(recipe.faces, recipe.face_weights, recordings))
    if not wanted:
        raise UsageError("no stream is asked for", hint="name one with --visual, --audio or --text")
    return dataset, recordings, wanted


def _check_room(jobs: list[Job], streams: dict[str, Stream], cache: FeatureCache, dtype: str) -> dict[str, Size]:
    """The sizes of recordings. Raises CacheError where the disk will not hold what the jobs will write."""
    sizes = {j.recording.id: size for j in jobs if (size := size_of(j.recording, cache)) is not None}
    specs = {key: stream.spec for key, stream in streams.items()}
    needed = bytes_needed(jobs, specs, sizes, dtype).total
    check_room(min(needed, mirror_bytes()) if remote_of(cache.root) else needed, cache.root)
    return sizes


def _every(seconds: float, act: Callable[[], object]) -> Callable[[], None]:
    """``act``, but at most once in so many seconds, and for a twentieth of the time at most."""
    due = -math.inf

    def sometimes() -> None:
        nonlocal due
        begun = time.monotonic()
        if begun >= due:
            act()
            due = time.monotonic() + max(seconds, 20 * (time.monotonic() - begun))

    return sometimes


def _failed_alike(outcomes: dict[str, Outcome]) -> bool:
    """Whether all recordings failed, made nothing, and for one cause, whatever files they speak of."""
    kinds = set()
    for recording, outcome in outcomes.items():
        if outcome.made or not outcome.failures:
            return False
        cause = re.sub(r"'[^']*'|\S*[/.]\S*|\d+", "", outcome.failures[0].cause)
        kinds.add(cause.replace(recording, ""))
    return len(kinds) == 1
