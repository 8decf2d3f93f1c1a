"""A cache as computational sequences: one .csd a stream, and one with labels; the SDK's own loader reads them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cache.ids import folder_of
from cache.interop._h5 import open_h5
from cache.interop._layout import Exported
from cache.records import Timeline
from cache.store import FeatureCache

if TYPE_CHECKING:
    import h5py

DROPS = "frame times where no row is, stream settings, label protocols but the first, and numbers beyond float32"
LABELS = "VA Labels"
_TEMPLATE = (  # what the SDK asks for before it takes a sequence
    "computational sequence description",
    "dimension names",
    "computational sequence version",
    "alignment compatible",
    "dataset name",
    "dataset version",
    "creator",
    "contact",
    "featureset bib citation",
    "dataset bib citation",
)


def export_csd(cache: FeatureCache, path: Path) -> Exported:
    """Write ``<stream>.csd`` of each stream and ``labels.csd``; a row a present (or labelled) frame."""
    path.mkdir(parents=True, exist_ok=True)
    names = {k: cache.stream(k).name for k in cache.stream_keys()}
    names = {k: n if list(names.values()).count(n) == 1 else k for k, n in names.items()}
    written: set[str] = set()
    for key, name in names.items():
        spec = cache.stream(key)
        with open_h5(path / f"{folder_of(name)}.csd", "w") as file:
            data = _sequence(file, name, cache, {"modality": spec.modality, "affuse": {"key": key}})
            for recording in cache.recordings(key):
                rows, frames = cache.read(key, recording), cache.timelines.read(recording)
                _entry(data, recording, rows.values, frames, rows.present)
                written.add(recording)
    for protocol in cache.labels.protocols()[:1]:
        split = cache.labels.partitions(protocol)
        about = {"partitions": split.of, "subjects": split.subjects}
        with open_h5(path / "labels.csd", "w") as file:
            data = _sequence(file, LABELS, cache, {"dimension names": ["valence", "arousal"], "affuse": about})
            for recording in cache.labels.recordings(protocol):
                labels, frames = cache.labels.read(protocol, recording), cache.timelines.read(recording)
                _entry(data, recording, labels.va, frames, labels.labelled)
    return Exported(str(path), "csd", list(names.values()), len(written), DROPS)


def _sequence(file: "h5py.File", name: str, cache: FeatureCache, about: dict[str, Any]) -> "h5py.Group":
    import h5py

    top = file.create_group(name)
    told = dict.fromkeys(_TEMPLATE, "") | {"root name": name, "dataset name": cache.dataset, "creator": "affuse"}
    metadata = top.create_group("metadata")
    for key, value in (told | {"uuid": "", "md5": None} | about).items():
        data = metadata.create_dataset(key, (1,), dtype=h5py.special_dtype(vlen=str))
        data[0] = json.dumps(value)
    return top.create_group("data")


def _entry(
    data: "h5py.Group", recording: str, rows: npt.NDArray[Any], frames: Timeline, kept: npt.NDArray[np.bool_]
) -> None:
    if kept.any():
        group = data.create_group(folder_of(recording))
        spans = np.stack([frames.edges[:-1], frames.edges[1:]], axis=1)
        group.create_dataset("features", data=rows[kept], compression="gzip")
        group.create_dataset("intervals", data=spans[kept], compression="gzip")
