"""What an encoder is fitted to: inputs of its rows at labelled frames, on disk, with the labels of those frames.

Each recording is decoded once. Labels are laid onto the container's frame times as everywhere; an example is the input
of the row that holds at the middle of a labelled frame.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cache.align import align_labels
from cache.errors import DataError
from cache.prefetch import prefetched
from cache.progress import progress
from cache.records import Recording, Timeline
from extract.blocks import FrameBlock, Waveform
from extract.clock import nominal_fps, nominal_frames
from extract.crops import crop_blocks
from extract.datasets import Dataset
from extract.encoders._trainable import TrainableEncoder
from extract.media import VideoFile
from extract.outcome import Failure, Outcome
from extract.sound import sound_at
from extract.source import sound_file
from extract.spool import Spool

log = logging.getLogger("affuse")


@dataclass(frozen=True)
class Examples:
    """Of one partition. inputs: [N, ...] on disk. va: f32[N,2]. left_out: recordings that gave none."""

    inputs: Spool
    va: npt.NDArray[np.float32]
    left_out: list[str]

    def __len__(self) -> int:
        return len(self.va)

    def close(self) -> None:
        """Give the disk back."""
        self.inputs.close()


@dataclass(frozen=True)
class Sampling:
    """Every n-th labelled frame is an example. fps: of recordings without video. root: where scratch files go."""

    every: int
    fps: float | None
    root: Path


def collect(
    dataset: Dataset, partition: str, encoder: TrainableEncoder, sampling: Sampling, *, quiet: bool = False
) -> Examples:
    """The examples of a partition: of each recording what its labels and its media both have.

    A recording that has none is left out, with a warning. Raises DataError where nothing is left, CacheError where the
    disk is full.
    """
    members = set(dataset.partitions().members(partition))
    recordings = [r for r in dataset.recordings() if r.id in members]
    inputs, labels, gave, outcome = None, [], Counter[str](), Outcome()
    with ExitStack() as kept, progress(f"read {partition}", len(recordings), quiet=quiet) as step:
        for recording in recordings:
            with outcome.noting(recording.id, "examples"):
                for x, va in _of(recording, dataset, encoder, sampling):
                    inputs = inputs or kept.enter_context(closing(Spool(sampling.root, x.shape[1:], x.dtype)))
                    inputs.append(x)
                    labels.append(va)
                    gave[recording.id] += len(va)
                if not gave[recording.id]:
                    raise DataError(f"no {encoder.modality} data at its labelled frames")
            step()
        kept.pop_all()
    for line in _left_out(partition, outcome.failures, gave):
        log.warning("%s", line)
    if inputs is None:
        raise DataError(
            f"{dataset.root} has no labelled frame with {encoder.modality} data in partition {partition!r}",
            hint="an encoder is fitted on train and chosen on validation: python cli.py doctor says what is there",
        )
    return Examples(inputs, np.concatenate(labels), [f.recording for f in outcome.failures if not gave[f.recording]])


def _left_out(partition: str, failures: list[Failure], gave: Counter[str]) -> Iterator[str]:
    """A line for all that are left out for one cause, and for each that breaks off."""
    alike: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        if gave[failure.recording]:
            used = f"of {failure.recording} only the first {gave[failure.recording]} examples are used"
            yield f"{partition}: {used}: {failure.cause}; {failure.hint}"
        else:
            alike.setdefault((failure.cause, failure.hint), []).append(failure.recording)
    for (cause, hint), names in alike.items():
        named = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        yield f"{partition}: {len(names)} left out, {named}: {cause}; {hint}"


def _of(
    recording: Recording, dataset: Dataset, encoder: TrainableEncoder, sampling: Sampling
) -> Iterator[tuple[npt.NDArray[np.generic], npt.NDArray[np.float32]]]:
    """Inputs [n, ...] and labels f32[n,2] of one recording, piece by piece."""
    annotation = dataset.annotation(recording)
    if annotation is None:
        raise DataError("no labels")
    timeline = _timeline(recording, sampling.fps)
    labels = align_labels(annotation, timeline, recording.id)
    frames = np.flatnonzero(labels.labelled)[:: sampling.every]
    if not len(frames):
        raise DataError(f"none of {len(annotation.va)} annotation rows labels a frame")
    times = (timeline.edges[frames] + timeline.edges[frames + 1]) / 2
    for block in _blocks(recording, timeline, encoder, sampling.root):
        for places, inputs in encoder.inputs_at(block, times):
            yield inputs.cpu().numpy(), labels.va[frames[places]]


def _timeline(recording: Recording, fps: float | None) -> Timeline:
    if recording.video is not None:
        return VideoFile(recording.video).read_times()
    return nominal_frames(recording, nominal_fps(recording, None, fps))


def _blocks(
    recording: Recording, timeline: Timeline, encoder: TrainableEncoder, root: Path
) -> Iterator[FrameBlock | Waveform]:
    """What the encoder reads of a recording; nothing where it has none of it."""
    if encoder.modality == "audio":
        path = sound_file(recording)
        with sound_at(path, [encoder.rate], root) if path else nullcontext({}) as sounds:
            yield from sounds.values()
    elif recording.crops or recording.video:
        frames = crop_blocks(recording.crops, timeline) if recording.crops else VideoFile(recording.video).blocks()
        with closing(prefetched(frames, what=recording.id)) as blocks:
            yield from blocks
