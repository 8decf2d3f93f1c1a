"""Which cache a command means when it is not told."""

from pathlib import Path

from cache.errors import CacheError, UsageError

CACHES = Path("var/cache")


def find_cache(given: Path | str | None, dataset: str | None) -> Path | str:
    """``given`` (a folder or a URL), or the cache of that dataset, or the only one below ``var/cache``.

    Raises CacheError where there is none, UsageError with their names where there are several.
    """
    if given is not None:
        return given
    if dataset:
        return CACHES / dataset
    found = sorted(p.parent for p in CACHES.glob("*/zarr.json"))
    if not found:
        raise CacheError(
            f"no feature cache below {CACHES}",
            hint="make one with: make demo, or python cli.py extract --dataset NAME --root DIR",
        )
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise UsageError(
            f"{len(found)} caches lie below {CACHES}: {names}", hint=f"choose one: --dataset {found[0].name}"
        )
    return found[0]
