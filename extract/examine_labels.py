"""Annotation against frames: as many rows as frames, times of the same clock, values in range."""

import numpy as np

from cache.align import align_labels
from cache.records import Annotation, Recording, Timeline
from extract.datasets import Dataset
from extract.finding import READING, Examined
from extract.index import USUAL_SURPLUS

_RATES = (1, 2, 4, 5, 10, 12, 12.5, 15, 20, 23.976, 24, 25, 29.97, 30, 50, 59.94, 60)  # frames or rows a second


def examine_labels(recording: Recording, dataset: Dataset, timeline: Timeline | None, seen: Examined) -> None:
    """Note what is wrong between a recording's annotation and its frames."""
    try:
        annotation = dataset.annotation(recording)
        if annotation is None:
            return
        valid = np.isfinite(annotation.va).all(axis=1) & (annotation.va != -5).all(axis=1)
        if annotation.delay:
            seen.add("note", "label-delay", f"its labels are moved {annotation.delay:g} s earlier")
        seen.rows, seen.invalid = len(valid), int((~valid).sum())
        if not valid.any():
            seen.add("warning", "no-valid-label", f"none of {len(valid)} annotation rows is valid")
        if timeline is None:
            return
        labelled = align_labels(annotation, timeline, recording.id).labelled
    except READING as error:
        seen.failed("annotation", error)
        return
    if annotation.times is None:
        over_crops = recording.video is None and recording.crops is not None
        against_frames("label rows", len(annotation.va), timeline, seen, over_crops=over_crops)
    else:
        _against_clock(annotation, timeline, bool(labelled.any()), seen)


def against_frames(what: str, rows: int, timeline: Timeline, seen: Examined, *, over_crops: bool = False) -> None:
    """Rows by frame number: a few more or fewer are usual, since counts come from headers; crops end with a face."""
    surplus = rows - len(timeline)
    if surplus > USUAL_SURPLUS and over_crops:
        told = f"{rows} {what}, crops up to frame {len(timeline)}: the labels after it are of no frame"
        seen.add("warning", what.replace(" ", "-"), told)
    elif surplus:
        told = f"{rows} {what} for {len(timeline)} frames{_as_if(rows, timeline)}"
        seen.add("note" if abs(surplus) <= USUAL_SURPLUS else "fault", what.replace(" ", "-"), told)


def _as_if(rows: int, timeline: Timeline) -> str:
    """Names the rate that so many rows would fit, where it is a common one and not the video's."""
    seconds = timeline.end - float(timeline.pts[0])
    have = len(timeline) / seconds
    rate = min(_RATES, key=lambda r: abs(r * seconds - rows))
    fits = abs(rate * seconds - rows) <= max(1, 0.005 * rows)
    return f": as many as at {rate:g} fps, the video has {have:.4g}" if fits and abs(rate / have - 1) > 0.01 else ""


def _against_clock(annotation: Annotation, timeline: Timeline, any_labelled: bool, seen: Examined) -> None:
    """Labels by time: they end about where the recording does."""
    last, end = float(annotation.times[-1]) - annotation.delay if annotation.times is not None else 0.0, timeline.end
    if last > 100 * end:
        seen.add("fault", "label-times", f"labels end at {last:g} s, media at {end:.1f} s: are these milliseconds?")
    elif not any_labelled and seen.invalid < seen.rows:
        seen.add("fault", "label-times", "no frame is shown while there are labels")
    elif last > end + max(1.0, 0.01 * end):
        seen.add("fault", "label-times", f"labels end at {last:.1f} s, media at {end:.1f} s")
    elif last < end / 2:
        seen.add("warning", "label-times", f"labels end at {last:.1f} s, media at {end:.1f} s")
