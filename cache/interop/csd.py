"""Computational sequences of the CMU Multimodal SDK (.csd), https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK.

HDF5: ``<name>/data/<recording>/{features [N, D], intervals [N, 2] seconds}``, ``<name>/metadata/<key>`` as JSON text.
One file a sequence; PATH is a file or a folder of them. A sequence whose name has ``label`` or ``opinion`` in it (or
that --labels names) holds labels: a value lasts for its interval. ``video[3]``, as the SDK's alignment names segments,
is a recording whose subject is ``video``. --labels TABLE.csv gives partitions, which the layout lacks, and labels.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from cache.errors import DataError, MissingData, UsageError
from cache.ids import folder_of, recording_of
from cache.interop import FORMATS
from cache.interop._h5 import array, child, groups, names, open_h5, text, write_attribute
from cache.interop._label_table import LabelTable, read_label_table
from cache.interop._labels import label_columns, valence_arousal
from cache.interop._layout import Exported, Foreign, Label, Layout, Source, export_names
from cache.interop._tables import rows_of
from cache.interop._times import check_times, spans_from
from cache.records import Modality, Partitions, Timeline, Track
from cache.store import FeatureCache

if TYPE_CHECKING:
    import h5py

_OURS = "affuse"
_LABELS = "VA Labels"
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


@FORMATS.register("csd")
class Csd(Layout):
    """One or several .csd files."""

    drops_in = "words and phones, metadata, recordings without features, labels but valence and arousal"
    drops_out = "frame times where no row is, stream settings, and label protocols but the first"

    @classmethod
    def export(cls, cache: FeatureCache, path: Path) -> Exported:
        """Write ``<stream>.csd`` of each stream and ``labels.csd``; a row a present (or labelled) frame."""
        path.mkdir(parents=True, exist_ok=True)
        written: set[str] = set()
        streams = export_names(cache, taken="labels")
        for key, name in streams.items():
            about = {"modality": cache.stream(key).modality, _OURS: {"key": key}}
            with open_h5(path / f"{folder_of(name)}.csd", "w") as file:
                data = _sequence(file, name, cache, about)
                for recording in cache.recordings(key):
                    rows, frames = cache.read(key, recording), cache.timelines.read(recording)
                    _entry(data, recording, frames, rows.present, rows.values)
                    written.add(recording)
        for protocol in cache.labels.protocols()[:1]:
            _write_labels(cache, protocol, path / "labels.csd")
        return Exported(str(path), "csd", list(streams.values()), len(written), cls.drops_out)

    def open(self) -> None:
        """What the layout holds."""
        paths = sorted(self.path.glob("*.csd")) if self.path.is_dir() else [self.path]
        if not paths:
            raise MissingData(f"no .csd file in {self.path}")
        files = [self.opened.enter_context(open_h5(p)) for p in paths]
        found = [(n, g, path) for f, path in zip(files, paths, strict=True) for n, g in groups(f) if "data" in g]
        sequences = {n: (g, path) for n, g, path in found}
        if len(sequences) < len(found):
            raise DataError(f"two files of {self.path} hold a sequence of the same name")
        if not sequences:
            raise DataError(f"{self.path} holds no sequence", hint="wanted <name>/data/<id>/features")
        told = {n: _metadata(g) for n, (g, _) in sequences.items()}
        split = next((t[_OURS] for t in told.values() if "partitions" in t.get(_OURS, {})), None)
        table = self.wants.labels if self.wants.labels and self.wants.labels.suffix == ".csv" else None
        self._labels = {n: sequences[n][0] for n in self._label_names(told, table)}
        self._groups = {n: g for n, (g, _) in sequences.items() if n not in self._labels and self._numeric(n, g)}
        for name in self._groups:
            modality = next((m for m in get_args(Modality) if told[name].get("modality") == m), None)
            self.streams[name] = Source((sequences[name][1],), modality=modality)
        entries = {k: child(g, "data") for g in self._groups.values() for k in names(child(g, "data"))}
        self._keys = {_id(data, k): k for k, data in entries.items()}
        self.recordings = sorted(self._keys)
        self._columns = {n: label_columns(told[n].get("dimension names"), self.wants.columns) for n in self._labels}
        given = read_label_table(table, self) if table else LabelTable(self._partitions(split), {})
        self.labels, self.partitions = given.labels, {self.wants.protocol: given.partitions} if table or split else {}

    def _label_names(self, told: dict[str, dict[str, Any]], table: Path | None) -> list[str]:
        asked = str(self.wants.labels) if self.wants.labels and not table else ""
        if asked and asked not in told:
            raise UsageError(f"no sequence is called {asked!r}", hint=f"there are: {', '.join(told)}, or TABLE.csv")
        found = [n for n in told if "label" in n.lower() or "opinion" in n.lower()]
        found = [asked] if asked else [n for n, t in told.items() if "partitions" in t.get(_OURS, {})] or found
        if len(found) > 1:
            raise UsageError(f"which holds the labels: {', '.join(found)}?", hint=f"say --labels '{found[0]}'")
        return found

    def _numeric(self, name: str, group: "h5py.Group") -> bool:
        """Whether a sequence holds numbers, as its first entry tells; words and phones are left out."""
        data = child(group, "data")
        first = next((child(child(data, k), "features") for k in names(data)), None)
        if first is not None and getattr(first, "dtype", np.dtype(float)).kind not in "fiu":
            self.note(f"{name} holds text, not numbers: it is left out")
            return False
        return True

    def _partitions(self, split: dict[str, Any] | None) -> Partitions:
        if split is None:
            self.note("the layout has no partitions: give them to train heads: --labels TABLE.csv (name,partition)")
            return Partitions({}, {r: r.split("[")[0] for r in self.recordings if r.endswith("]")})
        told = (dict(split.get(k) or {}) for k in ("partitions", "subjects", "groups"))
        return Partitions(*({str(r): str(name) for r, name in one.items()} for one in told))

    def read(self, recording: str, streams: Collection[str]) -> Foreign:
        """One recording."""
        key = self._keys[recording]
        tracks = {n: self._track(child(self._groups[n], "data"), key) for n in streams}
        labels: dict[str, Label] = {}
        for name, group in self._labels.items():
            rows = self._track(child(group, "data"), key)
            if rows is not None:
                va = valence_arousal(np.asarray(rows.values), self._columns[name], self)
                labels[self.wants.protocol] = Track(rows.spans, va)
        return Foreign({n: t for n, t in tracks.items() if t is not None}, labels)

    def _track(self, data: "h5py.Group", key: str) -> Track | None:
        """Rows on their intervals; intervals that all are points last until the next one."""
        if key not in data:
            return None
        group = child(data, key)
        features, spans = array(group, "features"), array(group, "intervals", ndim=2).astype(np.float64)
        where = f"{group.file.filename}:{group.name}"
        features = features[:, None] if features.ndim == 1 else features
        if spans.shape != (len(features), 2) or not np.isfinite(spans).all():
            raise DataError(f"{where} has {len(features)} rows, and intervals {spans.shape} or not finite ones")
        values, empty = rows_of(features, where), spans[:, 0] == spans[:, 1]
        if empty.all():
            return Track(spans_from(check_times(spans[:, 0], where)), values)
        if empty.any():
            self.note("rows whose interval is empty are left out")
        return Track(spans[~empty], values[~empty])


def _metadata(group: "h5py.Group") -> dict[str, Any]:
    """The few entries that matter; ours is a dict, or not there."""
    metadata = child(group, "metadata") if "metadata" in group else {}
    found = {k: text(metadata, k) for k in ("dimension names", "modality", _OURS) if k in metadata}
    return found if isinstance(found.get(_OURS, {}), dict) else {}


def _id(data: "h5py.Group", key: str) -> str:
    """The name of an entry; in our exports, the id that it stands for."""
    kept = child(data, key).attrs.get("recording")
    return key if kept is None else recording_of(key) or str(kept)


def _write_labels(cache: FeatureCache, protocol: str, path: Path) -> None:
    split = cache.labels.partitions(protocol)
    ours = {"partitions": split.of, "subjects": split.subjects, "groups": split.groups}
    with open_h5(path, "w") as file:
        data = _sequence(file, _LABELS, cache, {"dimension names": ["valence", "arousal"], _OURS: ours})
        for recording in cache.labels.recordings(protocol):
            labels, frames = cache.labels.read(protocol, recording), cache.timelines.read(recording)
            _entry(data, recording, frames, labels.labelled, labels.va)


def _sequence(file: "h5py.File", name: str, cache: FeatureCache, about: dict[str, Any]) -> "h5py.Group":
    import h5py

    top = file.create_group(name)
    told = dict.fromkeys(_TEMPLATE, "") | {"root name": name, "dataset name": cache.dataset, "creator": "affuse"}
    metadata = top.create_group("metadata")
    for key, value in (told | {"uuid": "", "md5": None} | about).items():
        data = metadata.create_dataset(key, (1,), dtype=h5py.special_dtype(vlen=str))
        data[0] = json.dumps(value)
    return top.create_group("data")


def _entry(data: "h5py.Group", recording: str, frames: Timeline, kept: Any, rows: Any) -> None:
    """An entry that is called as its folder in a cache would be; it keeps its id. kept: bool[T]; rows: f32[T, D]."""
    if kept.any():
        group = data.create_group(folder_of(recording))
        write_attribute(group, "recording", recording)
        spans = np.stack([frames.edges[:-1], frames.edges[1:]], axis=1)
        group.create_dataset("features", data=rows[kept], compression="gzip")
        group.create_dataset("intervals", data=spans[kept], compression="gzip")
