"""Per-dimension mean and standard deviation of a stream over some recordings (the training partition), kept with it.

Accumulated in float64, recording by recording, over present frames only; absent frames are not data.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cache.check import whole
from cache.commit import discard
from cache.errors import CacheError
from cache.fingerprint import fingerprint
from cache.groups import commit_group, group_once
from cache.reader import open_array
from cache.store import FeatureCache
from cache.trust import inside


@dataclass(frozen=True)
class Stats:
    """mean, std: f32[D]. std is 1 where a dimension never varies, so that dividing by it is safe."""

    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]


def stream_stats(cache: FeatureCache, key: str, recordings: list[str]) -> Stats:
    """Statistics of one stream over these recordings; computed once for their bytes, then read from ``stats/``.

    Raises CacheError where no frame of them is present.
    """
    written = {r: cache.commit_record(key, r)["arrays"]["values"] for r in sorted(recordings)}
    committed = [[r, values.get("crc32c", values.get("files"))] for r, values in written.items()]
    folder = inside(cache.root, cache.root / "stats" / key / fingerprint(committed))
    if not whole(folder, deep=True):
        stats = _compute(cache, key, sorted(recordings))
        if not cache.writable:
            return stats
        for group in (folder.parent.parent, folder.parent):
            group_once(cache.root, group, {"holds": "stats"})
        if folder.exists():
            discard(cache.root, folder)
        commit_group(cache.root, folder, key, {"mean": stats.mean, "std": stats.std}, {"recordings": len(recordings)})
    return Stats(open_array(folder / "mean").copy(), open_array(folder / "std").copy())


def _compute(cache: FeatureCache, key: str, recordings: list[str]) -> Stats:
    dim, count = cache.stream(key).dim, 0
    mean, spread = np.zeros(dim), np.zeros(dim)
    reader = cache.reader(key)
    for recording in recordings:
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
