"""Which streams the training runs below a folder were made from, read from what every run writes before it starts."""

import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Uses:
    """runs: how many say what they used. keys: how many of them used each stream. unclear: folders that do not say."""

    runs: int
    keys: dict[str, int]
    unclear: list[str]


def stream_uses(runs: Path) -> Uses:
    """What the runs below ``runs`` used: ``streams[].key`` of each ``environment.json``.

    A key is a hash of all that changes the numbers, so a run on another copy of the cache counts too.
    """
    found, unclear = dict[str, int](), []
    folders = sorted(Path(top) for top, _, names in os.walk(runs) if {"recipe.json", "environment.json"} & {*names})
    for folder in folders:
        try:
            streams = json.loads((folder / "environment.json").read_text(encoding="utf-8"))["streams"]
            keys = {str(s["key"]) for s in streams}
        except (OSError, ValueError, KeyError, TypeError):
            unclear.append(str(folder))
            continue
        for key in keys:
            found[key] = found.get(key, 0) + 1
    return Uses(len(folders) - len(unclear), found, unclear)
