"""Aff-Wild2, valence-arousal track of the ABAW challenges (Kollias and Zafeiriou).

Licensed: ask its authors for it. Unpack videos (``batch1``, ``batch2``), ``cropped_aligned`` and the edition's
annotations below one folder; the layout is described in ``_affwild2_layout.py``.
"""

from extract.datasets import DATASETS
from extract.datasets._affwild2_layout import Affwild2Layout


@DATASETS.register("affwild2")
class Affwild2(Affwild2Layout):
    """The corpus as released."""
