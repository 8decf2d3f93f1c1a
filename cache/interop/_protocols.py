"""Imported labels beside those a cache has: recordings of the import are replaced and told, the others stay."""

import numpy as np

from cache.groups import attributes
from cache.ids import folder_of
from cache.records import Labels, Partitions
from cache.store import FeatureCache


def delays_of(cache: FeatureCache, protocol: str) -> dict[str, float]:
    """Seconds by which labels were moved earlier, by recording."""
    delays: dict[str, float] = attributes(cache.root / "labels" / folder_of(protocol)).get("delays", {})
    return delays


def merge_labels(
    cache: FeatureCache,
    labels: dict[str, dict[str, Labels]],
    partitions: dict[str, Partitions],
    delays: dict[str, dict[str, float]],
    labelled: dict[str, int],
) -> list[str]:
    """Write what was imported of each protocol; fills ``labelled`` and returns notes on what was replaced."""
    notes: list[str] = []
    for protocol in sorted({*labels, *partitions}):
        new, split = labels.get(protocol, {}), partitions.get(protocol, Partitions())
        old: dict[str, Labels] = {}
        had, moved = Partitions(), {}
        if protocol in cache.labels.protocols():
            old = {r: cache.labels.read(protocol, r) for r in cache.labels.recordings(protocol)}
            had, moved = cache.labels.partitions(protocol), delays_of(cache, protocol)
        other = [r for r in new if r in old and not _equal(old[r], new[r])]
        notes += [f"labels of {len(other)} recordings under {protocol!r} were replaced"] if other else []
        merged = Partitions({**had.of, **split.of}, {**had.subjects, **split.subjects})
        kept = {r: d for r, d in moved.items() if r not in new}
        cache.labels.write(protocol, {**old, **new}, merged, {**kept, **delays.get(protocol, {})})
        labelled[protocol] = len(new)
    return notes


def _equal(a: Labels, b: Labels) -> bool:
    return np.array_equal(a.va, b.va) and np.array_equal(a.labelled, b.labelled)
