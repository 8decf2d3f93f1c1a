"""MMSA feature pickles (https://github.com/thuiar/MMSA): CMU-MOSI, CMU-MOSEI and CH-SIMS as most papers use them.

``{train, valid, test: {id [N], text, audio, vision [N, L, D], audio_lengths, vision_lengths [N], text_bert [N, 3, L],
regression_labels [N]}}``. The pickle is never run (``_pickle``). It is read whole: memory is the file's size.

There are no times in it: the rows of each modality are spread evenly over the video where the cache knows its frames;
else an utterance gets as many frames as its longest modality has rows. Its one label becomes the valence of all its
frames. ``<video>$_$<clip>`` are clips of one video, which is taken for the subject, so that splits by subject keep them
together.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import DataError, MissingData
from cache.interop import FORMATS
from cache.interop._labels import valence_arousal
from cache.interop._layout import Foreign, Label, Layout, Source
from cache.interop._pickle import read_pickle
from cache.interop._tables import partition_name, rows_of
from cache.interop._times import NOMINAL_FPS, spread
from cache.records import Modality, Partitions, Track

_STREAMS: dict[str, Modality] = {"text": "text", "audio": "audio", "vision": "visual"}
_COLUMNS = ("regression_labels", "audio_lengths", "vision_lengths", "text_lengths", "text_bert")
_BETWEEN = "$_$"
Rows = npt.NDArray[np.float32]


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
            arrays |= {k: np.asarray(arrays[k]) for k in _COLUMNS if k in arrays}
            self._rows |= {
                str(_plain(r)): (part, i) for i, r in enumerate(np.asarray(arrays["id"], object).reshape(-1))
            }
        self.recordings = list(self._rows)
        if len(self.recordings) < sum(len(p["id"]) for p in self._parts.values()):
            raise DataError(f"{self.path} has an id twice")
        for part in self._parts:
            self.labels |= self._part_labels(part)
        there = [n for n in _STREAMS if any(n in p for p in self._parts.values())]
        self.streams = {n: Source((self.path,), modality=_STREAMS[n]) for n in there}
        of = {r: partition_name(part) for r, (part, _) in self._rows.items()}
        subjects = {r: r.split(_BETWEEN)[0] for r in of if _BETWEEN in r}
        self.partitions = {self.wants.protocol: Partitions(of, subjects)}
        self.note("there are no times: rows of each modality are spread evenly over the video, or the longest of them")

    def read(self, recording: str, streams: Collection[str]) -> Foreign:
        """One utterance; all its modalities are looked at for its length."""
        part, row = self._rows[recording]
        arrays = self._parts[part]
        padded = {n: _padded(arrays[n][row], f"{n} of {recording!r}") for n in self.streams if n in arrays}
        rows = _unpadded(padded, arrays, row, recording)
        seconds = max((len(r) for r in rows.values()), default=0) / (self.wants.fps or NOMINAL_FPS)
        if not seconds:
            raise DataError(f"{recording!r} has no rows at all")
        tracks = {n: Track(spread(len(r), seconds), r) for n, r in rows.items() if n in streams and len(r)}
        return Foreign(tracks, untimed=seconds)

    def _part_labels(self, part: str) -> dict[str, Label]:
        """By id, f32[2] each."""
        arrays = self._parts[part]
        ids = [r for r, (p, _) in self._rows.items() if p == part]
        if "regression_labels" not in arrays or not ids:
            return {}
        found = np.asarray(arrays["regression_labels"], np.float64)
        if len(found) != len(ids):
            raise DataError(f"{self.path} has {len(found)} regression_labels for {len(ids)} ids of {part}")
        return dict(zip(ids, valence_arousal(found.reshape(len(ids), -1), self.wants.columns, self), strict=True))


def _padded(values: Any, where: str) -> Rows:
    """f32[L,D] as it is stored."""
    found = np.asarray(values)
    return rows_of(found[None] if found.ndim == 1 else found, where)


def _unpadded(rows: dict[str, Rows], arrays: dict[str, Any], row: int, recording: str) -> dict[str, Rows]:
    """Without padding. Unaligned modalities have lengths of their own; row i of aligned ones is one word."""
    lengths = {n: int(arrays[f"{n}_lengths"].reshape(-1)[row]) for n in rows if f"{n}_lengths" in arrays}
    words = int(arrays["text_bert"][row, 1].sum()) if "text" in rows and "text_bert" in arrays else None
    if not lengths and len({len(r) for r in rows.values()}) == 1:
        said = np.any([np.any(r != 0, axis=1) for n, r in rows.items() if n != "text" or words is None], axis=0)
        said = said | (np.arange(len(said)) < (words or 0))
        return {n: r[_inside(said)] for n, r in rows.items()}
    lengths |= {"text": words} if words is not None and "text" not in lengths else {}
    for name, length in lengths.items():
        if not 0 <= length <= len(rows[name]):
            raise DataError(f"{name} of {recording!r} has {len(rows[name])} rows and a length of {length}")
    return {n: r[: lengths[n]] if n in lengths else r[_inside(np.any(r != 0, axis=1))] for n, r in rows.items()}


def _inside(said: npt.NDArray[np.bool_]) -> slice:
    """From the first that is true to the last."""
    at = np.flatnonzero(said)
    return slice(int(at[0]), int(at[-1]) + 1) if len(at) else slice(0, 0)


def _plain(name: Any) -> Any:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name
