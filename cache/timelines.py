"""Frame times of a cache, one group a recording: committed once, before any stream of it."""

from pathlib import Path
from typing import Any

import numpy as np

from cache.check import undamaged
from cache.errors import CacheError, DataError
from cache.groups import attributes, children, commit_group, committed
from cache.ids import folder_of
from cache.reader import open_array
from cache.records import Timeline
from cache.trust import inside


class TimelineStore:
    """``timelines/<recording>/pts`` of one cache."""

    def __init__(self, cache_root: Path) -> None:
        self.root = cache_root

    def write(self, recording: str, timeline: Timeline, info: dict[str, Any] | None = None) -> None:
        """Commit a recording's frame times.

        Raises DataError where others were committed, or where streams were made on others: its media changed.
        """
        folder = self._folder(recording)
        if not self.has(recording):
            self._check_streams(recording, timeline)
            commit_group(self.root, folder, recording, {"pts": timeline.pts}, {"end": timeline.end, **(info or {})})
        known = self.read(recording)
        if not np.array_equal(known.edges, timeline.edges):
            raise DataError(
                f"recording {recording!r} now has {len(timeline)} frames up to {timeline.pts[-1]:.3f} s; its cached "
                f"timeline has {len(known)} up to {known.pts[-1]:.3f} s",
                hint="its media changed: give the new media a new id, or extract into a fresh cache",
            )

    def _check_streams(self, recording: str, timeline: Timeline) -> None:
        """Streams may be there although the timeline was damaged and is made anew."""
        for record in sorted(self.root.glob(f"features/*/{folder_of(recording)}/zarr.json")):
            try:
                made_on = attributes(record.parent).get("timeline", timeline.mark)
            except CacheError:
                continue  # damaged: it is made anew as well
            if made_on != timeline.mark:
                key = record.parent.parent.name
                raise DataError(
                    f"{key} of {recording!r} was made on other frame times than its media have now",
                    hint="its media changed: give the new media a new id, or extract into a fresh cache",
                )

    def read(self, recording: str) -> Timeline:
        """Frame times of one recording. Raises CacheError where they are not committed."""
        folder = undamaged(committed(self._folder(recording), recording))
        return Timeline(open_array(folder / "pts").copy(), attributes(folder)["end"])

    def info(self, recording: str) -> dict[str, Any] | None:
        """What was recorded with the timeline (clock, decoder, source), or None where it is not committed."""
        folder = self._folder(recording)
        return attributes(folder) if self.has(recording) else None

    def has(self, recording: str) -> bool:
        """Whether a recording's frame times are committed."""
        return (self._folder(recording) / "zarr.json").is_file()

    def recordings(self) -> list[str]:
        """Ids of the recordings with a committed timeline, sorted."""
        return children(self.root / "timelines")

    def _folder(self, recording: str) -> Path:
        return inside(self.root, self.root / "timelines" / folder_of(recording))
