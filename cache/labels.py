"""Labels and partitions of a cache, one group a protocol: cheap, and rewritten whole for a new year's split."""

from pathlib import Path
from typing import Any

import numpy as np

from cache.check import undamaged, whole
from cache.commit import staged
from cache.errors import CacheError
from cache.groups import attributes, children, committed, fill_group, steady
from cache.ids import folder_of
from cache.layout import group_metadata, write_file
from cache.reader import open_array
from cache.records import Labels, Partitions
from cache.trust import inside


class LabelStore:
    """``labels/<protocol>/<recording>/{va,labelled}`` of one cache."""

    def __init__(self, cache_root: Path) -> None:
        self.root = cache_root

    def protocols(self) -> list[str]:
        """Names of the protocols, sorted."""
        return children(self.root / "labels")

    def write(
        self, protocol: str, labels: dict[str, Labels], partitions: Partitions, delays: dict[str, float] | None = None
    ) -> bool:
        """Replace a protocol's labels and partitions; returns False where they already were the same.

        delays: seconds by which rows were moved earlier, by recording, where they were.
        """
        folder = self._folder(protocol)
        record = {"protocol": protocol, "partitions": partitions.of, "subjects": partitions.subjects}
        record |= {"groups": partitions.groups} if partitions.groups else {}
        record |= {"delays": delays} if delays else {}
        if self._same(protocol, labels, record):
            return False
        with staged(self.root, folder, replace=True) as staging:
            for recording, label in labels.items():
                arrays = {"va": label.va, "labelled": label.labelled}
                fill_group(staging / folder_of(recording), recording, arrays, {})
            write_file(staging / "zarr.json", group_metadata(record))
        return True

    def _same(self, protocol: str, labels: dict[str, Labels], record: dict[str, Any]) -> bool:
        """Whether these are the labels there are, undamaged."""
        top = self._folder(protocol)
        folders = [top, *(top / folder_of(r) for r in labels)]
        if not all(f.is_dir() and whole(f, deep=True) for f in folders) or attributes(top) != record:
            return False
        if self.recordings(protocol) != sorted(labels):
            return False
        return all(
            np.array_equal(old.va, new.va) and np.array_equal(old.labelled, new.labelled)
            for old, new in ((self.read(protocol, r), labels[r]) for r in labels)
        )

    def read(self, protocol: str, recording: str) -> Labels:
        """Labels of one recording. Raises CacheError where it has none."""
        folder = inside(self.root, self._folder(protocol) / folder_of(recording))

        def labels() -> Labels:
            undamaged(committed(folder, recording))
            return Labels(open_array(folder / "va").copy(), open_array(folder / "labelled").copy())

        return steady(self._folder(protocol), labels)

    def mark(self, protocol: str, recording: str) -> Any:
        """What tells one labelling of a recording from another, without looking at it."""
        return attributes(committed(self._folder(protocol) / folder_of(recording), recording))["arrays"]

    def marks(self, protocol: str) -> dict[str, Any]:
        """The mark of every recording with labels, by id, sorted."""
        top = self._folder(protocol)
        return steady(top, lambda: {r: self.mark(protocol, r) for r in children(top)})

    def has(self, protocol: str, recording: str) -> bool:
        """Whether a recording has labels under that protocol."""
        return (self._folder(protocol) / folder_of(recording) / "zarr.json").is_file()

    def recordings(self, protocol: str) -> list[str]:
        """Ids of the recordings with labels, sorted."""
        top = self._folder(protocol)
        return steady(top, lambda: children(top))

    def partitions(self, protocol: str) -> Partitions:
        """Who is in which partition. Raises CacheError with the protocols there are."""
        folder = self._folder(protocol)
        if not (folder / "zarr.json").is_file():
            there = ", ".join(self.protocols()) or "none"
            raise CacheError(
                f"no labels of protocol {protocol!r} in {self.root}; there are: {there}",
                hint="write them with: python cli.py index --dataset NAME --root DIR",
            )
        record = attributes(folder)
        return Partitions(record["partitions"], record["subjects"], record.get("groups", {}))

    def delays(self, protocol: str) -> dict[str, float]:
        """Seconds by which recordings' labels were moved earlier, of those that were."""
        return dict(attributes(self._folder(protocol)).get("delays", {}))

    def _folder(self, protocol: str) -> Path:
        return inside(self.root, self.root / "labels" / folder_of(protocol))
