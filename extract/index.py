"""Labels and partitions of a corpus, laid onto the cached timelines. Cheap: run again for a new year's split."""

from cache.align import align_labels
from cache.errors import CacheError, DataError
from cache.records import Annotation, Labels, Timeline
from cache.remote import remote_of
from cache.store import FeatureCache
from extract.datasets import Dataset
from extract.outcome import Failure, failure

USUAL_SURPLUS = 2  # rows that annotation and container may differ by in Aff-Wild2 (counts from headers)
_LOOKS = 3


def index_labels(dataset: Dataset, cache: FeatureCache) -> tuple[list[str], list[Failure]]:
    """Write the corpus's own protocol: of a cache at a URL, for all that any machine has put there.

    Returns (notes, failures): notes name recordings whose annotation has more or fewer rows than frames; failures
    are annotations that cannot be read. Recordings without a timeline are left for a later run.
    """
    check_same_corpus(dataset, cache)
    remote = remote_of(cache.root)
    if remote is None:
        return _index(dataset, cache)
    remote.refresh()
    for _ in range(_LOOKS):  # another machine may have written the labels of its recordings while we wrote ours
        seen = cache.timelines.recordings()
        found = _index(dataset, cache)
        remote.refresh()
        if cache.timelines.recordings() == seen:
            break
    return found


def _index(dataset: Dataset, cache: FeatureCache) -> tuple[list[str], list[Failure]]:
    labels: dict[str, Labels] = {}
    notes: list[str] = []
    failures: list[Failure] = []
    delays: dict[str, float] = {}
    for recording in dataset.recordings():
        if cache.timelines.info(recording.id) is None:
            continue
        try:
            annotation = dataset.annotation(recording)
            if annotation is not None:
                timeline = cache.timelines.read(recording.id)
                _check_whole(recording.id, annotation, timeline, cache)
                labels[recording.id] = align_labels(annotation, timeline, recording.id)
                delays |= {recording.id: annotation.delay} if annotation.delay else {}
                if len(annotation.va) and not labels[recording.id].labelled.any():
                    notes.append(f"{recording.id}: none of {len(annotation.va)} annotation rows labels a frame")
                notes += _surplus(recording.id, annotation, timeline, cache)
        except Exception as error:
            failures.append(failure(recording.id, "labels", error))
    partitions = dataset.partitions()
    notes += _dropped(cache, dataset, labels)
    if labels or partitions.of:
        cache.labels.write(dataset.protocol, labels, partitions, delays)
    return [*notes, *_moved(delays)], failures


def _dropped(cache: FeatureCache, dataset: Dataset, labels: dict[str, Labels]) -> list[str]:
    """Recordings that have labels in the cache and are not of this corpus any more: a protocol is replaced whole."""
    if dataset.protocol not in cache.labels.protocols():
        return []
    gone = sorted(set(cache.labels.recordings(dataset.protocol)) - set(labels))
    named = ", ".join(gone[:5]) + (", ..." if len(gone) > 5 else "")
    return [f"labels of {len(gone)} recordings are dropped, the corpus gives none now: {named}"] if gone else []


def _moved(delays: dict[str, float]) -> list[str]:
    if not delays:
        return []
    low, high = min(delays.values()), max(delays.values())
    by = f"{low:g} s" if low == high else f"{low:g} to {high:g} s"
    return [f"labels of {len(delays)} recordings are moved {by} earlier, as the corpus says (delay)"]


def _check_whole(recording: str, annotation: Annotation, timeline: Timeline, cache: FeatureCache) -> None:
    """Rows by frame number are wrong for a film that lost frames: nothing tells which."""
    damaged = (cache.timelines.info(recording) or {}).get("damaged_packets", 0)
    if damaged and annotation.times is None and len(annotation.va) != len(timeline):
        raise DataError(
            f"{len(annotation.va)} annotation rows for {len(timeline)} frames of a film with {damaged} damaged "
            "packets: which frames are missing is not known, so the labels are not used",
            hint="get the file anew",
        )


def check_same_corpus(dataset: Dataset, cache: FeatureCache) -> None:
    """Raises CacheError where most recordings that have labels are not of this corpus: it is another one's cache."""
    if dataset.protocol not in cache.labels.protocols():
        return
    ours, theirs = {r.id for r in dataset.recordings()}, cache.labels.recordings(dataset.protocol)
    strange = [r for r in theirs if r not in ours]
    if len(strange) * 2 > len(theirs):
        raise CacheError(
            f"the cache at {cache.root} has labels of {len(strange)} recordings that {dataset.root} lacks, "
            f"such as {strange[0]!r}",
            hint="give every corpus a cache of its own: --cache DIR",
        )


def _surplus(recording: str, annotation: Annotation, timeline: Timeline, cache: FeatureCache) -> list[str]:
    surplus = len(annotation.va) - len(timeline)
    if annotation.times is not None or not surplus:
        return []
    what = f"dropped {surplus} from the tail" if surplus > 0 else f"left {-surplus} at the end unlabelled"
    over_crops = (cache.timelines.info(recording) or {}).get("over") == "crops"
    if surplus > 0 and over_crops:
        return [f"{recording}: {len(annotation.va)} annotation rows, face crops up to frame {len(timeline)}; {what}"]
    doubt = "" if abs(surplus) <= USUAL_SURPLUS else "; check that these labels belong to this video"
    return [f"{recording}: {len(annotation.va)} annotation rows for {len(timeline)} frames; {what}{doubt}"]
