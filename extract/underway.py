"""How far an extraction is, for whoever waits: the corpus by its length, the recording in hand, what holds it up."""

from collections.abc import Iterable, Mapping

from extract.plan import Job
from extract.sizes import Size
from extract.spent import Spent, Watch, bottleneck_line, together


class Underway:
    """The recordings of a run and which of them have ended. sizes: as headers claim, where those can be read.

    whole: seconds of all of them, where one of unknown length counts as the usual one. spent: of those that have ended.
    """

    def __init__(self, jobs: Iterable[Job], sizes: Mapping[str, Size], watch: Watch) -> None:
        self.seconds, self.watch = {r: s.seconds for r, s in sizes.items()}, watch
        self.known, self.done = sum(self.seconds.values()), 0.0
        self.usual = self.known / len(sizes) if sizes else 1.0
        self.whole = sum(self.seconds.get(j.recording.id, self.usual) for j in jobs)
        self.spent, self.ended = Spent(), set[str]()

    def end(self, recording: str, spent: Spent) -> tuple[str, float]:
        """One has ended: what there is to tell by now, and its part of the whole."""
        self.ended.add(recording)
        self.spent = together([self.spent, spent])
        self.done += self.seconds.get(recording, 0.0)
        unit, size = ("h", 3600) if self.known >= 3600 else ("min", 60)
        told = f"{self.done / size:.1f} of {self.known / size:.1f} {unit}" if self.known else ""
        return told, self.seconds.get(recording, self.usual)

    def lines(self, _width: int) -> list[str]:
        """The recording in hand and what holds the run up, each where it is known."""
        watch = self.watch
        going = watch.recording not in self.ended
        held = bottleneck_line(together([self.spent, watch.spent]) if going else self.spent)
        return [f"  {line}" for line in (self._in_hand() if going else "", held) if line]

    def _in_hand(self) -> str:
        recording, doing = self.watch.recording, self.watch.doing
        length = self.seconds.get(recording, 0.0)
        share = f" {100 * min(1.0, self.watch.seconds / length):.0f} %" if doing == "frames" and length else ""
        return f"{doing}{share}: {recording}" if doing else recording
