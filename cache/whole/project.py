"""Principal components of a stream as a stream of its own: fitted on the training partition, on caches of any size.

A head may then read 128 numbers a frame where the encoder wrote 1024. The projection is in the stream's fingerprint by
what it was fitted on: other training recordings, or other features of them, make another stream.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import MissingData, UsageError
from cache.fingerprint import fingerprint
from cache.progress import progress
from cache.records import Aligned
from cache.store import FeatureCache
from cache.whole.stacked import blocks, stacked

_AT_ONCE = 8192  # frames
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Projected:
    """A stream of components. frames: those it was fitted on; kept: share of their variance that the components keep.

    made: recordings projected now; the others were there.
    """

    key: str
    of: str
    components: int
    frames: int
    kept: float
    made: int
    recordings: int


def project(
    cache: FeatureCache,
    name: str,
    components: int,
    *,
    partition: str = "train",
    protocol: str = "va",
    quiet: bool = False,
) -> Projected:
    """Fit on a partition's present frames (scikit-learn's IncrementalPCA, no whitening), project every recording.

    name: the stream's key, or its bare name; the new stream is ``NAME-pca<components>``, in the same dtype. Where it
    was begun, only what it lacks is made. Raises UsageError for more components than dimensions or frames, MissingData
    where the partition has no recording of the stream.
    """
    spec = cache.resolve(name)
    inside = cache.labels.partitions(protocol).members(partition)
    fitted_on = [r for r in sorted(inside) if cache.has(spec.key, r)]
    if not fitted_on:
        told = f"stream {spec.key} has no recording of partition {partition!r} of protocol {protocol!r}"
        raise MissingData(told, hint="look with: python cli.py cache info")
    frames = stacked(cache, spec.key, fitted_on)
    if not 1 <= components <= min(spec.dim, len(frames)):
        raise UsageError(f"{components} components of {spec.dim} dimensions over {len(frames):,} frames")
    mean, axes, kept = _fitted(frames, components, quiet)
    about = cache.about(spec.key)
    content = [[r, cache.commit_record(spec.key, r)["arrays"]] for r in fitted_on]
    settings = {
        "encoder": "pca",
        "of": spec.key,
        "components": components,
        "fitted_on": {"protocol": protocol, "partition": partition, "content": fingerprint(content)},
        "dtype": about["settings"].get("dtype", "float16"),
    }
    origin = {"explained_variance": kept, "frames": len(frames)}
    new = cache.declare(f"{spec.name}-pca{components}", spec.modality, components, settings, origin)
    made = _project_all(cache, spec.key, new.key, mean, axes, settings["dtype"], quiet)
    return Projected(new.key, spec.key, components, len(frames), kept, made, len(cache.recordings(new.key)))


def _fitted(frames: Any, components: int, quiet: bool) -> tuple[F64, F64, float]:
    """Mean f64[D], axes f64[components,D] and the share of variance they keep."""
    from sklearn.decomposition import IncrementalPCA

    pca = IncrementalPCA(components)
    rows = max(_AT_ONCE, components)
    with progress("fitting", max(1, len(frames) // rows), quiet=quiet) as step:
        for block in blocks(frames, rows):
            pca.partial_fit(block.astype(np.float64))
            step()
    return pca.mean_, pca.components_, float(pca.explained_variance_ratio_.sum())


def _project_all(cache: FeatureCache, key: str, new: str, mean: F64, axes: F64, dtype: str, quiet: bool) -> int:
    left = [r for r in cache.recordings(key) if not cache.has(new, r)]
    reader = cache.reader(key)
    with progress("projecting", len(left), quiet=quiet) as step:
        for recording in left:
            cache.write(new, recording, _components(*reader.recording(recording), mean, axes), dtype=dtype)
            step()
    return len(left)


def _components(values: npt.NDArray[Any], present: npt.NDArray[np.bool_], mean: F64, axes: F64) -> Iterator[Aligned]:
    for start in range(0, len(values), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        projected = (values[some].astype(np.float64) - mean) @ axes.T
        yield Aligned(projected.astype(np.float32), present[some])


def project_lines(found: Projected) -> list[str]:
    """For a terminal: the new stream, and what it keeps."""
    return [
        f"{found.key}: {found.components} components of {found.of}, {found.kept:.1%} of its variance",
        f"fitted on {found.frames:,} frames; {found.made} recordings projected now, {found.recordings} in all",
    ]
