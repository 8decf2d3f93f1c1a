"""Frozen encoders, one a file. ``ENCODERS.names()`` lists them; importing one never imports torch."""

from cache.registry import Registry
from extract.encoders._base import Encoder

ENCODERS: Registry[Encoder] = Registry("encoder", __name__)

__all__ = ["ENCODERS", "Encoder"]
