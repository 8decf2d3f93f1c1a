"""What is left to do: pure, so that a second run over the same data ends before anything heavy is imported."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cache.records import Recording


@dataclass(frozen=True)
class Job:
    """One recording and the keys of the streams it still lacks."""

    recording: Recording
    keys: tuple[str, ...]


def plan(
    recordings: Iterable[Recording],
    keys: Iterable[str],
    committed: Callable[[str, str], bool],
    timed: Callable[[str], bool],
) -> tuple[list[Job], int]:
    """Jobs in recording order, and how many (recording, stream) pairs are committed already.

    committed(key, recording id) says whether that pair is in the cache, timed(recording id) whether its frame times
    are: without these there is a job although no stream is missing.
    """
    keys = tuple(keys)
    jobs, kept = [], 0
    for recording in recordings:
        missing = tuple(k for k in keys if not committed(k, recording.id))
        kept += len(keys) - len(missing)
        if missing or not timed(recording.id):
            jobs.append(Job(recording, missing))
    return jobs, kept
