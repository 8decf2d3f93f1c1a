"""What became of a recording, and how an error of one becomes a line instead of the end of the run."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from cache.errors import AffuseError, CacheError
from extract.spent import Spent

log = logging.getLogger("affuse")
_TODO = {  # by stage, where an error itself does not say
    "encoder": "if memory ran out, encode less at once: --set STREAM.batch_size=1; then run the same command again",
    "media": "play the file, get it anew or re-encode it, then run the same command again",
    "audio": "play the file, get it anew or re-encode its sound, then run the same command again",
    "recognise": "play the sound, or give the recording a transcript, then run the same command again",
    "transcript": "mend or remove the transcript, then run the same command again",
    "examples": "python cli.py doctor says what is there; mend it, then run the same command again",
    "worker": "if memory ran out, use fewer workers or --set STREAM.batch_size=1; then run the same command again",
    "labels": "mend the annotation, then: python cli.py index --dataset NAME --root DIR",
}


@dataclass(frozen=True)
class Failure:
    """What could not be done of a recording: at which stage (a key of ``_TODO``), why, and what to do."""

    recording: str
    stage: str
    cause: str
    hint: str

    def __str__(self) -> str:
        return f"{' '.join(self.recording.split())}, {self.stage}: {self.cause}; {self.hint}"


def failure(recording: str, stage: str, error: Exception) -> Failure:
    """What an error means for a user, on one line."""
    told = error.message if isinstance(error, AffuseError) else f"{type(error).__name__}: {error}"
    hint = (error.hint if isinstance(error, AffuseError) else "") or _TODO[stage]
    return Failure(recording, stage, " ".join(told.split()), " ".join(hint.split()))


@dataclass
class Outcome:
    """What became of one recording: streams made, those of them absent in every frame, remarks, failures, time."""

    made: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent, compare=False)

    @contextlib.contextmanager
    def noting(self, recording: str, stage: str) -> Iterator[None]:
        """Turns what a bad file raises into a failure; a cache that cannot be written stops the run."""
        try:
            yield
        except CacheError:
            raise
        except Exception as error:
            log.debug("%s", recording, exc_info=error)
            self.failures.append(failure(recording, stage, error))


def died(recording: str, cause: str) -> Outcome:
    """Of a recording that its workers do not survive: given up, so that the others are made."""
    return Outcome(failures=[Failure(recording, "worker", cause, _TODO["worker"])])
