"""``cache verify``: every group of a cache against its checksums, and the groups against one another.

What is damaged is listed in ``damaged.csv`` in the cache, so that the next extraction makes exactly that anew.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.care.damages import LIST, Damage, damage_list, save_damages
from cache.check import faults, sealed_fault
from cache.errors import AffuseError, CacheError, CorruptCache
from cache.fingerprint import stream_key
from cache.groups import attributes
from cache.ids import folder_of, recording_of
from cache.progress import progress
from cache.remote import is_url, mirror
from cache.store import FeatureCache
from cache.trust import inside

if TYPE_CHECKING:
    from rich.table import Table

log = logging.getLogger("affuse")


@dataclass(frozen=True)
class Verdict:
    """What was looked at, how, and what is wrong with it. groups: recordings' streams, timelines, labels and so on.

    listed: how many of the damages an earlier deep check found; only another one can acquit them.
    """

    root: str
    deep: bool
    groups: int
    damages: list[Damage]
    listed: int = 0


def verify(root: Path | str, *, deep: bool = False, quiet: bool = False) -> Verdict:
    """Check metadata and sizes, with ``deep`` every byte (of a cache at a URL, fetched anew).

    Raises CorruptCache where the cache's own ``zarr.json`` is damaged; extraction into it heals that.
    """
    try:
        if deep and is_url(root):
            mirror(str(root), anew=True)
        cache = FeatureCache(root)
    except CorruptCache as error:
        raise CorruptCache(error.message, hint="extract into it again: what is damaged is made anew") from error
    parts, damages = list(_parts(cache)), []
    with progress("verify", len(parts), quiet=quiet) as step:
        for part in parts:
            causes = list(part_faults(cache, part, deep=deep))
            damages += [Damage(str(part), _recording(cache, part), "; ".join(causes))] if causes else []
            step()
    try:
        earlier = [] if deep else _listed(cache, {d.part for d in damages})
    except CacheError as error:  # only a deep check can make the list anew
        return Verdict(cache.where, deep, len(parts), [*damages, Damage(LIST, "", str(error))])
    if cache.writable:
        _keep(cache, damages + earlier)
    return Verdict(cache.where, deep, len(parts), damages + earlier, len(earlier))


def _listed(cache: FeatureCache, found: set[str]) -> list[Damage]:
    """What is on the list and still there, but for what was found anyway."""
    return [d for d in damage_list(cache) if d.part not in found and (cache.root / d.part).exists()]


def _keep(cache: FeatureCache, damages: list[Damage]) -> None:
    """The list on disk, if it can be written: the verdict does not hang on it."""
    try:
        save_damages(cache, damages)
    except CacheError as error:
        log.warning("%s is not kept: %s", LIST, error.message)


def _parts(cache: FeatureCache) -> Iterator[Path]:
    """Every folder that should be a group, relative to the cache."""
    yield Path()
    for top in ("features", "timelines", "labels", "stats", "transcripts"):
        if (cache.root / top).is_dir():
            yield Path(top)
            for folder in _folders(cache.root / top):
                yield Path(top, folder)
                if top == "transcripts":
                    yield from (Path(top, folder, f.name) for f in _words(cache.root / top / folder))
                elif top != "timelines":
                    yield from (Path(top, folder, f) for f in _folders(cache.root / top / folder))


def _folders(parent: Path) -> list[str]:
    return sorted(f.name for f in parent.iterdir() if f.is_dir() and not f.name.startswith("."))


def _words(folder: Path) -> list[Path]:
    return sorted(f for f in folder.glob("*.json") if f.name != "zarr.json")


def part_faults(cache: FeatureCache, part: Path, *, deep: bool) -> Iterator[str]:
    """What is wrong with one group, in itself and beside its neighbours, or with one file of recognised words."""
    if part.suffix == ".json":
        if fault := sealed_fault(cache.root / part):
            yield fault
        return
    found = False
    try:
        folder = inside(cache.root, cache.root / part)
    except CorruptCache as error:
        yield error.message
        return
    for fault in faults(folder, deep=deep):
        found = True
        yield fault
    if not found:
        yield from _strange(cache, part)


def _strange(cache: FeatureCache, part: Path) -> Iterator[str]:
    """A whole group in the wrong place, or of another length than its timeline."""
    record, names = attributes(cache.root / part), part.parts
    if names[:1] == ("features",) and len(names) == 2:
        key = stream_key(record["name"], record["settings"])
        if key != names[1]:
            yield f"its settings are those of {key}"
    if "recording" not in record or names[0] == "stats":
        return
    if folder_of(record["recording"]) != names[-1]:
        yield f"it holds recording {record['recording']!r}"
    elif names[0] != "timelines":
        yield from _other_times(cache, record["recording"], record)


def _other_times(cache: FeatureCache, recording: str, record: dict[str, Any]) -> Iterator[str]:
    """Of a group that was made on another timeline than the recording has."""
    try:
        timeline = cache.timelines.read(recording)
    except CorruptCache:
        return  # named where the timeline is
    except AffuseError:
        yield "its recording has no timeline"
        return
    for name, array in record["arrays"].items():
        if array["shape"][0] != len(timeline):
            yield f"{name} has {array['shape'][0]} frames, its timeline {len(timeline)}"
            return
    if record.get("timeline", timeline.mark) != timeline.mark:
        yield "it was made on other frame times than its timeline has"


def _recording(cache: FeatureCache, part: Path) -> str:
    """The id a group is of, as well as can be told of a damaged one; "" where it is of many."""
    if len(part.parts) < (2 if part.parts[:1] == ("timelines",) else 3) or part.parts[0] == "stats":
        return ""
    name = part.name.removesuffix(".json") if part.parts[0] == "transcripts" else part.name
    return recording_of(name) or name


def verdict_lines(verdict: Verdict) -> "list[Table | str]":
    """The verdict for a terminal."""
    from rich import box
    from rich.table import Table

    how = "every byte" if verdict.deep else "metadata and sizes (--deep reads every byte)"
    if not verdict.damages:
        return [f"{verdict.root}: {verdict.groups} groups are whole: {how}"]
    table = Table(title=f"{verdict.root}: damaged", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("part", "what is wrong"):
        table.add_column(name, overflow="fold")
    for d in verdict.damages:
        table.add_row(d.part, d.cause)
    earlier = f", {verdict.listed} of them by the last --deep" if verdict.listed else ""
    return [
        table,
        f"{len(verdict.damages)} of {verdict.groups} groups are damaged ({how}){earlier}; extract again to remake them",
    ]
