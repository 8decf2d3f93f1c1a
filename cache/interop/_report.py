"""What an import or export did, as lines."""

from cache.interop._bring import Brought
from cache.interop._layout import Exported


def export_lines(written: Exported) -> list[str]:
    """Where it is, what is in it, and what is not."""
    what = f"{written.recordings} recordings of {len(written.streams)} streams"
    return [f"{what} exported as {written.format} to {written.path}", f"dropped: {written.drops}"]


def import_lines(done: Brought) -> list[str]:
    """A line a stream, then labels, notes, what the layout lost, and failures."""
    lines = [
        f"{key}: {done.made[key]} recordings imported" + (f", {done.kept[key]} there already" if done.kept[key] else "")
        for key in done.streams
    ]
    lines += [f"labels {protocol!r}: {count} recordings" for protocol, count in done.labelled.items()]
    lines += [f"note: {note}" for note in done.notes]
    lines += [f"dropped: {done.drops}", *(f"failed: {f}" for f in done.failures)]
    return [*lines, f"in {done.cache}"]
