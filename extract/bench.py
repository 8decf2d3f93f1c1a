"""The job of every process that extracts, here or on another machine: a recording, by encoders that stay loaded.

A worker is sent plain data, an ``Order`` and the job, and finds files, weights and the cache itself, under the same
paths. Rows never travel: whoever makes them commits them, and sends a receipt.
"""

import functools
import os
import pickle
from collections.abc import Iterable
from dataclasses import dataclass, field

from cache.errors import DataError
from cache.records import MODALITIES
from cache.registry import load_plugin
from cache.store import FeatureCache
from cache.turns import take_turn
from cache.worker import Receipt, at_work_in
from extract.asr import Recogniser
from extract.faces import FaceCrops, face_crops
from extract.job import extract_recording
from extract.outcome import Outcome
from extract.plan import Job
from extract.recipe import ExtractRecipe, options_of
from extract.spent import Watch
from extract.streams import Stream, Wanted, declare, want, want_boxes


@dataclass(frozen=True)
class Bench:
    """Where a process works on recordings, and with what: streams by key. watch: what it has in hand."""

    cache: FeatureCache
    streams: dict[str, Stream]
    deadline_s: float
    fps: float | None
    watch: Watch = field(default_factory=Watch)

    def make(self, job: Job) -> Outcome | None:
        """Commit what the recording lacks by now; None where another process is at work on it."""
        recording, cache = job.recording, self.cache
        with take_turn(cache.root, recording.id, wait=False) as mine:
            if not mine:
                return None
            left = [self.streams[k] for k in job.keys if not cache.has(k, recording.id)]
            if left or not cache.timelines.has(recording.id):
                return extract_recording(recording, left, cache, self.deadline_s, self.fps, self.watch)
        return Outcome()


@dataclass(frozen=True)
class Order:
    """What another process is told of a run. recipe: pickled; keys: of the streams; folder: where paths begin."""

    recipe: bytes
    keys: tuple[str, ...]
    folder: str

    @classmethod
    def of(cls, recipe: ExtractRecipe, keys: Iterable[str]) -> "Order":
        """The order of a run that was given in this folder."""
        return cls(pickle.dumps(recipe), tuple(sorted(keys)), os.getcwd())


def work(order: Order, device: str, job: Job) -> Receipt[Outcome | None]:
    """``Bench.make`` in a worker. Raises MissingData where the folder of the order is not to be seen here, what setting
    up raises, and CacheError where the cache cannot be written.
    """
    with at_work_in(order.folder) as logged:
        return Receipt(_bench(order, device).make(job), logged)


@functools.lru_cache(maxsize=1)
def _bench(order: Order, device: str) -> Bench:
    """Built once a process; encoders are loaded when a recording first needs them, and stay until another run's come.

    Raises DataError where other streams come out.
    """
    recipe: ExtractRecipe = pickle.loads(order.recipe)
    for plugin in recipe.plugins:
        load_plugin(plugin)
    cache = FeatureCache(recipe.cache)
    wanted = wanted_of(recipe, face_crops(recipe.faces, recipe.face_weights, []))
    streams = {s.spec.key: s for s in (declare(cache, w, device) for w in wanted)}
    if tuple(sorted(streams)) != order.keys:
        told = f"a worker on {os.uname().nodename} would make {', '.join(sorted(streams))}"
        hint = "give every worker the same version of the program, of the plugins and of the weights"
        raise DataError(f"{told}; wanted {', '.join(order.keys)}", hint=hint)
    return Bench(cache, streams, recipe.deadline_s, recipe.fps)


def wanted_of(recipe: ExtractRecipe, faces: FaceCrops | None) -> list[Wanted]:
    """The streams that a recipe asks for. Raises what ``want`` does."""
    recogniser = Recogniser(recipe.recogniser, recipe.language) if recipe.recogniser else None
    how = {"align": recipe.align, "dtype": recipe.dtype, "decode": recipe.decode}
    asked = [
        want(text, modality, options_of(recipe, text), **how, faces=faces, recogniser=recogniser)
        for modality in MODALITIES
        for text in getattr(recipe, modality)
    ]
    return [*asked, want_boxes(faces, recipe.decode)] if faces else asked
