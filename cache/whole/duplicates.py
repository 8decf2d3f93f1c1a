"""Recordings that share frames: the same clip under two names, or a piece of one in another, above all where one of
them is in train and the other is not.

A frame's code is the cell it falls into when its features, normalised dimension by dimension, are projected onto 12
random directions and cut every half a standard deviation (locality-sensitive hashing; Datar et al., SCG 2004). Equal
frames have equal codes; with noise of a share e of the features a frame keeps its code with probability about
(1 - 1.6 e)^12: 0.82 at 0.01, 0.37 at 0.05, 0.13 at 0.1. Two recordings share as many of their distinct codes, of those
of the one that has fewer. Codes of many recordings (black frames, silence) tell nothing and are left out; of a large
corpus only every n-th code is held, the same ones in all recordings.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cache.store import FeatureCache
from cache.whole.stacked import F32, Piece, dask, pieces, stacked

_DIRECTIONS, _CELL = 12, 0.5  # standard deviations
_MOST = 20  # recordings that may have a code before it tells nothing
_HELD = 20_000_000  # codes, at most
_FEWEST = 8  # distinct codes of a recording: with fewer it is a still, and like any other still of the kind
if TYPE_CHECKING:
    from dask.array import Array

Codes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Pair:
    """Two recordings and the partitions they are in; shared: of the distinct frame codes of the smaller one, 0 to 1."""

    a: str
    b: str
    shared: float
    partitions: tuple[str, str]

    @property
    def leaks(self) -> bool:
        """Whether they are on two sides of a partition."""
        return self.partitions[0] != self.partitions[1]


@dataclass(frozen=True)
class Duplicates:
    """Pairs, those of two partitions first, then by what they share. every: of the codes, the n-th were held."""

    stream: str
    recordings: int
    frames: int
    every: int
    pairs: list[Pair]

    @property
    def leaks(self) -> int:
        """Pairs on two sides of a partition."""
        return sum(p.leaks for p in self.pairs)


def find_duplicates(cache: FeatureCache, name: str, *, least: float = 0.2, protocol: str = "va") -> Duplicates:
    """Pairs of recordings of a stream that share at least this much (by chance, up to 0.15). No label is opened.

    name: its key, or its bare name. protocol: of the partitions; a recording in none of them has the partition "".
    """
    key = cache.resolve(name).key
    parts, frames = pieces(cache, key), stacked(cache, key)
    every = -(-len(frames) // _HELD)
    cells = _cells(frames)
    found = dask().compute(*(dask().delayed(_codes)(part, cells, every) for part in parts))
    codes = {p.recording: np.empty(0, np.uint64) for p in parts}
    for part, held in zip(parts, found, strict=True):
        codes[part.recording] = np.union1d(codes[part.recording], held)
    split = cache.labels.partitions(protocol).of if protocol in cache.labels.protocols() else {}
    pairs = [
        Pair(a, b, shared, (split.get(a, ""), split.get(b, "")))
        for a, b, shared in shared_codes(codes)
        if shared >= least
    ]
    pairs.sort(key=lambda p: (not p.leaks, -p.shared, p.a, p.b))
    return Duplicates(key, len(codes), len(frames), every, pairs)


@dataclass(frozen=True)
class _Cells:
    """A frame x f32[D] is in cell floor((x - mean) @ axes + shift), i64[12]; its code is that times odd, u64[12]."""

    mean: F32
    axes: F32
    shift: F32
    odd: Codes


def _cells(frames: "Array") -> _Cells:
    rng = np.random.default_rng(0)
    mean, std = dask().compute(frames.mean(axis=0, dtype=np.float64), frames.std(axis=0, dtype=np.float64))
    axes = rng.standard_normal((len(mean), _DIRECTIONS)) / np.sqrt(len(mean)) / _CELL
    scaled = axes / np.where(std > 1e-6, std, np.inf)[:, None]  # a dimension that never varies tells nothing
    shift = rng.random(_DIRECTIONS)
    odd = rng.integers(2**63, size=_DIRECTIONS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return _Cells(mean.astype(np.float32), scaled.astype(np.float32), shift.astype(np.float32), odd)


def _codes(piece: Piece, cells: _Cells, every: int) -> Codes:
    """Distinct codes of a piece, ascending; every n-th of all there can be."""
    inside = np.floor((piece.rows() - cells.mean) @ cells.axes + cells.shift).astype(np.int64)  # [n,12]
    codes = np.unique(inside.view(np.uint64) @ cells.odd)
    return codes[(codes >> np.uint64(32)) % np.uint64(every) == 0]


def shared_codes(codes: dict[str, Codes]) -> list[tuple[str, str, float]]:
    """Pairs of recordings that have codes in common, and their share of the codes of the one with fewer."""
    names = [name for name, held in codes.items() if len(held) >= _FEWEST]
    if len(names) < 2:
        return []
    whose = np.repeat(np.arange(len(names)), [len(codes[n]) for n in names])
    all_ = np.concatenate([codes[n] for n in names])
    order = np.argsort(all_, kind="stable")
    all_, whose = all_[order], whose[order]
    _, count = np.unique(all_, return_counts=True)
    telling = np.repeat((count > 1) & (count <= _MOST), count)
    all_, whose = all_[telling], whose[telling]
    sizes = [len(codes[n]) for n in names]
    pairs = [np.empty((0, 2), np.intp)]
    for apart in range(1, min(_MOST, len(all_))):
        same = all_[apart:] == all_[:-apart]
        pairs.append(np.stack([whose[:-apart][same], whose[apart:][same]], 1))
    found, shared = np.unique(np.concatenate(pairs), axis=0, return_counts=True)
    return [
        (names[a], names[b], n / min(sizes[a], sizes[b]))
        for (a, b), n in zip(found.tolist(), shared.tolist(), strict=True)
    ]


def duplicate_lines(found: Duplicates) -> list[str]:
    """For a terminal: the pairs, and on how many sides of the partitions they are."""
    lines = [f"{p.a}  {p.b}  {p.shared:.0%}" + (f"  {_sides(p)}" if p.leaks else "") for p in found.pairs]
    told = f"{len(found.pairs)} pairs of {found.recordings} recordings share frames ({found.stream})"
    return [*lines, told + (f", {found.leaks} of them across partitions" if found.leaks else "")]


def _sides(pair: Pair) -> str:
    return " and ".join(name or "no partition" for name in pair.partitions)
