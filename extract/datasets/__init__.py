"""Corpora, one a file. ``DATASETS.names()`` lists them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache.recipe import build
from cache.registry import Registry
from extract.datasets._base import Dataset
from extract.datasets._labels import LabelFormat, read_labels

DATASETS: Registry[Dataset] = Registry("dataset", __name__)


def open_dataset(name: str, root: Path, options: Mapping[str, Any]) -> Dataset:
    """A corpus with its options. Raises UnknownName or ConfigError with a suggestion, MissingData for a wrong root."""
    cls = DATASETS.get(name)
    return cls(root, build(cls.Config, options, where="dataset_options"))


__all__ = ["DATASETS", "Dataset", "LabelFormat", "open_dataset", "read_labels"]
