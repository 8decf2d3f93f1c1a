"""Sound of one recording on the container's clock: decoded once, piece by piece, mono, resampled with torchaudio.

Every piece lies where its own time says; gaps are filled with silence. Nothing here holds a whole recording: the
samples go to disk, and encoders read back what they need.
"""

import contextlib
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cache.errors import DataError
from cache.prefetch import prefetched, within
from extract.blocks import Samples, Waveform
from extract.media import Damage, claimed_s, decode, looks_cut, open_media
from extract.spool import Spool

if TYPE_CHECKING:
    import av

log = logging.getLogger("affuse")
_BACK_AT_MOST_S = 1.0  # sound whose time falls back further is another file's
_HOLE_AT_MOST_S = 600.0  # a longer hole in the sound is a broken time, not a pause
_GAP_S = 0.02  # sound whose time jumps by more than this is moved to where it belongs
_RESAMPLED_AT_ONCE_S = 10
_KERNEL_AT_MOST = 50_000_000  # numbers of a resampling kernel; 44101 to 16000 Hz would need 700 million


class SoundFile:
    """The best audio stream of a file. ``rate`` (Hz) and ``start`` (s) are known once the first piece is out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rate, self.start = 0, 0.0

    def pieces(self) -> Iterator[Samples]:
        """Mono f32 samples without gaps; none where the file has no sound. Raises DataError on broken times."""
        damage, have = Damage(), 0
        with open_media(self.path) as container:
            stream = container.streams.best("audio")
            if stream is None:
                return
            claimed = claimed_s(container, stream)
            for frame in decode(container, stream, damage):
                if not self.rate:
                    self.start, self.rate = frame.time or 0.0, frame.sample_rate
                if frame.sample_rate != self.rate:
                    change = f"from {self.rate} to {frame.sample_rate} Hz"
                    raise DataError(f"{self.path}: the sound changes {change}", hint="re-encode it")
                for piece in self._placed(frame, have):
                    have += len(piece)
                    yield piece
        if not have and damage.packets:
            raise DataError(f"{self.path}: no sound could be decoded ({damage.packets} damaged packets)")
        end = self.start + have / self.rate if have else math.inf
        if looks_cut(claimed, end):
            log.warning(
                "%s: its header says %.1f s of sound, it ends at %.1f s: is the file cut off?",
                self.path.name,
                claimed,
                end,
            )
        if damage.packets:
            log.warning("%s: %d damaged packets of sound were skipped", self.path.name, damage.packets)

    def _placed(self, frame: "av.AudioFrame", have: int) -> Iterator[Samples]:
        """Silence as far as some is missing before a frame, then the frame, without what is there already."""
        missing = 0 if frame.time is None else round((frame.time - self.start) * self.rate) - have
        if abs(missing) <= _GAP_S * self.rate:
            missing = 0
        if missing > _HOLE_AT_MOST_S * self.rate or missing < -_BACK_AT_MOST_S * self.rate:
            place = f"{have / self.rate + self.start:.3f} s"
            raise DataError(
                f"{self.path}: the sound jumps by {missing / self.rate:.0f} s at {place}",
                hint="the file looks joined from several; re-encode its sound",
            )
        for begin in range(0, missing, self.rate):
            yield np.zeros(min(self.rate, missing - begin), np.float32)
        yield _mono(frame)[max(-missing, 0) :]


def _mono(frame: "av.AudioFrame") -> Samples:
    raw = frame.to_ndarray()
    channels = frame.layout.nb_channels
    samples = raw if frame.format.is_planar else raw.reshape(-1, channels).T
    if samples.dtype.kind == "f":
        return samples.mean(axis=0, dtype=np.float32)
    bits = samples.dtype.itemsize * 8
    offset = 128 if samples.dtype == np.uint8 else 0  # 8-bit sound is unsigned
    return ((samples.astype(np.float32) - offset) / 2 ** (bits - 1)).mean(axis=0, dtype=np.float32)


class Resampler:
    """torchaudio's resampling of sound that comes in pieces: what the whole at once would give.

    Both rates share a unit of time that is a whole number of samples of either; pieces are cut at units, and every
    piece is computed with the units around it that its filter reaches.
    """

    def __init__(self, native: int, rate: int) -> None:
        import torchaudio

        common = math.gcd(native, rate)
        self._unit, self._made = native // common, rate // common  # samples of a unit, before and after
        reach = math.ceil(6 * self._unit / (0.99 * min(self._unit, self._made)))  # torchaudio's default filter
        if self._made * (self._unit + 2 * reach) > _KERNEL_AT_MOST:
            raise DataError(f"sound at {native} Hz cannot be resampled to {rate} Hz", hint="re-encode it at 48000 Hz")
        self._margin = math.ceil(reach / self._unit) + 1  # units
        self._at_once = max(1, _RESAMPLED_AT_ONCE_S * common)  # units; 1 / common seconds each
        self._resample = torchaudio.transforms.Resample(native, rate) if native != rate else None
        self._waiting: list[Samples] = []
        self._have = self._before = 0  # samples waiting, and units among them that are out already

    def push(self, samples: Samples) -> Iterator[Samples]:
        """Add samples; what can be computed comes out."""
        if self._resample is None:
            yield samples
            return
        self._waiting.append(samples)
        self._have += len(samples)
        while self._have >= (self._before + self._at_once + self._margin) * self._unit:
            yield self._computed(self._at_once)

    def finish(self) -> Iterator[Samples]:
        """The rest."""
        if self._have > self._before * self._unit:
            yield self._computed(None)

    def _computed(self, units: int | None) -> Samples:
        """The next so many units (None: all), and forget what no later one needs."""
        import torch

        x = np.concatenate(self._waiting)
        stop = None if units is None else self._before + units
        piece = np.pad(x, (0, self._unit)) if stop is None else x[: (stop + self._margin) * self._unit]
        y = self._resample(torch.from_numpy(piece)).numpy()  # its length is rounded in single precision: one unit more
        end = math.ceil(len(x) * self._made / self._unit) if stop is None else stop * self._made
        out = y[self._before * self._made : end]
        if stop is None:
            self._waiting, self._have, self._before = [], 0, 0
        else:
            keep = max(stop - self._margin, 0)
            self._waiting, self._before = [x[keep * self._unit :]], stop - keep
            self._have = len(self._waiting[0])
        return out


@dataclass(frozen=True)
class Heard:
    """Extent of a recording's sound in seconds, and its largest sample."""

    start: float
    seconds: float
    loudest: float


