"""A cache as MuSe folders: what ``muse`` reads back, and MuSe's own loaders too."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from cache.ids import folder_of
from cache.interop._layout import Exported
from cache.interop._tables import write_table
from cache.records import Partitions
from cache.store import FeatureCache

DROPS = (
    "stream settings, frame times where neither a row nor a label is, the ends of frames that are not evenly spaced, "
    "and label protocols but the first"
)


def export_muse(cache: FeatureCache, path: Path) -> Exported:
    """Write ``features/<stream>``, ``label_segments``, ``metadata/{partition,streams}.csv``; times in ms."""
    names = {k: cache.stream(k).name for k in cache.stream_keys()}
    folders = {k: n if list(names.values()).count(n) == 1 else k for k, n in names.items()}
    protocol = next(iter(cache.labels.protocols()), "")
    written = {
        r for key, folder in folders.items() for r in _features(cache, key, path / "features" / folder_of(folder))
    }
    if protocol:
        _labels(cache, protocol, path / "label_segments")
    split = cache.labels.partitions(protocol) if protocol else Partitions()
    members = [[folder_of(r), r, split.subjects.get(r, ""), split.of.get(r, "")] for r in sorted({*written, *split.of})]
    _csv(path / "metadata" / "partition.csv", ["Id", "recording", "subject", "Proposal"], members)
    told = [[folder_of(folders[k]), cache.stream(k).modality, k] for k in folders]
    _csv(path / "metadata" / "streams.csv", ["folder", "modality", "key"], told)
    return Exported(str(path), "muse", list(folders.values()), len(written), DROPS)


def _features(cache: FeatureCache, key: str, folder: Path) -> list[str]:
    folder.mkdir(parents=True)
    recordings = cache.recordings(key)
    header = ["timestamp", "segment_id", *map(str, range(cache.stream(key).dim))]
    for recording in recordings:
        data, pts = cache.read(key, recording), cache.timelines.read(recording).pts
        if data.present.any():
            rows = np.column_stack([np.ones(len(pts)), data.values])[data.present]
            write_table(folder / f"{folder_of(recording)}.csv", header, pts[data.present] * 1000, rows)
    return recordings


def _labels(cache: FeatureCache, protocol: str, folder: Path) -> None:
    for i, dimension in enumerate(("valence", "arousal")):
        (folder / dimension).mkdir(parents=True)
        for recording in cache.labels.recordings(protocol):
            labels, pts = cache.labels.read(protocol, recording), cache.timelines.read(recording).pts
            value = np.where(labels.labelled, labels.va[:, i], np.nan)
            rows = np.column_stack([value, np.ones(len(pts))])
            name = folder / dimension / f"{folder_of(recording)}.csv"
            write_table(name, ["timestamp", "value", "segment_id"], pts * 1000, rows)


def _csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
