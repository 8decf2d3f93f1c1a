"""Fusion heads, one paper a file. ``HEADS.names()`` lists them; a user's own joins through ``--plugin``."""

from cache.registry import Registry
from fuse.heads._base import Head, visible

HEADS: Registry[Head] = Registry("head", __name__, aliases={"ca": "cross-attention"})

__all__ = ["HEADS", "Head", "visible"]
