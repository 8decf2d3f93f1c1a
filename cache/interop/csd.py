"""Computational sequences of the CMU Multimodal SDK (.csd), https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK.

HDF5: ``<name>/data/<recording>/{features [N, D], intervals [N, 2] seconds}``, ``<name>/metadata/<key>`` as JSON text.
One file a sequence; PATH is a file or a folder of them. A sequence whose name has ``label`` or ``opinion`` in it (or
that --labels names) holds labels: a value lasts for its interval. One column is taken for valence.
"""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from cache.errors import DataError, MissingData, UsageError
from cache.ids import recording_of
from cache.interop import FORMATS
from cache.interop._columns import label_columns, valence_arousal
from cache.interop._csd_out import DROPS, export_csd
from cache.interop._h5 import array, child, groups, names, open_h5, text
from cache.interop._layout import Exported, Foreign, Layout, Source
from cache.interop._rows import check_times, rows_of, spans_from
from cache.records import Modality, Partitions, Track
from cache.store import FeatureCache

if TYPE_CHECKING:
    import h5py

_OURS = "affuse"


@FORMATS.register("csd")
class Csd(Layout):
    """One or several .csd files."""

    drops_in = "metadata but names of dimensions, and label columns that are neither valence nor arousal"
    drops_out = DROPS

    @classmethod
    def export(cls, cache: FeatureCache, path: Path) -> Exported:
        """Write a whole cache."""
        return export_csd(cache, path)

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
            raise DataError(f"{self.path} holds no computational sequence", hint="wanted <name>/data/<id>/features")
        told = {n: _metadata(g) for n, (g, _) in sequences.items()}
        self._labels = {n: sequences[n][0] for n in self._label_names(list(sequences))}
        self._groups = {n: g for n, (g, _) in sequences.items() if n not in self._labels}
        for name in self._groups:
            modality = next((m for m in get_args(Modality) if told[name].get("modality") == m), None)
            self.streams[name] = Source((sequences[name][1],), modality=modality)
        ours = any(_OURS in t for t in told.values())
        keys = {k for g in self._groups.values() for k in names(child(g, "data"))}
        self._keys = {(recording_of(k) or k) if ours else k: k for k in sorted(keys)}
        self.recordings = list(self._keys)
        self._columns = {
            n: label_columns(t.get("dimension names"), self.wants.columns) for n, t in told.items() if n in self._labels
        }
        split = next((t[_OURS] for n, t in told.items() if n in self._labels and isinstance(t.get(_OURS), dict)), None)
        if split:
            of, subjects = (dict(split.get(k) or {}) for k in ("partitions", "subjects"))
            self.partitions[self.wants.protocol] = Partitions(
                {str(r): str(p) for r, p in of.items()}, {str(r): str(s) for r, s in subjects.items()}
            )
        else:
            self.note("computational sequences have no partitions: give the recordings some to train on them")

    def _label_names(self, there: list[str]) -> list[str]:
        asked = str(self.wants.labels) if self.wants.labels else ""
        if asked and asked not in there:
            raise UsageError(f"no sequence is called {asked!r}", hint=f"there are: {', '.join(there)}")
        found = [asked] if asked else [n for n in there if "label" in n.lower() or "opinion" in n.lower()]
        if len(found) > 1:
            raise UsageError(f"which holds the labels: {', '.join(found)}?", hint=f"say --labels '{found[0]}'")
        return found

    def read(self, recording: str, streams: Collection[str]) -> Foreign:
        """One recording."""
        key = self._keys[recording]
        tracks = {n: self._track(child(self._groups[n], "data"), key) for n in streams}
        annotations = {}
        for name, group in self._labels.items():
            rows = self._track(child(group, "data"), key)
            if rows is not None:
                va = valence_arousal(np.asarray(rows.values), self._columns[name], self)
                annotations[self.wants.protocol] = Track(rows.spans, va)
        return Foreign({n: t for n, t in tracks.items() if t is not None}, dict(annotations))

    def _track(self, data: "h5py.Group", key: str) -> Track | None:
        """Rows on their intervals; intervals that all are points last until the next one."""
        if key not in data:
            return None
        group = child(data, key)
        features, spans = array(group, "features"), array(group, "intervals", ndim=2).astype(np.float64)
        where = f"{group.file.filename}:{group.name}"
        if features.ndim == 1:
            features = features[:, None]
        if spans.shape != (len(features), 2) or not np.isfinite(spans).all():
            raise DataError(
                f"{where} has {len(features)} rows and intervals of shape {spans.shape}, or not finite ones"
            )
        values, empty = rows_of(features, where), spans[:, 0] == spans[:, 1]
        if empty.all():
            return Track(spans_from(check_times(spans[:, 0], where)), values)
        if empty.any():
            self.note("rows whose interval is empty are left out")
        return Track(spans[~empty], values[~empty])


def _metadata(group: "h5py.Group") -> dict[str, Any]:
    if "metadata" not in group:
        return {}
    metadata = child(group, "metadata")
    wanted = ("dimension names", "modality", _OURS)
    return {k: text(metadata, k) for k in wanted if k in metadata}
