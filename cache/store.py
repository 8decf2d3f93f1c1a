"""FeatureCache: what is committed, what each stream is, and how a recording's features get in.

``features/<name>-<fingerprint>/<recording>/{values,present}``, ``timelines/<recording>/pts`` and
``labels/<protocol>/<recording>/{va,labelled}``; every folder is a plain Zarr v3 group. FORMAT.md says it all.
A recording's stream is committed exactly when its folder exists, and never changes afterwards.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.commit import STAGING, staged, sweep
from cache.dtypes import dtype_of, largest
from cache.errors import AmbiguousStream, CacheError, DataError
from cache.fingerprint import ABSENT, differing, flatten, spelled, stream_key
from cache.groups import DIMS, attributes, children, close_group, committed, group_once
from cache.ids import folder_of
from cache.labels import LabelStore
from cache.layout import write_array, write_blocks
from cache.mark import MIRROR_FILES
from cache.packed import Packing, write_packed
from cache.reader import StreamReader, open_stream
from cache.records import Aligned, Modality, StreamSpec
from cache.registry import suggest
from cache.remote import local_root, remote_of
from cache.timelines import TimelineStore
from cache.trust import inside

FORMAT = 1


class FeatureCache:
    """One corpus's features, timelines and labels in one folder."""

    def __init__(self, root: Path | str) -> None:
        """Open an existing cache in a folder, or at an fsspec URL through a local mirror of it.

        Raises CacheError where there is none, one of a newer format, or no way to it.
        """
        self.where = str(root)
        self.root = local_root(root)
        if not (self.root / "zarr.json").is_file():
            raise CacheError(
                f"no feature cache at {root}",
                hint=f"make one with: python cli.py extract --dataset NAME --root DIR --cache {root}",
            )
        self.timelines = TimelineStore(self.root)
        self.labels = LabelStore(self.root)
        self.writable = os.access(self.root, os.W_OK)
        about = attributes(self.root)
        self.dataset: str = about.get("dataset", "")
        self.corpus = self.dataset or self.root.name  # what to call it
        if about.get("format") != FORMAT:
            raise CacheError(
                f"the cache at {self.root} has format {about.get('format')}; this program reads {FORMAT}",
                hint="update affuse, or extract again into another folder",
            )

    @classmethod
    def create(cls, where: Path | str, dataset: str = "") -> "FeatureCache":
        """Open the cache at ``where`` for writing, making it if it is not there; sweeps up dead writers' leftovers."""
        root = local_root(where)
        if root.is_file():
            raise CacheError(f"{root} is a file", hint="give --cache a folder")
        strange = {p.name for p in root.iterdir()} - {STAGING, *MIRROR_FILES} if root.is_dir() else set()
        if strange and not (root / "zarr.json").is_file():
            raise CacheError(f"{root} is not empty and not a feature cache", hint="give --cache another folder")
        group_once(root, root, {"format": FORMAT, "dataset": dataset})
        for group in ("features", "timelines", "labels"):
            group_once(root, root / group, {"holds": group})
        inside(root, root / STAGING)
        sweep(root)
        cache = cls(where)
        if dataset:
            cache.check_dataset(dataset)
        return cache

    def check_dataset(self, dataset: str) -> None:
        """Raises CacheError where the cache holds another dataset: ids of two corpora would be mixed up."""
        if self.dataset != dataset:
            raise CacheError(
                f"the cache at {self.root} holds {self.dataset or 'no named dataset'!r}, not {dataset!r}",
                hint="give every dataset a cache of its own",
            )

    # -- streams ------------------------------------------------------------------------------------------------

    def stream_keys(self) -> list[str]:
        """Keys of all streams, sorted."""
        return sorted(f.parent.name for f in (self.root / "features").glob("*-*/zarr.json"))

    def stream(self, key: str) -> StreamSpec:
        """What the stream of that key is."""
        about = self.about(key)
        each = about["settings"].get("options", {}).get("layer_dim", about["dim"])
        return StreamSpec(about["name"], about["modality"], about["dim"], key, about["dim"] // each)

    def about(self, key: str) -> dict[str, Any]:
        """A stream's record: name, modality, dim, every setting in its fingerprint, and where its weights came from."""
        return attributes(inside(self.root, self.root / "features" / key))

    def resolve(self, name: str) -> StreamSpec:
        """The stream of a bare name or full key.

        Raises CacheError with the names there are, or AmbiguousStream with the settings that differ.
        """
        keys = self.stream_keys()
        if name in keys:
            return self.stream(name)
        matches = [k for k in keys if k.rpartition("-")[0] == name]
        if len(matches) == 1:
            return self.stream(matches[0])
        if matches:
            raise AmbiguousStream(_differences(self, name, matches), hint="name one of them in full")
        names = sorted({k.rpartition("-")[0] for k in keys})
        raise CacheError(
            f"no stream {name!r} in {self.root}; it holds: {', '.join(names) or 'none'}",
            hint=suggest(name, names) or "extract it first",
        )

    def declare(
        self, name: str, modality: Modality, dim: int, settings: dict[str, Any], origin: dict[str, Any]
    ) -> StreamSpec:
        """Make the (empty) stream of these settings, or return the one there is. ``origin`` has no effect on it."""
        key = stream_key(name, settings)
        record = {"name": name, "modality": modality, "dim": dim, "settings": settings, "origin": origin}
        group_once(self.root, self.root / "features" / key, record)
        return self.stream(key)

    # -- recordings ---------------------------------------------------------------------------------------------

    def folder(self, key: str, recording: str) -> Path:
        """Where a recording's stream is, or would be. Raises CorruptCache where that leads out of the cache."""
        return inside(self.root, self.root / "features" / key / folder_of(recording))

    def has(self, key: str, recording: str) -> bool:
        """Whether that recording's stream is committed."""
        return (self.folder(key, recording) / "zarr.json").is_file()

    def recordings(self, key: str) -> list[str]:
        """Ids of the recordings committed in a stream, sorted."""
        return children(self.root / "features" / key)

    def write(
        self,
        key: str,
        recording: str,
        aligned: Aligned | Iterable[Aligned],
        info: dict[str, Any] | None = None,
        *,
        dtype: str = "float16",
        packing: Packing | None = None,
    ) -> int:
        """Commit one recording of a stream, given whole or as consecutive blocks of frames.

        values f32[T,D] are stored as ``dtype``, in our own layout unless ``packing`` names another; ``info`` is kept
        with them. Returns how many frames are absent.
        Raises DataError where values are not finite or do not fit the dtype: nothing is committed then.
        """
        timeline = self.timelines.read(recording)
        shape = (len(timeline), self.stream(key).dim)
        folder, present, kind = self.folder(key, recording), [np.empty(0, bool)], dtype_of(dtype)
        with staged(self.root, folder) as staging:

            def rows() -> Iterator[npt.NDArray[Any]]:
                for block in [aligned] if isinstance(aligned, Aligned) else aligned:
                    present.append(block.present)
                    yield _storable(block, kind, f"stream {key} of {recording!r}", shape)

            how = (staging / "values", rows(), shape, kind, DIMS["values"])
            written = {"values": write_packed(*how, packing) if packing else write_blocks(*how)}
            seen = np.concatenate(present)
            written["present"] = write_array(staging / "present", seen, DIMS["present"])
            absent = int((~seen).sum())
            own = {"timeline": timeline.mark, "absent_frames": absent}
            close_group(staging, recording, written, {**own, **(info or {}), **own})
        return absent

    def read(self, key: str, recording: str) -> Aligned:
        """One recording of a stream, as float32."""
        values, present = open_stream(committed(self.folder(key, recording), recording))
        return Aligned(values.astype(np.float32), present)

    def reader(self, name: str) -> StreamReader:
        """Random access to a stream's committed recordings, at memory speed; from a URL all of them are fetched.

        name: its key, or its bare name where that is unambiguous. Raises what ``resolve`` does.
        """
        key = self.resolve(name).key
        if remote := remote_of(self.root):
            remote.fetch_values(f"features/{key}/")
        return StreamReader({r: self.folder(key, r) for r in self.recordings(key)})

    def commit_record(self, key: str, recording: str) -> dict[str, Any]:
        """What was recorded when that recording's stream was committed: info, and each array's checksums."""
        return attributes(committed(self.folder(key, recording), recording))


def _storable(block: Aligned, dtype: np.dtype[Any], what: str, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Values as they are stored, zero where not present."""
    values = block.values
    if values.shape[1:] != shape[1:] or len(values) > shape[0]:
        raise DataError(f"{what} has shape {values.shape}; wanted [T, D] = {shape}")
    if not block.present.all():
        values = np.where(block.present[:, None], values, np.float32(0))
    reach = max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))
    if not reach <= largest(dtype):
        raise DataError(
            f"{what} has values up to {reach}, which {dtype.name} cannot hold",
            hint="check the encoder's weights and precision",
        )
    return values.astype(dtype)


def _differences(cache: FeatureCache, name: str, keys: list[str]) -> str:
    settings = [cache.about(k)["settings"] for k in keys]
    fields = sorted({f for s in settings[1:] for f in differing(settings[0], s)})
    listed = [
        f"{key} ({', '.join(f'{f}={spelled(flatten(s).get(f, ABSENT))}' for f in fields)})"
        for key, s in zip(keys, settings, strict=True)
    ]
    return f"{name!r} stands for {len(keys)} streams in {cache.root}: {'; '.join(listed)}"
