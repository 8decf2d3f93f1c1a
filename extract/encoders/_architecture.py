"""Architectures of transformers' models as plain dicts: a preset, or the config.json beside the weights."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cache.errors import DataError, UsageError


def architecture(path: Path | None, model_type: str, preset: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json at ``path``, else the preset. Raises DataError for the config of another kind of model."""
    if path is None:
        return dict(preset)
    given = read_json(path)
    if given.get("model_type", model_type) != model_type:
        raise DataError(f"{path} is of a {given['model_type']} model, wanted {model_type}", hint="give other weights")
    return {**preset, **given}


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file beside weights. Raises DataError."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error})", hint="download it again") from None
    if not isinstance(given, dict):
        raise DataError(f"{path} holds no table of options", hint="download it again")
    return given


def decisive(config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """The options among ``keys``, sorted."""
    return {key: config.get(key) for key in sorted(keys)}


def depth(name: str, layer: int, layers: int) -> int:
    """How many transformer layers the hidden state ``layer`` needs; -1 is the last, 0 the input of the first."""
    keep = layers + 1 + layer if layer < 0 else layer
    if not 0 <= keep <= layers:
        raise UsageError(f"{name} has {layers} layers, layer {layer} was asked for", hint=f"choose -1 or 0 to {layers}")
    return keep
