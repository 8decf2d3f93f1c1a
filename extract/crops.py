"""Face crops instead of whole frames: a folder of pictures numbered by video frame, as Aff-Wild2 ships them.

``00001.jpg`` is the face in the first frame. A crop belongs to the frame of its number, never to its position in a
listing: a missing number is a frame without a face, and gives no row.
"""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from cache.errors import DataError, MissingData
from cache.records import Timeline
from extract.blocks import FrameBlock
from extract.media import FRAMES_AT_ONCE

#: What PIL raises for a damaged picture; a spoilt header may also claim a billion pixels.
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
_THREADS = min(4, os.cpu_count() or 1)
_NUMBERED = re.compile(r"(\d+)\.(jpe?g|png)", re.IGNORECASE)


def crop_files(folder: Path) -> dict[int, Path]:
    """Crop files by 0-based frame.

    Raises MissingData where there is no such folder, DataError where it is not known which frame a picture shows.
    """
    if not folder.is_dir():
        raise MissingData(f"no folder of face crops at {folder}")
    found: dict[int, Path] = {}
    for name in sorted(os.listdir(folder)):
        if match := _NUMBERED.fullmatch(name):
            number = int(match[1])
            if number in found:
                raise DataError(f"{folder} has two crops of frame {number}: {found[number].name} and {name}")
            found[number] = folder / name
    if 0 in found:
        raise DataError(
            f"the crops in {folder} are numbered from 0; wanted from 1, the first frame",
            hint="rename them one up, so that a crop and the frame it shows have one number",
        )
    return {number - 1: path for number, path in found.items()}


def surplus_crops(folder: Path, timeline: Timeline) -> list[int]:
    """Numbers of the crops of frames that the video does not have, in order."""
    return sorted(f + 1 for f in crop_files(folder) if f >= len(timeline))


def crop_blocks(folder: Path, timeline: Timeline, size: int = FRAMES_AT_ONCE) -> Iterator[FrameBlock]:
    """Blocks of crops in frame order, each with the time its frame is on screen; crops past the last frame are left."""
    files = crop_files(folder)
    frames = [f for f in sorted(files) if f < len(timeline)]
    edges = timeline.edges
    with ThreadPoolExecutor(_THREADS) as pool:  # one decodes too few for a GPU; pictures are decoded without the lock
        for start in range(0, len(frames), size):
            chosen = frames[start : start + size]
            spans = np.stack([edges[chosen], edges[np.add(chosen, 1)]], axis=1)
            yield FrameBlock(list(pool.map(read_crop, [files[f] for f in chosen])), spans)


def read_crop(path: Path) -> np.ndarray:
    """One crop as u8[H,W,3] RGB. Raises DataError where it cannot be read."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except _UNREADABLE as error:
        raise DataError(f"face crop {path} cannot be read: {error}") from error