def listen(path: Path, until: float = math.inf) -> Heard | None:
    """Decode the sound of a file to its end; None where it has none. Given up ``until`` (of ``time.monotonic``)."""
    sound, samples, loudest = SoundFile(path), 0, 0.0
    for piece in within(prefetched(sound.pieces(), what=str(path)), until, str(path)):
        samples += len(piece)
        loudest = max(loudest, float(np.abs(piece).max(initial=0.0)))
    return Heard(float(sound.start), samples / sound.rate, loudest) if samples else None


@contextlib.contextmanager
def sound_at(path: Path, rates: Iterable[int], root: Path, until: float = math.inf) -> Iterator[dict[int, Waveform]]:
    """The sound of a file at each of these rates (Hz), from one decode; empty where it has none.

    The samples lie on disk, in the staging folder of the cache at ``root``, until the block ends. Given up
    ``until`` (of ``time.monotonic``).
    """
    with contextlib.ExitStack() as stack:
        spools = {rate: stack.enter_context(contextlib.closing(Spool(root))) for rate in rates}
        sound = SoundFile(path)
        pieces = within(prefetched(sound.pieces(), what=str(path)), until, str(path))
        for rate, samples in resampled(pieces, sound, spools):
            spools[rate].append(samples)
        yield {rate: Waveform(spool, rate, float(sound.start)) for rate, spool in spools.items() if len(spool)}


def resampled(pieces: Iterable[Samples], sound: SoundFile, rates: Iterable[int]) -> Iterator[tuple[int, Samples]]:
    """Pieces of a file's sound at each of these rates, as they become known."""
    resamplers: dict[int, Resampler] = {}
    for piece in pieces:
        resamplers = resamplers or {rate: Resampler(sound.rate, rate) for rate in rates}
        for rate, resampler in resamplers.items():
            yield from ((rate, out) for out in resampler.push(piece))
    for rate, resampler in resamplers.items():
        yield from ((rate, out) for out in resampler.finish())


def read_waveform(path: Path, rate: int) -> Waveform | None:
    """The sound of a file at ``rate`` Hz, in memory; None where it has none."""
    sound = SoundFile(path)
    pieces = [piece for _, piece in resampled(sound.pieces(), sound, [rate])]
    return Waveform(np.concatenate(pieces), rate, float(sound.start)) if sum(map(len, pieces)) else None
