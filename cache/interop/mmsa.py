"""MMSA feature pickles (https://github.com/thuiar/MMSA): CMU-MOSI, CMU-MOSEI and CH-SIMS as most papers use them.

``{train, valid, test: {id [N], text, audio, vision [N, L, D], audio_lengths, vision_lengths [N], text_bert [N, 3, L],
regression_labels [N]}}``. The pickle is never run (``_pickle``). It is read whole: memory is the file's size.

There are no times in it: an utterance gets as many frames as its longest modality has rows, and the rows of the others
are spread evenly over them. Its one label becomes the valence of all its frames. ``<video>$_$<clip>`` are clips of one
video, which is taken for the subject, so that splits by subject keep them together.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import DataError, MissingData
from cache.interop import FORMATS
from cache.interop._clock import NOMINAL_FPS
from cache.interop._columns import valence_arousal
from cache.interop._layout import Foreign, Layout, Source
from cache.interop._pickle import read_pickle
from cache.interop._rows import rows_of, spread
from cache.interop._tables import partition_name
from cache.records import Modality, Partitions, Track

_STREAMS: dict[str, Modality] = {"text": "text", "audio": "audio", "vision": "visual"}
_BETWEEN = "$_$"


@FORMATS.register("mmsa")
class Mmsa(Layout):
    """A pickle of MMSA."""

    drops_in = "raw_text, text_bert, annotations, classification and single-modality labels (and it has no times)"
    drops_out = "it has no times and one label an utterance, so a cache would lose its clock and most of its labels"

    def open(self) -> None:
        """Every partition's arrays; lengths are checked when a recording is read."""
        if not self.path.is_file():
            raise MissingData(f"no file at {self.path}")
        found = read_pickle(self.path)
        if not isinstance(found, dict) or not all(isinstance(p, dict) and "id" in p for p in found.values()):
            raise DataError(
                f"{self.path} is no MMSA pickle", hint="wanted {train, valid, test: {id, text, audio, ...}}"
            )
        self._parts: dict[str, dict[str, Any]] = {str(name): part for name, part in found.items()}
        self._rows: dict[str, tuple[str, int]] = {}
        for part, arrays in self._parts.items():
            self._rows |= {
                str(_plain(r)): (part, i) for i, r in enumerate(np.asarray(arrays["id"], object).reshape(-1))
            }
        self.recordings = list(self._rows)
        if len(self.recordings) < sum(len(p["id"]) for p in self._parts.values()):
            raise DataError(f"{self.path} has an id twice")
        there = [n for n in _STREAMS if any(n in p for p in self._parts.values())]
        self.streams = {n: Source((self.path,), modality=_STREAMS[n]) for n in there}
        of = {r: partition_name(part) for r, (part, _) in self._rows.items()}
        subjects = {r: r.split(_BETWEEN)[0] for r in of if _BETWEEN in r}
        self.partitions = {self.wants.protocol: Partitions(of, subjects)}
        self.note("there are no times: rows of each modality are spread evenly over the frames of the longest")

    def read(self, recording: str, streams: Collection[str]) -> Foreign:
        """One utterance; all its modalities are looked at for its length."""
        part, row = self._rows[recording]
        arrays = self._parts[part]
        rows = {n: _utterance(arrays, n, row, f"{n} of {recording!r}") for n in self.streams if n in arrays}
        rows = _as_long(rows) if "audio_lengths" not in arrays and "vision_lengths" not in arrays else rows
        seconds = max((len(r) for r in rows.values()), default=0) / (self.wants.fps or NOMINAL_FPS)
        if not seconds:
            raise DataError(f"{recording!r} has no rows at all")
        tracks = {n: Track(spread(len(r), seconds), r) for n, r in rows.items() if n in streams and len(r)}
        label = self._label(arrays, row)
        return Foreign(tracks, {self.wants.protocol: Track(spread(1, seconds), label)} if label is not None else {})

    def _label(self, arrays: dict[str, Any], row: int) -> npt.NDArray[np.float32] | None:
        if "regression_labels" not in arrays:
            return None
        value = np.asarray(arrays["regression_labels"], np.float64)
        return valence_arousal(value[row].reshape(1, -1), self.wants.columns, self)


def _utterance(arrays: dict[str, Any], name: str, row: int, where: str) -> npt.NDArray[np.float32]:
    """f32[L,D] without padding: by its length where that is known, else without zero rows at both ends."""
    values = np.asarray(arrays[name][row])
    values = rows_of(values[None] if values.ndim == 1 else values, where)
    lengths = arrays.get(f"{name}_lengths")
    if lengths is None and name == "text" and "text_bert" in arrays:
        lengths = np.asarray(arrays["text_bert"])[:, 1].sum(axis=1)
    if lengths is None:
        return values
    length = int(np.asarray(lengths).reshape(-1)[row])
    if not 0 <= length <= len(values):
        raise DataError(f"{where} has {len(values)} rows and a length of {length}")
    return values[:length]


def _as_long(rows: dict[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
    """Of aligned modalities, row i of which is the same word: without rows at both ends that are zero in all."""
    if len({len(r) for r in rows.values()}) != 1:
        return rows
    said = np.flatnonzero(np.any([np.any(r != 0, axis=1) for r in rows.values()], axis=0))
    return {n: r[said[0] : said[-1] + 1] if len(said) else r[:0] for n, r in rows.items()}


def _plain(name: Any) -> Any:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name
