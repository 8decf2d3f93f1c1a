"""Labels and partitions of a corpus, laid onto the cached timelines. Cheap: run again for a new year's split."""

from cache.align import align_labels
from cache.errors import AffuseError
from cache.records import Annotation, Labels, Timeline
from cache.store import FeatureCache
from extract.datasets import Dataset
from extract.job import Failure

_USUAL_SURPLUS = 2  # rows that annotation and container may differ by in Aff-Wild2 (counts from headers)


def index_labels(dataset: Dataset, cache: FeatureCache) -> tuple[list[str], list[Failure]]:
    """Write the corpus's own protocol.

    Returns (notes, failures): notes name recordings whose annotation has more or fewer rows than frames; failures
    are annotations that cannot be read. Recordings without a timeline are left for a later run.
    """
    labels: dict[str, Labels] = {}
    notes: list[str] = []
    failures: list[Failure] = []
    for recording in dataset.recordings():
        if cache.timelines.info(recording.id) is None:
            continue
        try:
            annotation = dataset.annotation(recording)
            if annotation is not None:
                timeline = cache.timelines.read(recording.id)
                labels[recording.id] = align_labels(annotation, timeline, recording.id)
                notes += _surplus(recording.id, annotation, timeline)
        except AffuseError as error:
            failures.append(Failure(recording.id, "labels", str(error)))
    partitions = dataset.partitions()
    if labels or partitions.of:
        cache.labels.write(dataset.protocol, labels, partitions)
    return notes, failures


def _surplus(recording: str, annotation: Annotation, timeline: Timeline) -> list[str]:
    surplus = len(annotation.va) - len(timeline)
    if annotation.times is not None or not surplus:
        return []
    what = f"dropped {surplus} from the tail" if surplus > 0 else f"left {-surplus} at the end unlabelled"
    doubt = "" if abs(surplus) <= _USUAL_SURPLUS else "; check that these labels belong to this video"
    return [f"{recording}: {len(annotation.va)} annotation rows for {len(timeline)} frames; {what}{doubt}"]
