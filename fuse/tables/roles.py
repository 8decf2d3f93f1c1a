"""Roles of a published table and the streams of a cache that play them: no row claims a stream that it did not use."""

from dataclasses import replace
from typing import Any

from cache.errors import CacheError, ConfigError, UsageError
from cache.recipe import merge
from cache.registry import suggest
from cache.store import FeatureCache
from fuse.tables.grid import AblateRecipe, Row


def cast(recipe: AblateRecipe) -> AblateRecipe:
    """The recipe with streams in place of roles, in rows, labels and temporal models; its notes tell who plays what.

    Raises ConfigError for roles that no row has, CacheError for streams that the cache lacks, unless their rows are to
    be left out, UsageError where two roles of a row are one stream.
    """
    if not recipe.streams and not recipe.skip_missing:
        return recipe
    roles = list(dict.fromkeys(r for row in recipe.rows for r in row.streams))
    for role in recipe.streams.keys() - set(roles):
        raise ConfigError(
            f"streams.{role} is no role of the rows", hint=suggest(role, roles) or f"there are: {', '.join(roles)}"
        )
    cache = FeatureCache(recipe.cache)
    plays = {role: recipe.streams.get(role, role) for role in roles}
    missing = {role: name for role, name in plays.items() if not _holds(cache, name)}
    out = [row for row in recipe.rows if missing.keys() & set(row.streams)]
    rows = tuple(_cast_row(row, plays, cache) for row in recipe.rows if row not in out)
    if out and not (recipe.skip_missing and rows):
        raise _lacking(recipe, cache, missing)
    notes = [f"streams: {', '.join(_told(role, plays[role], cache) for role in roles if role not in missing)}"]
    absent = "; ".join(_labelled(row, plays) for row in out)
    notes += [f"left out, as the cache lacks {', '.join(missing.values())}: {absent}"] if out else []
    return replace(recipe, rows=rows, streams={}, notes=(*recipe.notes, *notes))


def _holds(cache: FeatureCache, name: str) -> bool:
    return any(name in (key, key.rpartition("-")[0]) for key in cache.stream_keys())


def _lacking(recipe: AblateRecipe, cache: FeatureCache, missing: dict[str, str]) -> CacheError:
    told = [name if name == role else f"{name} (as {role})" for role, name in missing.items()]
    there = ", ".join(sorted({k.rpartition("-")[0] for k in cache.stream_keys()})) or "none"
    made = f"make them with: python cli.py extract --dataset {cache.dataset or 'NAME'} {recipe.extract}, or "
    return CacheError(
        f"rows of the table need streams that {cache.where} lacks: {', '.join(told)}; it holds: {there}",
        hint=f"{made if recipe.extract else ''}name others: --set streams.{next(iter(missing))}=NAME, "
        "or leave those rows out: --skip-missing",
    )


def _cast_row(row: Row, plays: dict[str, str], cache: FeatureCache) -> Row:
    """Labels and temporal models know a stream by its name, even where it was given by its key."""
    called = {role: cache.resolve(plays[role]).name for role in row.streams}
    for role, name in called.items():
        twin = next(r for r, n in called.items() if n == name)
        if twin != role:
            raise UsageError(
                f"row {row.label!r} has two streams, but {twin} and {role} are both {name!r}",
                hint=f"name another one: --set streams.{role}=NAME",
            )
    temporal: dict[str, Any] = {called.get(k, k): v for k, v in row.set.get("temporal", {}).items()}
    settings = merge({k: v for k, v in row.set.items() if k != "temporal"}, {"temporal": temporal} if temporal else {})
    return replace(row, label=_labelled(row, called), streams=tuple(plays[r] for r in row.streams), set=settings)


def _labelled(row: Row, called: dict[str, str]) -> str:
    label = row.label
    for role, name in called.items():
        label = label.replace(f"{{{role}}}", name)
    return label


def _told(role: str, given: str, cache: FeatureCache) -> str:
    """``audio = spectrogram (random weights)``: the role where the stream is called otherwise, and what it is worth."""
    spec = cache.resolve(given)
    signature = cache.about(spec.key).get("origin", {}).get("signature", [])
    random = any(isinstance(s, str) and s.startswith("random:") for s in signature)
    return (spec.name if spec.name == role else f"{role} = {spec.name}") + (" (random weights)" if random else "")
