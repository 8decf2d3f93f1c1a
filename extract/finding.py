"""What ``doctor`` may find, and what it has seen of one recording."""

from dataclasses import dataclass, field
from typing import Literal

from cache.errors import AffuseError

Severity = Literal["fault", "warning", "note"]
READING = (AffuseError, OSError, RuntimeError, ValueError)  # what reading a bad file may raise


@dataclass(frozen=True)
class Finding:
    """fault: it would spoil numbers or the recording is lost; warning: look at it; note: good to know, dealt with."""

    severity: Severity
    check: str
    recording: str
    detail: str


@dataclass
class Examined:
    """What was seen of one recording. rows, invalid: of its annotation; seconds of its timeline."""

    recording: str
    findings: list[Finding] = field(default_factory=list)
    frames: int = 0
    seconds: float = 0.0
    rows: int = 0
    invalid: int = 0

    def add(self, severity: Severity, check: str, detail: str) -> None:
        """Note a finding of this recording."""
        self.findings.append(Finding(severity, check, self.recording, detail))

    def failed(self, check: str, error: Exception) -> None:
        """Note what could not be read, and why, in one line."""
        self.add("fault", check, " ".join(str(error).split()))
