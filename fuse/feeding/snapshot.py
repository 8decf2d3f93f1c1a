"""What a run sees of a cache that may grow under it: who was committed, and in which partition, when the run began.

Training may start while extraction goes on. Nothing that is committed, or moved to another partition, after that moment
changes the run, and every number says which share of its partition it rests on.
"""

from dataclasses import dataclass
from typing import Any

from cache.fingerprint import fingerprint
from cache.reader import StreamReader
from cache.records import Partitions, StreamSpec
from cache.store import FeatureCache


@dataclass(frozen=True)
class Share:
    """Recordings of a partition that a number rests on, of how many, and their labelled frames.

    unlabelled: have no labelled frame in the cache (not extracted or not indexed yet, or never annotated);
    incomplete: lack a stream of the run.
    """

    recordings: int
    of: int
    unlabelled: int
    incomplete: int
    frames: int

    @property
    def whole(self) -> bool:
        """Whether it is the whole partition."""
        return self.recordings == self.of

    def __str__(self) -> str:
        lacks = {"without labels in the cache": self.unlabelled, "without some stream": self.incomplete}
        why = ", ".join(f"{count} {what}" for what, count in lacks.items() if count)
        return f"{self.recordings} of {self.of} recordings" + (f" ({why})" if why else "")


@dataclass(frozen=True)
class Snapshot:
    """A cache when a run began. readers: by stream name, of what was committed then; split: as it was then.

    marks: of the labels of each annotated recording then; they tell which labels these were, not what is in them.
    """

    cache: FeatureCache
    streams: tuple[StreamSpec, ...]
    protocol: str
    split: Partitions
    readers: dict[str, StreamReader]
    marks: dict[str, Any]

    def whole(self) -> list[str]:
        """Recordings of the protocol that have all streams, sorted."""
        return sorted(set(self.split.of).intersection(*(reader.folders for reader in self.readers.values())))


def take_snapshot(cache: FeatureCache, streams: tuple[StreamSpec, ...], protocol: str) -> Snapshot:
    """The streams of a cache now. Raises CacheError where it has no such protocol."""
    split, marks = cache.labels.partitions(protocol), cache.labels.marks(protocol)
    return Snapshot(cache, streams, protocol, split, {s.name: cache.reader(s.key) for s in streams}, marks)


def digest(snapshot: Snapshot) -> str:
    """Tells the features and labels of one snapshot from those of another, by their checksums alone."""
    cache, members = snapshot.cache, snapshot.split.of
    features = [
        [s.key, r, cache.commit_record(s.key, r)["arrays"]]
        for s in snapshot.streams
        for r in sorted(members.keys() & snapshot.readers[s.name].folders.keys())
    ]
    return fingerprint([members, {r: m for r, m in snapshot.marks.items() if r in members}, features])
