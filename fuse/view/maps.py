"""Attention maps of one window, for the page: the window in which a frame is most central, of one run's head.

Heads are loaded, and windows computed, when they are asked for, one at a time. Features alone are read, never a label:
to look at a map of ``test`` opens nothing. Moments are those of the film, also where a run moves its predictions back
by the delay of annotators.
"""

import base64
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from cache.errors import AffuseError, DataError, UsageError
from cache.ids import as_text
from fuse.feeding.data import Corpus, open_unlabelled
from fuse.feeding.windows import Windows, make_windows
from fuse.finished import Finished, check_streams, load_run
from fuse.fit import sampling
from fuse.heads._base import look
from fuse.heads._maps import AttentionMap
from fuse.view.data import Shelf
from fuse.view.sources import why_not

SIDE = 300  # cells of a map that are sent, to either side; of longer windows a cell is several tokens
LAST = 8  # answers, opened recordings and runs that are kept
F32 = npt.NDArray[np.float32]
Key = tuple[str, *tuple[int, ...]]
T = TypeVar("T")


class Maps:
    """Maps of what is on a shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._lock = threading.Lock()
        self._kept: dict[Key, Any] = {}

    def around(self, number: int, run: int, frame: int) -> dict[str, Any]:
        """The window that shows a frame best, or a note why there is none.

        Raises IndexError for a recording, run or frame that there is not.
        """
        name, source = self._shelf.names[number], self._shelf.sources[run]
        try:
            with self._lock:
                if not self._shelf.cache.timelines.has(name):
                    raise UsageError("this recording is not in the cache, so that a head has nothing to look at")
                if not (source.folder / "recipe.json").is_file():
                    raise UsageError("these are predictions alone: maps need the folder of a run, with its head")
                finished = self._keep(("run", run), lambda: load_run(source.folder))
                corpus, windows, chosen = self._keep(("opened", run, number), lambda: self._opened(finished, name))
                row = int(chosen[frame])
                return self._keep(("answer", run, number, row), lambda: _answer(finished, corpus, windows, chosen, row))
        except AffuseError as error:
            return {"note": why_not(error)}

    def _opened(self, run: Finished, name: str) -> tuple[Corpus, Windows, npt.NDArray[np.int64]]:
        check_streams(run, self._shelf.cache)
        readers = {s.name: self._shelf.cache.reader(s.key) for s in run.streams}
        corpus = open_unlabelled(self._shelf.cache, readers, [name], run.stats)
        windows = make_windows(corpus.lengths, *sampling(run.protocol))
        return corpus, windows, most_central(windows, corpus.lengths[0])

    def _keep(self, key: Key, make: Callable[[], T]) -> T:
        """What was made for a key; of each kind, the key's first word, the last few."""
        found: T = self._kept.pop(key) if key in self._kept else make()
        self._kept[key] = found
        alike = [k for k in self._kept if k[0] == key[0]]
        for old in alike[:-LAST]:
            del self._kept[old]
        return found


def most_central(windows: Windows, frames: int) -> npt.NDArray[np.int64]:
    """i64[T]: for each frame of one recording the window that it is farthest from the ends of; the first of several."""
    real = windows.frame >= 0
    place = np.arange(windows.frame.shape[1])
    margin = np.where(real, np.minimum(place, real.sum(axis=1, keepdims=True) - 1 - place), -1)
    best, chosen = np.full(frames, -1), np.zeros(frames, np.int64)
    np.maximum.at(best, windows.frame[real], margin[real])
    for row in reversed(range(len(windows))):
        held = windows.frame[row][real[row]]
        chosen[held[margin[row][real[row]] == best[held]]] = row
    return chosen


def _answer(run: Finished, corpus: Corpus, windows: Windows, chosen: npt.NDArray[np.int64], row: int) -> dict[str, Any]:
    batch = corpus.batch(windows, np.array([row]), torch.device("cpu"))
    maps = look(run.head, batch.x, batch.present, batch.real)
    frames = windows.frame[row][windows.frame[row] >= 0]
    step = -(-len(frames) // SIDE)
    answer = {
        "head": as_text(run.recipe.head),
        "frames": frames[::step].tolist(),
        "step": step,
        "until": int(frames[-1]),
        "shows": frames[chosen[frames] == row].tolist(),
        "stages": _stages(maps, len(frames)),
    }
    if not maps:
        on = ", ".join(s.name for s in run.streams)
        answer["note"] = as_text(f"This head ({run.recipe.head} on {on}) has no attention to show.")
    return answer


def _stages(maps: list[AttentionMap], tokens: int) -> list[dict[str, Any]]:
    """Maps of one part of the head together, in their order."""
    found: dict[str, dict[str, Any]] = {}
    for one in maps:
        stage = found.setdefault(one.stage, {"name": as_text(one.stage), "means": as_text(one.means), "maps": []})
        stage["maps"].append(_encoded(one, tokens))
    return list(found.values())


def _encoded(one: AttentionMap, tokens: int) -> dict[str, Any]:
    """A map of one window, of its real tokens, as bytes: a weight as 1 to 255, the greatest is ``top``; 0 where none.

    A correlation as 1 to 255 around 128, ``top`` the greatest without its sign.
    """
    whole: F32 = one.weights[0].float().cpu().numpy()
    signed = one.over == "features"
    if not signed:
        whole = whole[:tokens, :tokens] if one.over == "time" else whole[:tokens]
    values = binned(whole, total=not signed)
    top = float(np.abs(values).max(initial=0.0))
    if not np.isfinite(top):
        raise DataError("the weights of this head, or its features here, are not finite, and so are its maps")
    share = values / (top or 1.0)
    codes = np.rint(128 + 127 * share) if signed else np.where(values > 0, np.rint(1 + 254 * share), 0)
    return {
        "query": as_text(one.query),
        "keys": [as_text(k) for k in one.keys],
        "over": one.over,
        "rows": values.shape[0],
        "columns": values.shape[1],
        "top": top,
        "values": base64.b64encode(codes.astype(np.uint8).tobytes()).decode("ascii"),
    }


def binned(values: F32, *, total: bool) -> F32:
    """At most SIDE rows and columns: the mean of neighbouring rows; of columns the total, or else their mean."""
    for axis in (0, 1):
        size = values.shape[axis]
        starts = np.arange(0, size, -(-size // SIDE))
        values = np.add.reduceat(values, starts, axis=axis)
        if axis == 0 or not total:
            counts = np.diff(np.append(starts, size)).astype(np.float32)
            values /= counts[:, None] if axis == 0 else counts
    return values
