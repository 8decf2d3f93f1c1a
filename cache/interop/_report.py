"""What an import or export did, as plain data and as lines."""

from collections import Counter
from dataclasses import dataclass, field

from cache.interop._layout import Exported

_LISTED = 20


@dataclass(frozen=True)
class Failed:
    """A recording, or its labels, that could not be imported: why, and what to do."""

    recording: str
    cause: str
    hint: str

    def __str__(self) -> str:
        return f"{' '.join(self.recording.split())}: {self.cause}" + (f"; {self.hint}" if self.hint else "")


@dataclass
class Brought:
    """What an import did. streams: keys; made: recordings by key written now; kept: those that were there already.

    labelled: recordings by protocol.
    """

    cache: str
    streams: list[str] = field(default_factory=list)
    made: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    labelled: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failures: list[Failed] = field(default_factory=list)
    drops: str = ""


def export_lines(written: Exported) -> list[str]:
    """Where it is, what is in it, and what is not."""
    what = f"{written.recordings} recordings of {len(written.streams)} streams"
    return [f"{what} exported as {written.format} to {written.path}", f"dropped: {written.drops}"]


def import_lines(done: Brought) -> list[str]:
    """A line a stream, then labels, notes, what the layout lost, failures, and what to run next."""
    lines = [
        f"{key}: {done.made[key]} recordings imported" + (f", {done.kept[key]} there already" if done.kept[key] else "")
        for key in done.streams
    ]
    lines += [f"labels {protocol!r}: {count} recordings" for protocol, count in done.labelled.items()]
    lines += [f"note: {note}" for note in done.notes]
    lines += [f"dropped: {done.drops}", *(f"failed: {f}" for f in done.failures[:_LISTED])]
    more = len(done.failures) - _LISTED
    lines += [f"failed: {more} more; --json lists all"] if more > 0 else []
    return [*lines, f"in {done.cache}; next: python cli.py train-fusion --head concat --cache {done.cache}"]
