"""A .csv of labels, for layouts that have none of their own: one row a recording, or one a time."""

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cache.errors import DataError, MissingData
from cache.interop._labels import NO_AROUSAL
from cache.interop._layout import Label, Layout
from cache.interop._tables import partition_name
from cache.interop._times import check_times, with_holes
from cache.records import Partitions

_COLUMNS = {
    "name": ("name", "recording", "id", "video", "file"),
    "valence": ("valence", "val"),
    "arousal": ("arousal", "aro"),
    "time_s": ("time_s",),
    "timestamp": ("timestamp",),
    "partition": ("partition", "split"),
    "subject": ("subject", "speaker"),
}
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LabelTable:
    """labels: by recording, without those that have none."""

    partitions: Partitions
    labels: dict[str, Label]


def read_label_table(path: Path, layout: Layout) -> LabelTable:
    """Columns name, valence, arousal, time_s (or timestamp, ms), partition and subject, as far as there are.

    Raises MissingData, or DataError for what is no such table.
    """
    if not path.is_file():
        raise MissingData(f"no label table at {path}")
    with open(path, encoding="utf-8-sig", newline="") as file:
        header, *lines = [r for r in csv.reader(file) if any(c.strip() for c in r)] or [[]]
    there = [c.strip().lower() for c in header]
    at = {n: next((there.index(u) for u in usual if u in there), -1) for n, usual in _COLUMNS.items()}
    if at["name"] < 0 or any(len(r) != len(header) for r in lines):
        raise DataError(f"{path} is no label table", hint="wanted a header: name,valence,arousal,partition,subject")
    if at["valence"] >= 0 and at["arousal"] < 0:
        layout.note(NO_AROUSAL)
    of: dict[str, str] = {}
    subjects: dict[str, str] = {}
    rows = defaultdict(list)
    for line in lines:
        cell = {n: line[i].strip() if i >= 0 else "" for n, i in at.items()}
        name = cell["name"]
        of |= {name: partition_name(cell["partition"])} if cell["partition"] else {}
        subjects |= {name: cell["subject"]} if cell["subject"] else {}
        if cell["valence"]:
            rows[name].append(_numbers(cell, path, layout.wants.middle))
    labels = {name: _label(np.array(found), f"{name!r} in {path}") for name, found in rows.items()}
    return LabelTable(Partitions(of, subjects), labels)


def _numbers(cell: dict[str, str], path: Path, middle: float) -> tuple[float, float, float]:
    """(seconds or NaN, valence, arousal) of one row."""
    try:
        seconds = float(cell["time_s"]) if cell["time_s"] else float(cell["timestamp"] or "nan") / 1000
        return seconds, float(cell["valence"]), float(cell["arousal"] or middle)
    except ValueError as error:
        raise DataError(f"a label of {cell['name']!r} in {path} is no number ({error})") from error


def _label(rows: Values, where: str) -> Label:
    if np.isnan(rows[:, 0]).all():
        if len(rows) > 1:
            raise DataError(f"{where} has {len(rows)} labels without times; wanted one, or a column time_s")
        return np.asarray(rows[0, 1:], np.float32)
    return with_holes(check_times(rows[:, 0], where), rows[:, 1:])
