"""Where the time of an extraction goes: what the thread that encodes waits for, and what it computes."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

T = TypeVar("T")
What = Literal["load", "decode", "encode", "write"]
_TOLD = 0.005  # of loading weights, which most runs do once
_SAID: dict[What, tuple[str, str]] = {
    "load": ("loading weights takes longest", "it takes"),
    "decode": ("decoding holds encoding up", "the encoder waits"),
    "encode": ("the encoder is the bottleneck", "it computes"),
    "write": ("writing is the bottleneck", "it takes"),
}


@dataclass
class Spent:
    """Seconds of the thread that encodes; of several processes their sum.

    load: of weights; decode: waiting for media, which another thread reads ahead, so what it reads while this one
    computes is not in it; encode: computing, recognition included; write: aligning and committing.
    """

    load: float = 0.0
    decode: float = 0.0
    encode: float = 0.0
    write: float = 0.0

    @contextmanager
    def on(self, what: What) -> Iterator[None]:
        """The block's time is spent on that. Blocks do not nest: time would count twice."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, what, getattr(self, what) + time.perf_counter() - begun)

    def waiting(self, items: Iterable[T], what: What) -> Iterator[T]:
        """The same items; the time until each comes is spent on that."""
        each = iter(items)
        while True:
            with self.on(what):
                try:
                    item = next(each)
                except StopIteration:
                    return
            yield item


@dataclass
class Watch:
    """What a process has in hand, for whoever looks on. doing: frames, sound or words; seconds: of frames so far."""

    recording: str = ""
    doing: str = ""
    seconds: float = 0.0
    spent: Spent = field(default_factory=Spent)

    def begin(self, recording: str, spent: Spent) -> None:
        """A recording is taken in hand."""
        self.recording, self.doing, self.seconds, self.spent = recording, "", 0.0, spent


def together(some: Iterable[Spent]) -> Spent:
    """Their sum."""
    listed = list(some)
    return Spent(*(sum(getattr(s, what) for s in listed) for what in _SAID))


def rounded(spent: Spent) -> Spent:
    """To milliseconds."""
    return Spent(*(round(getattr(spent, what), 3) for what in _SAID))


def bottleneck(spent: Spent) -> str:
    """What takes most of the time, in plain words; "" where nothing was done yet."""
    most = max(_SAID, key=lambda what: getattr(spent, what))
    return _SAID[most][0] if getattr(spent, most) else ""


def bottleneck_line(spent: Spent) -> str:
    """``decoding holds encoding up: the encoder waits 71 % of the time``; "" where nothing was done yet."""
    most = max(_SAID, key=lambda what: getattr(spent, what))
    short, how = _SAID[most]
    whole = sum(getattr(spent, what) for what in _SAID)
    return f"{short}: {how} {100 * getattr(spent, most) / whole:.0f} % of the time" if whole else ""


def spent_line(spent: Spent) -> str:
    """``where the time went: decode 12 %, encode 81 %, write 7 %: ...``; "" where nothing was done."""
    whole = sum(getattr(spent, what) for what in _SAID)
    shares = {what: getattr(spent, what) / whole for what in _SAID} if whole else {}
    told = ", ".join(f"{what} {100 * s:.0f} %" for what, s in shares.items() if what != "load" or s >= _TOLD)
    return f"where the time went: {told}; {bottleneck(spent)}" if told else ""
