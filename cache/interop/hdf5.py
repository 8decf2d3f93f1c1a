"""A whole cache in one HDF5 file, and back: equal arrays, stream keys, labels, partitions and records.

It mirrors the cache: ``features/<key>/<recording>/{values,present}``, ``timelines/<recording>/pts``,
``labels/<protocol>/<recording>/{va,labelled}``, ids as in FORMAT.md. Every group has ``record``, a string of JSON with
what the cache says of it; ``name``, ``modality``, ``dim``, ``recording`` and ``end`` are attributes too.
"""

import contextlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from cache.dtypes import BFLOAT16
from cache.errors import DataError
from cache.fingerprint import stream_key
from cache.groups import attributes
from cache.ids import folder_of
from cache.interop import FORMATS
from cache.interop._h5 import array, child, groups, names, open_h5, text, write_attribute, write_rows, write_text
from cache.interop._layout import Exported, Foreign, Label, Layout, Source
from cache.reader import open_stream
from cache.records import Annotation, Modality, Partitions, Timeline, Track
from cache.store import FeatureCache

if TYPE_CHECKING:
    import h5py

NOTHING = "nothing but derived statistics"


def export_hdf5(cache: FeatureCache, path: Path) -> Exported:
    """Write the file beside its place, then move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open_h5(draft, "w") as file:
            write_text(file, "record", {"dataset": cache.dataset})
            for recording in cache.timelines.recordings():
                frames = cache.timelines.read(recording)
                group = _group(file, f"timelines/{folder_of(recording)}", cache.timelines.info(recording) or {})
                group.attrs["end"] = frames.end
                write_rows(group, "pts", frames.pts)
            for key in cache.stream_keys():
                _write_stream(file, cache, key)
            for protocol in cache.labels.protocols():
                _write_protocol(file, cache, protocol)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return Exported(str(path), "hdf5", cache.stream_keys(), len(cache.timelines.recordings()), NOTHING)


def _group(file: "h5py.File", name: str, record: dict[str, Any]) -> "h5py.Group":
    group = file.create_group(name)
    write_text(group, "record", {k: v for k, v in record.items() if k != "arrays"})
    for plain in ("recording", "name", "modality", "dim"):
        if plain in record:
            write_attribute(group, plain, record[plain])
    return group


def _write_stream(file: "h5py.File", cache: FeatureCache, key: str) -> None:
    top = _group(file, f"features/{key}", cache.about(key))
    for recording in cache.recordings(key):
        group = _group(top, folder_of(recording), cache.commit_record(key, recording))
        values, present = open_stream(cache.folder(key, recording))
        write_rows(group, "values", values.astype(np.float32) if values.dtype == BFLOAT16 else values)
        write_rows(group, "present", present)


def _write_protocol(file: "h5py.File", cache: FeatureCache, protocol: str) -> None:
    folder = folder_of(protocol)
    top = _group(file, f"labels/{folder}", attributes(cache.root / "labels" / folder))
    for recording in cache.labels.recordings(protocol):
        labels = cache.labels.read(protocol, recording)
        group = _group(top, folder_of(recording), {"recording": recording})
        write_rows(group, "va", labels.va)
        write_rows(group, "labelled", labels.labelled)


@FORMATS.register("hdf5")
class Hdf5(Layout):
    """The file that our own export writes."""

    drops_in = drops_out = NOTHING

    @classmethod
    def export(cls, cache: FeatureCache, path: Path) -> Exported:
        """Write a whole cache."""
        return export_hdf5(cache, path)

    def open(self) -> None:
        """What the layout holds."""
        self._file = self.opened.enter_context(open_h5(self.path))
        if not {"features", "timelines", "record"} <= set(self._file):
            raise DataError(f"{self.path} holds no exported cache", hint="wanted groups features, timelines, labels")
        self.dataset = str(_record(self._file).get("dataset", ""))
        self._places: dict[str, str] = {_id(group): f for f, group in groups(child(self._file, "timelines"))}
        self.recordings = list(self._places)
        for key, group in groups(child(self._file, "features")):
            about = _record(group)
            if about.get("modality") not in get_args(Modality) or not isinstance(about.get("settings"), dict):
                raise DataError(f"{self.path}: features/{key} lacks its modality or settings")
            name, settings = str(about["name"]), about["settings"]
            if stream_key(name, settings) != key or not _plain(name):
                raise DataError(f"{self.path}: features/{key} is not the key of its settings")
            self.streams[key] = Source(
                (), name, about["modality"], settings, about.get("origin", {}), _dtype(group, settings)
            )
        protocols = groups(child(self._file, "labels")) if "labels" in self._file else ()
        self._protocols = {str(_record(group)["protocol"]): folder for folder, group in protocols}
        for protocol, folder in self._protocols.items():
            record = _record(child(child(self._file, "labels"), folder))
            told = (record["partitions"], record["subjects"], record.get("groups", {}))
            self.partitions[protocol] = Partitions(*map(_texts, told))
            self.delays[protocol] = {str(r): float(d) for r, d in record.get("delays", {}).items()}

    def read(self, recording: str, streams: Collection[str]) -> Foreign:
        """One recording."""
        place = self._places[recording]
        timed = child(child(self._file, "timelines"), place)
        clock = {k: v for k, v in _record(timed).items() if k != "recording"}
        timeline = Timeline(array(timed, "pts", "f", 1), float(clock.pop("end")))
        tracks, info = {}, {}
        for key in streams:
            top = child(child(self._file, "features"), key)
            if place in top:
                group = child(top, place)
                tracks[key] = _track(group, timeline)
                info[key] = {k: v for k, v in _record(group).items() if k not in ("recording", "absent_frames")}
        labels = {p: child(child(self._file, "labels"), f) for p, f in self._protocols.items()}
        found: dict[str, Label] = {p: _labels(child(g, place), timeline) for p, g in labels.items() if place in g}
        return Foreign(tracks, found, timeline, clock, info=info)


def _track(group: "h5py.Group", timeline: Timeline) -> Track:
    values, present = array(group, "values", "f", 2), array(group, "present", "b", 1)
    if len(values) != len(timeline) or len(present) != len(timeline):
        raise DataError(f"{group.name} has {len(values)} rows for {len(timeline)} frames")
    spans = np.stack([timeline.edges[:-1], timeline.edges[1:]], axis=1)
    return Track(spans[present], values[present].astype(np.float32))


def _labels(group: "h5py.Group", timeline: Timeline) -> Annotation:
    va, labelled = array(group, "va", "f", 2), array(group, "labelled", "b", 1)
    if va.shape != (len(timeline), 2) or labelled.shape != (len(timeline),):
        raise DataError(f"{group.name} has labels of shape {va.shape} for {len(timeline)} frames")
    return Annotation(np.where(labelled[:, None], va, np.nan))


def _dtype(top: "h5py.Group", settings: dict[str, Any]) -> str:
    """Of the stored values; every recording of a stream has the same. HDF5 has no bfloat16: it holds float32 then."""
    if settings.get("dtype") == BFLOAT16.name:
        return BFLOAT16.name
    for name in names(top):
        with contextlib.suppress(DataError, AttributeError):
            return "float32" if child(child(top, name), "values").dtype.itemsize > 2 else "float16"
    return "float16"


def _record(group: "h5py.Group") -> dict[str, Any]:
    record = text(group, "record")
    if not isinstance(record, dict):
        raise DataError(f"the record of {group.file.filename}:{group.name} is no table")
    return record


def _plain(name: str) -> bool:
    """Whether a stream's name is one that can be a folder, and be printed."""
    return 0 < len(name) <= 150 and name.isprintable() and name[0] != "." and not {"/", "\\"} & set(name)


def _id(group: "h5py.Group") -> str:
    return str(_record(group)["recording"])


def _texts(value: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in dict(value).items()}
