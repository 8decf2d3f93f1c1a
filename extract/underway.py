"""How far an extraction is, for whoever waits: the corpus by its length, the recording in hand, what holds it up."""

from collections.abc import Iterable, Mapping

from extract.plan import Job
from extract.sizes import Size
from extract.spent import Spent, Watch, bottleneck_line, together


class Underway:
    """The recordings of a run and which of them have ended. sizes: as headers claim, where those can be read.

    whole: seconds of all of them, where one of unknown length counts as the usual one.
    """

    def __init__(self, jobs: Iterable[Job], sizes: Mapping[str, Size], watch: Watch) -> None:
        usual = sum(s.seconds for s in sizes.values()) / len(sizes) if sizes else 1.0
        self.parts = {j.recording.id: sizes[j.recording.id].seconds if j.recording.id in sizes else usual for j in jobs}
        self.known, self.watch = {r: s.seconds for r, s in sizes.items()}, watch
        self.ended: dict[str, Spent] = {}

    @property
    def whole(self) -> float:
        """Seconds."""
        return sum(self.parts.values())

    @property
    def spent(self) -> Spent:
        """Of the recordings that have ended."""
        return together(self.ended.copy().values())

    def end(self, recording: str, spent: Spent) -> tuple[str, float]:
        """One has ended: what there is to tell by now, and its part of the whole."""
        self.ended[recording] = spent
        done, known = (sum(s for r, s in self.known.items() if r in some) for some in (self.ended, self.parts))
        unit, size = ("h", 3600) if known >= 3600 else ("min", 60)
        return f"{done / size:.1f} of {known / size:.1f} {unit}" if known else "", self.parts[recording]

    def lines(self, _width: int) -> list[str]:
        """The recording in hand and what holds the run up, each where it is known."""
        watch, ended = self.watch, self.ended.copy()
        going = [watch.spent] if watch.recording not in ended else []
        held = bottleneck_line(together([*ended.values(), *going]))
        return [f"  {line}" for line in (self._in_hand() if going else "", held) if line]

    def _in_hand(self) -> str:
        recording, doing, seconds = self.watch.recording, self.watch.doing, self.watch.seconds
        length = self.known.get(recording, 0.0)
        share = f" {100 * min(1.0, seconds / length):.0f} %" if doing == "frames" and length else ""
        return f"{doing}{share}: {recording}" if doing else recording
