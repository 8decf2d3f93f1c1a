"""``cache verify --against``: where a cache differs from what another lab's receipt says, and how.

A stream that is here under other settings is compared all the same, with the receipt's signs: the settings that differ
are named, and its features may still be the same up to precision.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cache.care.info import named
from cache.care.receipt import (
    FeatureReceipt,
    Receipt,
    Splits,
    StreamReceipt,
    TimelineReceipt,
    feature_receipt,
    partitions_of,
    timeline_receipt,
)
from cache.care.sketch import LIMIT, distance
from cache.errors import AffuseError
from cache.fingerprint import differing, spelled
from cache.ids import as_text
from cache.progress import Step, progress
from cache.store import FeatureCache

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Mismatch:
    """what: dataset, recording, timeline, labels, stream, settings, presence or features. stream: a key of the receipt.

    recording and stream are empty where it is not of one.
    """

    what: str
    recording: str
    stream: str
    how: str


@dataclass
class Agreement:
    """What was compared. same: sketches that are equal; close: those that are the same up to precision.

    extra: recordings of the cache that the receipt does not have, which is no difference.
    """

    root: str
    recordings: int
    same: int = 0
    close: int = 0
    differences: list[Mismatch] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)


def compare(root: Path | str, receipt: Receipt, *, quiet: bool = False) -> Agreement:
    """Everything that the receipt has, against the cache at ``root``."""
    cache = FeatureCache(root)
    there = {as_text(r): r for r in cache.timelines.recordings()}
    splits = partitions_of(cache)
    found = Agreement(cache.where, len(receipt.recordings))
    found.extra = sorted(there.keys() - receipt.recordings.keys())
    if receipt.dataset != cache.dataset:
        _differs(found, "dataset", f"{cache.dataset!r} here, {receipt.dataset!r} in the receipt")
    total = len(receipt.recordings) + sum(len(s.recordings) for s in receipt.streams.values())
    with progress("against", total, quiet=quiet) as step:
        for recording, wanted in receipt.recordings.items():
            if recording in there:
                _timeline(cache, there[recording], wanted, splits, found)
            else:
                _differs(found, "recording", "is not in this cache", recording)
            step()
        for key, stream in receipt.streams.items():
            _stream(cache, key, stream, there, found, step)
    return found


def _differs(found: Agreement, what: str, how: str, recording: str = "", stream: str = "") -> None:
    found.differences.append(Mismatch(what, recording, stream, how))


def _timeline(cache: FeatureCache, recording: str, wanted: TimelineReceipt, splits: Splits, found: Agreement) -> None:
    try:
        here = timeline_receipt(cache, recording, splits)
    except AffuseError as error:
        _differs(found, "timeline", error.message, recording)
        return
    measures = () if here.sha256 == wanted.sha256 else ("frames", "start", "seconds", "fps", "drift_ms")
    for name in ("clock", "decoder", *measures):
        ours, theirs = getattr(here, name), getattr(wanted, name)
        if ours != theirs:
            _differs(found, "timeline", f"{name} {ours!r} here, {theirs!r} in the receipt", recording)
    if measures and all(getattr(here, name) == getattr(wanted, name) for name in measures):
        _differs(found, "timeline", "frame times differ", recording)
    for protocol, labels in wanted.labels.items():
        ours = here.labels.get(protocol)
        if ours is None:
            _differs(found, "labels", f"none of protocol {protocol!r}", recording)
        elif ours.partition != labels.partition:
            how = f"{protocol!r}: partition {ours.partition!r} here, {labels.partition!r} in the receipt"
            _differs(found, "labels", how, recording)
        if ours is not None and ours.sha256 != labels.sha256:
            counts = f"{ours.labelled} frames labelled here, {labels.labelled} in the receipt"
            _differs(found, "labels", f"{protocol!r}: other values ({counts})", recording)


def _stream(
    cache: FeatureCache, key: str, wanted: StreamReceipt, there: dict[str, str], found: Agreement, step: Step
) -> None:
    here = _counterpart(cache, key, wanted, found)
    for recording, theirs in wanted.recordings.items():
        if here and recording in there:
            if cache.has(here, there[recording]):
                _features(cache, here, key, there[recording], theirs, found)
            else:
                _differs(found, "features", f"{here} lacks it", recording, key)
        step()


def _counterpart(cache: FeatureCache, key: str, wanted: StreamReceipt, found: Agreement) -> str:
    """The key of the stream to compare with: the same one, or the only one of that name and width; "" for none."""
    keys = cache.stream_keys()
    if key in keys:
        return key
    namesakes = [k for k in keys if k.rpartition("-")[0] == wanted.name]
    if len(namesakes) != 1:
        have = f"{len(namesakes)} others of that name" if namesakes else "none of that name"
        _differs(found, "stream", f"is not in this cache; it has {have}", "", key)
        return ""
    try:
        about = cache.about(namesakes[0])
    except AffuseError as error:
        _differs(found, "stream", error.message, "", key)
        return ""
    for path, (ours, theirs) in differing(about["settings"], wanted.settings).items():
        how = f"{path} = {spelled(ours)} here, {spelled(theirs)} in the receipt"
        _differs(found, "settings", how, "", key)
    if about["dim"] != wanted.dim:
        _differs(found, "stream", f"is {about['dim']} wide here, {wanted.dim} in the receipt", "", key)
        return ""
    return namesakes[0]


def _features(
    cache: FeatureCache, here: str, key: str, recording: str, theirs: FeatureReceipt, found: Agreement
) -> None:
    try:
        ours = feature_receipt(cache, here, recording, key)
    except AffuseError as error:
        _differs(found, "features", error.message, recording, key)
        return
    if ours.present != theirs.present:
        how = f"{ours.present} frames present here, {theirs.present} in the receipt"
        _differs(found, "presence", how, recording, key)
    apart = distance(ours.sketch, theirs.sketch)
    if apart > LIMIT:
        _differs(found, "features", f"are different: {apart:.2g} apart, precision is up to {LIMIT}", recording, key)
    elif ours.sketch == theirs.sketch:
        found.same += 1
    else:
        found.close += 1


def against_lines(found: Agreement) -> "Iterator[Table | str]":
    """The comparison for a terminal: one line for what differs in the same way in many recordings."""
    from rich import box
    from rich.table import Table

    groups: dict[tuple[str, str], list[Mismatch]] = {}
    for d in found.differences:
        groups.setdefault((d.what, d.stream), []).append(d)
    if groups:
        table = Table(box=box.SIMPLE_HEAD)
        for name in ("what", "stream", "recordings", "how, e.g."):
            table.add_column(name, overflow="fold")
        for (what, stream), some in groups.items():
            names = list(dict.fromkeys(d.recording for d in some if d.recording))
            hows = [d.how for d in some] if what == "settings" else [some[0].how]
            who = f"{len(names)}: {named(names)}" if names else ""
            table.add_row(what, stream, who, "\n".join(hows))
        yield table
    if found.extra:
        yield f"not in the receipt, and not compared: {named(found.extra)}"
    sketches = f"features of {found.same} recordings are the same, of {found.close} the same up to precision"
    yield f"{found.recordings} recordings compared; {sketches}; {len(found.differences)} differences"
