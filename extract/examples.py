"""What an encoder is fitted to: inputs of its rows at labelled frames, on disk, with the labels of those frames.

Each recording is decoded once. Labels are laid onto the container's frame times as everywhere; an example is the input
of the row that holds at the middle of a labelled frame.
"""

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cache.align import align_labels
from cache.errors import AffuseError, DataError
from cache.progress import progress
from cache.records import Recording, Timeline
from extract.blocks import FrameBlock, Waveform
from extract.crops import crop_blocks
from extract.datasets import Dataset
from extract.encoders._trainable import TrainableEncoder
from extract.media import VideoFile
from extract.prefetch import prefetched
from extract.sound import sound_at
from extract.source import sound_file
from extract.spool import Spool

log = logging.getLogger("affuse")


@dataclass(frozen=True)
class Examples:
    """Of one partition. inputs: [N, ...] on disk. va: f32[N,2], valence and arousal."""

    inputs: Spool
    va: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.va)


def collect(
    dataset: Dataset, partition: str, encoder: TrainableEncoder, every: int, root: Path, *, quiet: bool = False
) -> Examples:
    """Every n-th labelled frame of a partition; scratch files go below ``root``.

    A recording that cannot be read is left out with a warning. Raises DataError where nothing is left.
    """
    members = set(dataset.partitions().members(partition))
    recordings = [r for r in dataset.recordings() if r.id in members]
    inputs, labels = None, []
    with progress(f"read {partition}", len(recordings), quiet=quiet) as step:
        for recording in recordings:
            try:
                for x, va in _of(recording, dataset, encoder, every, root):
                    inputs = inputs or Spool(root, x.shape[1:], x.dtype)
                    inputs.append(x)
                    labels.append(va)
            except AffuseError as error:
                log.warning("%s is left out: %s", recording.id, error)
            step()
    if inputs is None:
        raise DataError(
            f"{dataset.root} has no labelled frame with {encoder.modality} data in partition {partition!r}",
            hint="an encoder is fitted on train and chosen on validation: python cli.py doctor says what is there",
        )
    return Examples(inputs, np.concatenate(labels))


def _of(
    recording: Recording, dataset: Dataset, encoder: TrainableEncoder, every: int, root: Path
) -> Iterator[tuple[npt.NDArray[np.generic], npt.NDArray[np.float32]]]:
    """Inputs [n, ...] and labels f32[n,2] of one recording, piece by piece."""
    annotation = dataset.annotation(recording)
    if annotation is None:
        return
    if recording.video is None:
        raise DataError(f"recording {recording.id!r} has no video", hint="labels belong to video frames")
    timeline = VideoFile(recording.video).read_times()
    labels = align_labels(annotation, timeline, recording.id)
    frames = np.flatnonzero(labels.labelled)[::every]
    times = (timeline.edges[frames] + timeline.edges[frames + 1]) / 2
    for block in _blocks(recording, timeline, encoder, root):
        for places, inputs in encoder.inputs_at(block, times):
            yield inputs.cpu().numpy(), labels.va[frames[places]]


def _blocks(
    recording: Recording, timeline: Timeline, encoder: TrainableEncoder, root: Path
) -> Iterator[FrameBlock | Waveform]:
    """What the encoder reads of a recording."""
    if encoder.modality == "audio":
        with sound_at(sound_file(recording), [encoder.rate], root) as sounds:
            yield from sounds.values()
        return
    frames = crop_blocks(recording.crops, timeline) if recording.crops else VideoFile(recording.video).blocks()
    with closing(prefetched(frames, what=recording.id)) as blocks:
        yield from blocks
