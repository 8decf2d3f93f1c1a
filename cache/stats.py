"""Per-dimension mean and standard deviation of a stream over some recordings (the training partition), kept with it.

Accumulated in float64, recording by recording, over present frames only; absent frames are not data.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.check import undamaged, whole
from cache.commit import claim, discard
from cache.errors import CacheError
from cache.fingerprint import fingerprint
from cache.groups import commit_group, group_once
from cache.reader import open_array
from cache.store import FeatureCache
from cache.trust import inside

log = logging.getLogger("affuse")


@dataclass(frozen=True)
class Stats:
    """mean, std: f32[D]. std is 1 where a dimension never varies, so that dividing by it is safe."""

    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]


def stream_stats(cache: FeatureCache, key: str, recordings: list[str]) -> Stats:
    """Statistics of one stream over these recordings; computed once for their bytes, then read from ``stats/``.

    Raises CacheError where no frame of them is present.
    """
    written = {r: cache.commit_record(key, r)["arrays"] for r in sorted(recordings)}
    committed = [[r, _content(arrays["values"]), _content(arrays["present"])] for r, arrays in written.items()]
    folder = inside(cache.root, cache.root / "stats" / key / fingerprint(committed))
    if whole(folder, deep=True):
        return Stats(open_array(folder / "mean").copy(), open_array(folder / "std").copy())
    stats = _compute(cache, key, sorted(recordings))
    if cache.writable:
        try:
            _keep(cache, key, folder, stats, len(recordings))
        except CacheError as error:
            log.warning("statistics are not kept: %s", error.message)
    return stats


def _content(written: dict[str, Any]) -> Any:
    return written.get("crc32c", written.get("files"))


def _keep(cache: FeatureCache, key: str, folder: Path, stats: Stats, recordings: int) -> None:
    """Commit statistics, one process at a time, unless another one did so meanwhile."""
    with claim(cache.root, f"stats-{folder.name}", wait=True):
        for group in (folder.parent.parent, folder.parent):
            group_once(cache.root, group, {"holds": "stats"})
        if folder.exists() and not whole(folder, deep=True):
            discard(cache.root, folder)
        arrays = {"mean": stats.mean, "std": stats.std}
        commit_group(cache.root, folder, key, arrays, {"recordings": recordings})


def _compute(cache: FeatureCache, key: str, recordings: list[str]) -> Stats:
    """From every byte of the recordings, so these are checked. Raises CorruptCache where one is damaged."""
    dim, count = cache.stream(key).dim, 0
    mean, spread = np.zeros(dim), np.zeros(dim)
    reader = cache.reader(key)
    for recording in recordings:
        undamaged(reader.folders[recording])
        values, present = reader.recording(recording)
        rows = values[present].astype(np.float64)
        if not len(rows):
            continue
        count += len(rows)
        here = rows.mean(axis=0)
        shift = here - mean
        spread += ((rows - here) ** 2).sum(axis=0) + shift**2 * len(rows) * (count - len(rows)) / count
        mean += shift * len(rows) / count
    if not count:
        raise CacheError(
            f"stream {key} is absent in every frame of the {len(recordings)} training recordings",
            hint="leave it out: name the streams to use with --visual, --audio, --text",
        )
    std = np.sqrt(spread / count)
    return Stats(mean.astype(np.float32), np.where(std > 1e-6, std, 1.0).astype(np.float32))
