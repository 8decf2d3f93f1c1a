"""Corpora, one a file. ``DATASETS.names()`` lists them."""

from cache.registry import Registry
from extract.datasets._base import Dataset

DATASETS: Registry[Dataset] = Registry("dataset", __name__)

__all__ = ["DATASETS", "Dataset"]
