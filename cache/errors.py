"""Every error a user can cause, as one tree.

Each class also is a builtin (so ``except ValueError`` works) and carries the exit code of the command line.
A message says what was given, what was wanted, and where; ``hint`` says what to run or change next.
"""


class AffuseError(Exception):
    """Base of all errors a user can cause; printed as one line, without a traceback."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(AffuseError, ValueError):
    """A name, option or recipe value that does not exist or does not fit."""

    exit_code = 2


class ConfigError(UsageError):
    """A recipe with unknown keys or values of the wrong type; lists all of them."""


class UnknownName(UsageError, LookupError):
    """A name that is not in a registry; the message lists the names that are."""


class DataError(AffuseError, ValueError):
    """Media, labels or transcripts that contradict each other or cannot be read."""


class MissingData(AffuseError, LookupError):
    """A folder, file or recording that should be there and is not."""


class CacheError(AffuseError, LookupError):
    """A cache that is missing, incomplete, or holds something else than asked for."""


class CorruptCache(AffuseError, ValueError):
    """Bytes on disk that differ from what was committed."""

    def __init__(
        self, message: str, *, hint: str = "name all that is damaged with: python cli.py cache verify --deep"
    ) -> None:
        super().__init__(message, hint=hint)


class AmbiguousStream(CacheError):
    """A bare stream name that stands for two or more fingerprints."""


class WeightsNotFound(AffuseError, LookupError):
    """Encoder weights that are neither on this disk nor reachable."""
