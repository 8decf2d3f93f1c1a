"""Labels of a corpus on frame times that someone else gives, for scoring predictions without a cache."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cache.align import align_labels
from cache.records import Labels, Partitions, Timeline
from extract.datasets import open_dataset
from extract.recipe import ExtractRecipe

Truth = Callable[[str, npt.NDArray[np.float64]], Labels | None]


def corpus_truth(recipe: ExtractRecipe) -> tuple[Partitions, Truth]:
    """The corpus's split, and a function from a recording and frame times f64[T] to its labels on these frames.

    The function gives None where the corpus has no annotation; without frame times, one frame that is labelled where
    any row is valid.
    """
    corpus = open_dataset(recipe.dataset, recipe.root, recipe.dataset_options)
    by_id = {r.id: r for r in corpus.recordings()}

    def truth(recording: str, times: npt.NDArray[np.float64]) -> Labels | None:
        annotation = corpus.annotation(by_id[recording]) if recording in by_id else None
        if annotation is None:
            return None
        if not len(times):
            valid = np.isfinite(annotation.va).all(axis=1) & (annotation.va != -5).all(axis=1)
            return Labels(np.zeros((1, 2), np.float32), np.array([valid.any()]))
        step = float(np.median(np.diff(times))) if len(times) > 1 else 0.04
        return align_labels(annotation, Timeline(times, float(times[-1]) + step), recording)

    return corpus.partitions(), truth
