"""The demo corpus that ``extract.demo`` draws and synthesises: real files, in Aff-Wild2's layout."""

from extract.datasets import DATASETS
from extract.datasets._affwild2_layout import Affwild2Layout


@DATASETS.register("demo")
class Demo(Affwild2Layout):
    """Written by ``python cli.py demo``; unlike Aff-Wild2 it has labels for its test set."""
