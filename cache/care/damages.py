"""What ``cache verify`` found damaged, kept in the cache as ``damaged.csv`` until extraction has made it anew."""

import csv
import io
from dataclasses import dataclass, fields

from cache.errors import CacheError
from cache.store import FeatureCache
from cache.tables import publish_table

LIST = "damaged.csv"


@dataclass(frozen=True)
class Damage:
    """part: folder of a group inside the cache. recording: its id; "" where the group is of many. cause: a line."""

    part: str
    recording: str
    cause: str


def damage_list(cache: FeatureCache) -> list[Damage]:
    """What the last verification left damaged. Raises CacheError where the list is not one of ours."""
    path = cache.root / LIST
    if not path.is_file():
        return []
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        sound = all(set(row) == {f.name for f in fields(Damage)} and None not in row.values() for row in rows)
    except (UnicodeDecodeError, csv.Error):
        sound = False
    if not sound:
        raise CacheError(f"{path} is not a list of damages", hint="make it anew: python cli.py cache verify --deep")
    return [Damage(**row) for row in rows]


def save_damages(cache: FeatureCache, damages: list[Damage]) -> None:
    """Keep the list; no list where there is nothing in it."""
    publish_table(cache.root, cache.root / LIST, damages)
