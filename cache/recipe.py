"""Recipes: strict plain data in, frozen dataclasses out.

Defaults < recipe file < named flags < ``--set a.b=c``. An unknown key is an error with a suggestion, and all errors
of a recipe are reported at once.
"""

import dataclasses
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from cache.errors import ConfigError, MissingData
from cache.registry import suggest

T = TypeVar("T")


def build(cls: type[T], data: Mapping[str, Any], where: str = "recipe") -> T:
    """A ``cls`` (frozen dataclass) from plain data. Raises ConfigError naming every unknown key and bad value."""
    problems = _unknown_keys(cls, data, where)
    if not problems:
        try:
            return TypeAdapter(cls).validate_python(dict(data))
        except ValidationError as error:
            problems = [
                f"{'.'.join([where, *map(str, e['loc'])])} = {e['input']!r}: {e['msg'].lower()}" for e in error.errors()
            ]
    raise ConfigError("; ".join(problems))


def _unknown_keys(cls: Any, data: Mapping[str, Any], where: str) -> list[str]:
    known = [f.name for f in dataclasses.fields(cls)]
    hints = get_type_hints(cls)
    problems = []
    for key, value in data.items():
        if key not in known:
            legal = f"it takes {', '.join(known)}" if known else "it takes no options"
            problems.append(f"{where} has no key {key!r} ({suggest(key, known) or legal})")
        elif dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            problems += _unknown_keys(hints[key], value, f"{where}.{key}")
    return problems


def load_toml(path: Path) -> dict[str, Any]:
    """Plain data of a TOML recipe. Raises MissingData, or ConfigError with the parser's line number."""
    if not path.is_file():
        raise MissingData(f"no recipe at {path}", hint="give --recipe the path of a .toml file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Layers of plain data, later ones over earlier ones, nested tables merged; ``None`` values are 'not given'."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping):
                below = merged.get(key)
                merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
            elif value is not None:
                merged[key] = value
    return merged


def parse_sets(pairs: Iterable[str], flag: str = "--set") -> dict[str, Any]:
    """``["swin.batch_size=4"]`` as nested plain data; values are TOML, and bare words are strings."""
    tree: dict[str, Any] = {}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        if not equals or not all(path.split(".")):
            raise ConfigError(f"{flag} {pair!r} is not of the form key=value or table.key=value")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        for part in reversed(path.split(".")):
            value = {part: value}
        tree = merge(tree, value)
    return tree


def to_plain(value: Any) -> Any:
    """Dataclasses, paths and tuples as JSON-able plain data."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def to_json(value: Any) -> str:
    """Readable JSON of a recipe, as saved beside every run."""
    return json.dumps(to_plain(value), indent=2, ensure_ascii=False) + "\n"


def find_recipe(name: Path | None, shipped: Path) -> dict[str, Any]:
    """Plain data of a recipe file, or of one that is shipped (``demo`` for ``demo.toml``); empty for None."""
    if name is None:
        return {}
    ours = shipped / f"{name}.toml"
    if not ours.is_file() and not name.is_file():
        names = ", ".join(sorted(f.stem for f in shipped.glob("*.toml")))
        raise MissingData(f"no recipe at {name}", hint=f"give the path of a .toml file or a shipped name: {names}")
    return load_toml(ours if ours.is_file() else name)
