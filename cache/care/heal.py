"""How extraction clears damaged parts of a cache away, to make exactly those anew.

Nothing is removed on the word of ``damaged.csv`` alone: what it names is checked again first.
"""

from collections.abc import Collection
from pathlib import Path

from cache.care.damages import Damage, damage_list, save_damages
from cache.care.verify import part_faults
from cache.commit import discard, withdraw
from cache.errors import CacheError, CorruptCache
from cache.groups import attributes
from cache.ids import folder_of
from cache.remote import remote_of
from cache.store import FeatureCache
from cache.turns import take_turn


def clear_damaged(
    cache: FeatureCache, keys: Collection[str], recordings: Collection[str], *, streams_alone: bool = False
) -> list[str]:
    """Remove damaged timelines, streams and words that are about to be made anew; returns where in the cache they were.

    Only of these stream keys and recordings, only where a deep check finds them damaged now, and a recording at a time
    among all processes. Suspect are those listed, and those whose commit record cannot be read.
    """
    listed = {d.part for d in damage_list(cache)}
    cleared = []
    for recording in recordings:
        parts = [] if streams_alone else [Path("timelines", folder_of(recording))]
        parts += [Path("features", key, folder_of(recording)) for key in keys]
        suspects = [p for p in parts if str(p) in listed or _unreadable(cache.root / p)]
        words = (cache.root / "transcripts").glob(f"*/{folder_of(recording)}.json")
        if not streams_alone:
            suspects += [p for w in words if str(p := w.relative_to(cache.root)) in listed]
        if suspects:
            with take_turn(cache.root, recording, wait=True):
                for part in suspects:
                    if (cache.root / part).exists() and _broken(cache, part):
                        remove = withdraw if part.suffix == ".json" else discard
                        remove(cache.root, cache.root / part)
                        cleared.append(str(part))
    return cleared


def _broken(cache: FeatureCache, part: Path) -> bool:
    if remote := remote_of(cache.root):
        remote.fetch_anew(cache.root / part)
    return next(part_faults(cache, part, deep=True), None) is not None


def still_damaged(cache: FeatureCache) -> list[Damage]:
    """Check again what is listed, and keep on the list only what is damaged still; returns that."""
    listed = damage_list(cache)
    left = [d for d in listed if (cache.root / d.part).exists() and _broken(cache, Path(d.part))]
    if left != listed:
        save_damages(cache, left)
    return left


def _unreadable(folder: Path) -> bool:
    try:
        attributes(folder)
    except CorruptCache:
        return True
    except CacheError:
        return folder.exists()  # a folder without a commit record is in the way of the one to come
    return False
