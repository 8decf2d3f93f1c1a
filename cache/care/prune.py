"""What of a cache may go, and its removal: nothing committed goes without its key being named or ``unused`` asked for.

*partial*: what dead writers left in ``.staging``, and folders without a commit record and without anything committed
in them; at a URL only day-old ones, since another machine's upload looks the same until its record is up. *stats*:
derived, made anew when needed. *unused*: a stream that no run used. *superseded*: an unused stream whose name and
encoder another stream has that is used or is to be kept; records hold no times, so which of two is older is not known.
Both go with ``unused``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cache.care.info import size_of
from cache.care.uses import Uses, stream_uses
from cache.commit import STAGING, discard, in_progress, leftovers, sweep
from cache.errors import AffuseError, CacheError, UsageError
from cache.registry import suggest
from cache.remote import age_s, remote_of
from cache.store import FeatureCache

if TYPE_CHECKING:
    from rich.table import Table

_UPLOAD_S = 86_400.0  # an upload of one recording ends within a day
Kind = Literal["partial", "stats", "unused", "superseded", "named"]


@dataclass(frozen=True)
class Choice:
    """Which classes are to go. streams: keys named in full; keep: keys that ``unused`` leaves alone."""

    partial: bool = False
    stats: bool = False
    unused: bool = False
    streams: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    @property
    def all(self) -> bool:
        """Nothing is chosen: everything that could go is listed."""
        return not (self.partial or self.stats or self.unused or self.streams)


@dataclass(frozen=True)
class Prunable:
    """A folder or file inside the cache that may go, and why."""

    part: str
    kind: Kind
    bytes: int
    why: str


@dataclass(frozen=True)
class Pruning:
    """What may go, and whether it went. runs: training runs that were asked which streams they used."""

    root: str
    runs: int
    parts: list[Prunable]
    notes: list[str]
    removed: bool = False


def plan_prune(root: Path | str, runs: Path, choice: Choice) -> Pruning:
    """What of the chosen classes is there. Raises CacheError for a key that is not in the cache."""
    cache, uses = FeatureCache(root), stream_uses(runs)
    keys = cache.stream_keys()
    for key in (*choice.streams, *choice.keep):
        if key not in keys:
            hint = suggest(key, keys) or "the keys it holds: python cli.py cache info"
            raise CacheError(f"no stream has the key {key!r} in {root}", hint=hint)
    parts = [*_partial(cache)] if choice.partial or choice.all else []
    if choice.stats or choice.all:
        parts += _part(cache, cache.root / "stats", "stats", "derived, made anew when needed")
    doubt = _doubt(runs, uses)
    if choice.unused and doubt:
        raise UsageError(f"{doubt}: which streams are unused is not known", hint="name them: --stream KEY")
    if (choice.unused or choice.all) and not doubt:
        parts += _unused(cache, keys, uses, choice)
    for key in choice.streams:
        used = f"named; {uses.keys[key]} runs used it" if key in uses.keys else "named"
        parts = [p for p in parts if p.part != f"features/{key}"]
        parts += _part(cache, cache.root / "features" / key, "named", used)
    return Pruning(cache.where, uses.runs, parts, _notes(cache, doubt if choice.all else ""))


def prune(root: Path | str, planned: Pruning) -> Pruning:
    """Remove what was planned, each part in one step; what has been committed since stays.

    Raises CacheError while another process writes to the cache.
    """
    cache = FeatureCache(root)
    busy = in_progress(cache.root)
    if busy:
        raise CacheError(
            f"something is being written to {root}: {busy[0]}",
            hint="wait for it; a draft of another machine that writes no more can be removed by hand",
        )
    partial = {p.part for p in _partial(cache)}
    parts = [p for p in planned.parts if p.kind != "partial" or p.part in partial]
    for part in parts:
        folder = cache.root / part.part
        if part.kind in ("unused", "superseded", "named"):
            stats = cache.root / "stats" / folder.name
            if stats.exists():
                discard(cache.root, stats)
        if folder.exists() and folder.parent.name != STAGING:
            discard(cache.root, folder)
    if any(p.kind == "partial" for p in parts):
        sweep(cache.root)
    return replace(planned, parts=parts, removed=True)


def _partial(cache: FeatureCache) -> Iterator[Prunable]:
    remote = remote_of(cache.root)
    for left in leftovers(cache.root):
        yield from _part(cache, left, "partial", "left by a writer that died")
    for folder in _without_record(cache):
        if remote is None or age_s(remote, folder) > _UPLOAD_S:
            yield from _part(cache, folder, "partial", "has no commit record")


def _without_record(cache: FeatureCache) -> Iterator[Path]:
    """Folders of streams, recordings and protocols that were not committed; the outermost."""
    tops = [cache.root / name for name in ("features", "timelines", "labels")]
    inner = [f for top in (tops[0], tops[2]) for f in top.glob("*/*")]
    for folder in (*(f for top in tops for f in top.glob("*")), *inner):
        within = folder.parent.parent != cache.root and not (folder.parent / "zarr.json").exists()
        if folder.is_dir() and not (folder / "zarr.json").exists() and not within and not _holds(cache, folder):
            yield folder


def _holds(cache: FeatureCache, folder: Path) -> bool:
    """Whether recordings are committed in a stream or protocol whose own record is lost."""
    return folder.parent.name in ("features", "labels") and any(folder.glob("*/zarr.json"))


def _unused(cache: FeatureCache, keys: list[str], uses: Uses, choice: Choice) -> Iterator[Prunable]:
    stays = {k for k in keys if k in uses.keys or k in choice.keep}
    kept = {_made_by(cache, k): k for k in sorted(stays)}
    for key in (k for k in keys if k not in stays and k not in choice.streams):
        other = kept.get(_made_by(cache, key))
        why = f"of {uses.runs} runs none used it"
        if other:
            why += f"; {other} has its name and encoder and is {'used' if other in uses.keys else 'kept'}"
        yield from _part(cache, cache.root / "features" / key, "superseded" if other else "unused", why)


def _made_by(cache: FeatureCache, key: str) -> tuple[str, str]:
    """Name and encoder of a stream; a damaged one is like no other."""
    try:
        return key.rpartition("-")[0], str(cache.about(key)["settings"].get("encoder", ""))
    except AffuseError:
        return key, ""


def _part(cache: FeatureCache, folder: Path, kind: Kind, why: str) -> Iterator[Prunable]:
    if folder.exists():
        yield Prunable(folder.relative_to(cache.root).as_posix(), kind, size_of(folder), why)


def _doubt(runs: Path, uses: Uses) -> str:
    """Why the runs cannot say what is unused; "" where they can."""
    if uses.unclear:
        return f"{len(uses.unclear)} runs do not say what they used, such as {uses.unclear[0]}"
    return "" if uses.runs else f"there is no training run below {runs}"


def _notes(cache: FeatureCache, doubt: str) -> list[str]:
    busy = in_progress(cache.root)
    return [*([f"{doubt}, so no stream is called unused"] if doubt else []), *(f"being written: {b}" for b in busy)]


def prune_lines(found: Pruning) -> "Iterator[Table | str]":
    """The plan, or what was done, for a terminal."""
    from rich import box
    from rich.table import Table

    total = sum(p.bytes for p in found.parts)
    if found.parts:
        yield f"{found.root}:"
        table = Table(box=box.SIMPLE_HEAD)
        for name in ("part", "class", "bytes", "why"):
            right = name == "bytes"
            table.add_column(name, justify="right" if right else "left", no_wrap=right, overflow="fold")
        for p in found.parts:
            table.add_row(p.part, p.kind, f"{p.bytes:,}", p.why)
        yield table
    yield from found.notes
    if not found.parts:
        yield "there is nothing that may go"
    elif found.removed:
        yield f"{len(found.parts)} parts removed, {total:,} bytes"
    else:
        yield f"{len(found.parts)} parts may go, {total:,} bytes; nothing is removed without --yes"
