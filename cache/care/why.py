"""What a stream's key stands for, and what sets two streams apart: settings by settings, then number by number."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.errors import CorruptCache
from cache.fingerprint import ABSENT, differing, flatten, spelled
from cache.store import FeatureCache

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Why:
    """One stream. settings: all that its fingerprint hashes, by dotted path; origin does not count.

    apart: for every other stream of that name, the settings that differ with both values, this stream's first.
    """

    key: str
    name: str
    modality: str
    dim: int
    settings: dict[str, Any]
    origin: dict[str, Any]
    apart: dict[str, dict[str, tuple[Any, Any]]]


def explain(root: Path | str, name: str) -> Why:
    """The stream of a full key, or of a bare name where that stands for one. Raises as ``FeatureCache.resolve``."""
    cache = FeatureCache(root)
    spec = cache.resolve(name)
    about = cache.about(spec.key)
    others = [k for k in cache.stream_keys() if k != spec.key and k.rpartition("-")[0] == spec.name]
    apart = {k: _apart(cache, about["settings"], k) for k in others}
    origin = flatten(about["origin"])
    return Why(spec.key, spec.name, spec.modality, spec.dim, flatten(about["settings"]), origin, apart)


def _apart(cache: FeatureCache, settings: dict[str, Any], other: str) -> dict[str, tuple[Any, Any]]:
    try:
        return differing(settings, cache.about(other)["settings"])
    except CorruptCache as error:
        return {error.message: (ABSENT, ABSENT)}


def why_lines(why: Why) -> "Iterator[Table | str]":
    """The explanation for a terminal."""
    yield f"{why.key}: {why.modality}, {why.dim} wide. In its fingerprint:"
    yield _table({p: [v] for p, v in why.settings.items()}, "value")
    if why.origin:
        yield "Origin (does not count):"
        yield _table({p: [v] for p, v in why.origin.items()}, "value")
    for other, fields in why.apart.items():
        yield from apart_lines(why.key, other, fields)


def apart_lines(a: str, b: str, fields: dict[str, tuple[Any, Any]]) -> "Iterator[Table | str]":
    """The settings that two streams differ in."""
    yield f"What sets {a} apart from {b}:"
    yield _table({p: list(values) for p, values in fields.items()}, a, b)


def _table(rows: dict[str, list[Any]], *columns: str) -> "Table":
    """Dotted paths and their values, as JSON."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("setting", *columns):
        table.add_column(name, overflow="fold")
    for path, values in rows.items():
        table.add_row(path, *(spelled(v) for v in values))
    return table
