"""What one run reads: some recordings of some cached streams, normalised, with their labels, as batches of windows.

Features stay in their memory maps; a batch is gathered straight from them. Normalisation statistics come from the
training partition and travel with the run, never from the data being scored.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cache.errors import CacheError
from cache.reader import StreamReader
from cache.records import Labels, StreamSpec
from cache.stats import Stats, stream_stats
from cache.store import FeatureCache
from fuse.feeding.batch import Batch
from fuse.feeding.locked import LOCKED, open_test_labels, tuning_labels
from fuse.feeding.room import Room, as_tensor
from fuse.feeding.snapshot import Share, Snapshot
from fuse.feeding.windows import Windows

log = logging.getLogger("affuse")


@dataclass(frozen=True)
class Corpus:
    """Some recordings of a cache, in order, of a partition's ``share``. labels holds only the annotated ones.

    pts: frame times of each, f64[T], in seconds.
    """

    recordings: list[str]
    lengths: list[int]
    pts: dict[str, npt.NDArray[np.float64]]
    labels: dict[str, Labels]
    readers: dict[str, StreamReader]
    stats: dict[str, Stats]
    share: Share

    def batch(
        self, windows: Windows, rows: npt.NDArray[np.int64], device: torch.device, room: Room | None = None
    ) -> Batch:
        """Gather the windows of those rows; see Batch for shapes. With a ``room`` they hold until it is used again."""
        room = room or Room(device)
        room.wait()
        frame, recording = windows.frame[rows], windows.recording[rows]
        names = [self.recordings[i] for i in recording]
        x, present = {}, {}
        for stream in self.readers:
            values, seen = self._gather(stream, names, frame, room)
            x[stream], present[stream] = room.send(values), torch.from_numpy(seen).to(device)
        room.sent()
        va, labelled = self._targets(names, frame)
        return Batch(
            x,
            present,
            torch.from_numpy(frame >= 0).to(device),
            torch.from_numpy(labelled).to(device),
            torch.from_numpy(va).to(device),
            torch.from_numpy(recording),
            torch.from_numpy(frame),
        )

    def expect(self, windows: Windows, rows: npt.NDArray[np.int64]) -> None:
        """These windows are next: what of them lies on disk alone is fetched meanwhile."""
        for recording, frame in zip(windows.recording[rows], windows.frame[rows], strict=True):
            for reader in self.readers.values():
                reader.expect(self.recordings[recording], int(frame[0]), int(frame.max()) + 1)

    def narrowed(self, streams: tuple[StreamSpec, ...]) -> "Corpus":
        """With these streams alone, by name, of one that has them by key."""
        return replace(
            self,
            readers={s.name: self.readers[s.key] for s in streams},
            stats={s.name: self.stats[s.key] for s in streams},
        )

    def _gather(
        self, stream: str, names: list[str], frame: npt.NDArray[np.int64], room: Room
    ) -> tuple[Tensor, npt.NDArray[np.bool_]]:
        """Normalised values f32[B,L,D], zero where absent, and presence bool[B,L].

        A window is converted and normalised while it is in the processor's cache: one pass over memory for all.
        """
        mean, std = torch.from_numpy(self.stats[stream].mean), torch.from_numpy(self.stats[stream].std)
        values = room.take(stream, (*frame.shape, len(mean)))
        seen = np.zeros(frame.shape, bool)
        for row, (name, frames) in enumerate(zip(names, frame, strict=True)):
            count = int((frames >= 0).sum())
            stored, present = self.readers[stream].recording(name)
            chosen = _as_slice(frames[:count])
            seen[row, :count] = present[chosen]
            values[row, :count].copy_(as_tensor(stored[chosen])).sub_(mean).div_(std)
            if not seen[row].all():
                values[row].masked_fill_(torch.from_numpy(~seen[row]).unsqueeze(-1), 0.0)
        return values, seen

    def _targets(
        self, names: list[str], frame: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        va, labelled = np.zeros((*frame.shape, 2), np.float32), np.zeros(frame.shape, bool)
        for row, (name, frames) in enumerate(zip(names, frame, strict=True)):
            if name in self.labels:
                count = int((frames >= 0).sum())
                va[row, :count] = self.labels[name].va[frames[:count]]
                labelled[row, :count] = self.labels[name].labelled[frames[:count]]
        return va, labelled


def _as_slice(frames: npt.NDArray[np.int64]) -> slice:
    """Evenly spaced frames as a slice: a view of the memory map instead of a gather."""
    step = int(frames[1] - frames[0]) if len(frames) > 1 else 1
    return slice(int(frames[0]), int(frames[-1]) + 1, step)


def open_partition(
    snapshot: Snapshot, partition: str, stats: dict[str, Stats] | None = None, *, skip_incomplete: bool = False
) -> Corpus:
    """The recordings of train or validation that have labelled frames; without ``stats`` it gives its own (training).

    Raises CacheError where there is none, or where one lacks a stream (left out with ``skip_incomplete``), UsageError
    for any other partition.
    """
    return _corpus(snapshot, partition, tuning_labels(snapshot, partition), stats, skip_incomplete)


def open_test(
    snapshot: Snapshot, run: Path, what: str, stats: dict[str, Stats], *, skip_incomplete: bool = False
) -> Corpus:
    """As ``open_partition``, for ``test``: the folder of the run that asks keeps count of it."""
    return _corpus(snapshot, LOCKED, open_test_labels(snapshot, run, what), stats, skip_incomplete)


def open_unlabelled(
    cache: FeatureCache, readers: dict[str, StreamReader], recordings: list[str], stats: dict[str, Stats]
) -> Corpus:
    """Any recordings of a cache, to be predicted: their labels, where they have any, are not looked at.

    readers: of its streams, by name. Raises CacheError where a recording lacks one.
    """
    lacking = [f"{name} of {r!r}" for r in recordings for name, reader in readers.items() if r not in reader.folders]
    if lacking:
        raise CacheError(f"{cache.where} lacks {', '.join(lacking)}", hint="extract again: that makes what is missing")
    pts = {r: cache.timelines.read(r).pts for r in recordings}
    share = Share(len(recordings), len(recordings), len(recordings), 0, 0)
    return Corpus(recordings, [len(t) for t in pts.values()], pts, {}, readers, stats, share)


def _corpus(
    snapshot: Snapshot, partition: str, read: dict[str, Labels], stats: dict[str, Stats] | None, skip_incomplete: bool
) -> Corpus:
    cache, protocol, members = snapshot.cache, snapshot.protocol, snapshot.split.members(partition)
    labels = {r: label for r, label in read.items() if label.labelled.any()}
    unlabelled, lacking = len(members) - len(labels), _incomplete(snapshot, list(labels), skip_incomplete)
    for recording in lacking:
        del labels[recording]
    if not labels:
        raise CacheError(
            f"partition {partition!r} of protocol {protocol!r} in {cache.where} has no labelled recording"
            + (" with all streams" if lacking else ""),
            hint=f"its partitions are {sorted(set(snapshot.split.of.values()))}; "
            "wanted train, validation and, for scores, test",
        )
    frames = sum(int(label.labelled.sum()) for label in labels.values())
    share = Share(len(labels), len(members), unlabelled, len(lacking), frames)
    if not share.whole:
        log.warning("%s: numbers rest on %s", partition, share)
    stats = stats or {s.name: stream_stats(cache, s.key, sorted(labels)) for s in snapshot.streams}
    pts = {r: cache.timelines.read(r).pts for r in labels}
    return Corpus(list(labels), [len(t) for t in pts.values()], pts, labels, snapshot.readers, stats, share)


def _incomplete(snapshot: Snapshot, recordings: list[str], skip: bool) -> set[str]:
    """Recordings that lack a stream. Raises CacheError naming one, unless they may be skipped."""
    all_lacking: set[str] = set()
    for spec in snapshot.streams:
        lacking = sorted(set(recordings) - set(snapshot.readers[spec.name].folders))
        if lacking and not skip:
            raise CacheError(
                f"stream {spec.key} lacks {len(lacking)} of {len(recordings)} recordings, such as {lacking[0]!r}",
                hint="extract again, which makes only what is missing, or leave them out: --set skip_incomplete=true",
            )
        all_lacking |= set(lacking)
    return all_lacking


def absent_faces(corpus: Corpus, streams: tuple[StreamSpec, ...]) -> dict[str, npt.NDArray[np.bool_]] | None:
    """bool[T] of each recording: no visual stream saw anything. None where there is no visual stream."""
    visual = [s.name for s in streams if s.modality == "visual"]
    if not visual:
        return None
    return {r: ~np.any([corpus.readers[s].recording(r)[1] for s in visual], axis=0) for r in corpus.recordings}


def mean_label(corpus: Corpus) -> torch.Tensor:
    """Mean (valence, arousal) over all labelled frames, f32[2]."""
    va = np.concatenate([la.va[la.labelled] for la in corpus.labels.values()])
    return torch.from_numpy(va.mean(axis=0, dtype=np.float64).astype(np.float32))


def permuted(corpus: Corpus, seed: int) -> Corpus:
    """The control: every recording gets another one's labels, so that nothing but chance can be learnt.

    Labels are cut or left unlabelled at the tail where lengths differ. Raises CacheError for a single recording.
    """
    names = sorted(corpus.labels)
    if len(names) < 2:
        raise CacheError("labels of a single recording cannot be permuted across recordings")
    order = np.random.default_rng(seed).permutation(len(names))
    giver = {names[a]: names[b] for a, b in zip(order, np.roll(order, 1), strict=True)}
    length = dict(zip(corpus.recordings, corpus.lengths, strict=True))
    labels = {r: _fitted(corpus.labels[giver[r]], length[r]) for r in names}
    return replace(corpus, labels=labels)


def _fitted(labels: Labels, frames: int) -> Labels:
    spare = max(frames - len(labels.va), 0)
    return Labels(np.pad(labels.va, ((0, spare), (0, 0)))[:frames], np.pad(labels.labelled, (0, spare))[:frames])
