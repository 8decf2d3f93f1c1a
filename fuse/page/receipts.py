"""What vouches for a report's numbers: each run's settings and surroundings, what its files hash to, test openings."""

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuse.feeding.locked import LOG
from fuse.train import RunResult

_DIGITS = 12  # of a sha256, as in the log of test evaluations
_FILES = ("best.safetensors", "statistics/{}.csv", "metrics.json")


@dataclass(frozen=True)
class Receipt:
    """One run. settings, surroundings: its ``recipe.json`` and ``environment.json`` as text; record: the latter read.

    digests: first digits of the sha256 of its weights, of the statistics that tables and intervals come from, and of
    its metrics. opened: rows of its log of test evaluations.
    """

    name: str
    settings: str
    surroundings: str
    record: dict[str, Any]
    digests: list[str]
    opened: list[dict[str, str]]


@dataclass(frozen=True)
class Stream:
    """A stream that some run was trained on: what it is, what made it, and the first digits of its weights' hash."""

    name: str
    key: str
    modality: str
    dim: int
    encoder: str
    weights: str


def receipt_of(run: RunResult, partition: str) -> Receipt:
    """Read after the last opening of test, so that this one is among those counted."""
    folder = Path(run.folder)
    settings, surroundings = (
        (folder / name).read_text(encoding="utf-8") for name in ("recipe.json", "environment.json")
    )
    log = folder / LOG
    opened = list(csv.DictReader(log.read_text(encoding="utf-8").splitlines())) if log.is_file() else []
    digests = [digest(folder / name.format(partition)) for name in _FILES]
    return Receipt(folder.name, settings, surroundings, json.loads(surroundings), digests, opened)


def digest(path: Path) -> str:
    """First digits of the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGITS] if path.is_file() else "not there"


def streams_of(receipts: Sequence[Receipt]) -> list[Stream]:
    """Each stream once, by key."""
    found = {}
    for receipt in receipts:
        for spec in receipt.record["streams"]:
            settings = (receipt.record.get("declared") or {}).get(spec["key"], {}).get("settings", {})
            weights = str(settings.get("weights", ""))[:_DIGITS]
            found[spec["key"]] = Stream(
                spec["name"], spec["key"], spec["modality"], spec["dim"], str(settings.get("encoder", "")), weights
            )
    return list(found.values())
