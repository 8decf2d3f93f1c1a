"""Labels of a source: which columns they are, their range, on frames, and beside those of a cache."""

from typing import Any

import numpy as np
import numpy.typing as npt

from cache.align import align, align_labels
from cache.errors import DataError, UsageError
from cache.groups import attributes
from cache.ids import folder_of
from cache.interop._layout import Label, Layout
from cache.records import Annotation, Labels, Partitions, Timeline, Track
from cache.store import FeatureCache

NO_AROUSAL = "the source has no arousal: it is 0 everywhere, so do not read its scores"
_VALENCE, _AROUSAL = ("valence", "sentiment"), ("arousal",)
Range = tuple[float, float] | None


def label_columns(names: Any, given: tuple[int, ...]) -> tuple[int, ...]:
    """Columns of valence and, where there is one, of arousal: as given, else by name; empty where neither tells."""
    plain = [str(n).strip().lower() for n in names] if isinstance(names, list) else []
    found = [next((i for i, n in enumerate(plain) if n in wanted), None) for wanted in (_VALENCE, _AROUSAL)]
    return given or (() if found[0] is None else tuple(i for i in found if i is not None))


def valence_arousal(values: npt.NDArray[Any], columns: tuple[int, ...], layout: Layout) -> npt.NDArray[np.float32]:
    """f32[N,2] of the label rows [N, C]. Raises UsageError where the columns are not there or cannot be told."""
    width = values.shape[1]
    columns = columns or tuple(range(width))
    if len(columns) > 2 or max(columns) >= width:
        raise UsageError(
            f"label rows have {width} columns; of which are valence and arousal?",
            hint="say it by their numbers from 0: --columns 0,1 (or 0 for valence alone)",
        )
    if len(columns) == 1:
        layout.note(NO_AROUSAL)
    arousal = values[:, columns[1]] if len(columns) == 2 else np.full(len(values), layout.wants.middle)
    return np.stack([values[:, columns[0]], arousal], axis=1).astype(np.float32)


def in_range(label: Label, label_range: Range, where: str) -> Label:
    """Mapped from the source's range to [-1, 1]; -5 and what is not finite are no labels.

    Raises UsageError naming the option where none was given and labels lie outside [-1, 1], else DataError.
    """
    values = label.values if isinstance(label, Track) else label.va if isinstance(label, Annotation) else label
    va = np.asarray(values, np.float64).reshape(-1, 2)
    low, high = label_range or (-1.0, 1.0)
    va = np.where(np.isfinite(va) & ((va != -5) | (low <= -5)), va, np.nan)
    outside = np.flatnonzero(((va < low) | (va > high)).any(axis=1))
    if len(outside):
        text = f"label {outside[0]} of {where} is {va[outside[0]].round(4).tolist()}, outside [{low:g}, {high:g}]"
        hint = "give the source's own range, e.g. --label-range -3,3"
        raise DataError(text, hint=hint) if label_range else UsageError(text, hint=hint)
    va = 2 * (va - low) / (high - low) - 1 if label_range else va
    if isinstance(label, Track):
        return Track(label.spans, va)
    return Annotation(va, label.times, label.source, label.delay) if isinstance(label, Annotation) else va[0]


def on_frames(label: Label, timeline: Timeline, where: str) -> Labels:
    """Labels on frames. One of the whole recording is that of all its frames; a track's rows hold while they last."""
    if isinstance(label, np.ndarray):
        label = Annotation(np.tile(label, (len(timeline), 1)))
    if isinstance(label, Track):
        laid = align(label, timeline, "nearest")
        label = Annotation(np.where(laid.present[:, None], laid.values.astype(np.float64), np.nan))
    return align_labels(label, timeline, where)


def merge_labels(
    cache: FeatureCache,
    labels: dict[str, dict[str, Labels]],
    partitions: dict[str, Partitions],
    delays: dict[str, dict[str, float]],
) -> list[str]:
    """Write labels beside those a cache has: those of the same recordings are replaced, which is told in notes."""
    notes: list[str] = []
    for protocol in sorted({*labels, *partitions}):
        new, split = labels.get(protocol, {}), partitions.get(protocol, Partitions())
        old: dict[str, Labels] = {}
        had, moved = Partitions(), {}
        if protocol in cache.labels.protocols():
            old = {r: cache.labels.read(protocol, r) for r in cache.labels.recordings(protocol)}
            had = cache.labels.partitions(protocol)
            moved = attributes(cache.root / "labels" / folder_of(protocol)).get("delays", {})
        other = [r for r in new if r in old and not _equal(old[r], new[r])]
        notes += [f"labels of {len(other)} recordings under {protocol!r} were replaced"] if other else []
        merged = Partitions({**had.of, **split.of}, {**had.subjects, **split.subjects}, {**had.groups, **split.groups})
        kept = {r: d for r, d in moved.items() if r not in new}
        cache.labels.write(protocol, {**old, **new}, merged, {**kept, **delays.get(protocol, {})})
    return notes


def _equal(a: Labels, b: Labels) -> bool:
    return np.array_equal(a.va, b.va) and np.array_equal(a.labelled, b.labelled)
