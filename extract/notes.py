"""What a run tells at its end: remarks on media, what is absent throughout, what earlier runs left that differs."""

from cache.care.heal import still_damaged
from cache.errors import DataError
from cache.records import Recording
from cache.store import FeatureCache
from extract.clock import nominal_fps
from extract.outcome import Failure, Outcome, failure
from extract.recipe import ExtractRecipe
from extract.source import changed_source
from extract.streams import Stream


def changed_media(
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


def other_rates(
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


def media_notes(
    recordings: list[Recording], outcomes: dict[str, Outcome], streams: dict[str, Stream], recipe: ExtractRecipe
) -> list[str]:
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
    if recipe.fps and all(r.video for r in recordings):
        notes.append(f"every recording has a video, whose own frame times are used: --fps {recipe.fps:g} does nothing")
    return notes


def healed_notes(cache: FeatureCache, cleared: list[str]) -> list[str]:
    """What damage was cleared away, and what is left."""
    notes = [f"{part} was damaged and is made anew" for part in cleared]
    left = still_damaged(cache)
    if left:
        notes.append(f"{len(left)} damaged parts are not of this run, such as {left[0].part}: see damaged.csv")
    return notes
