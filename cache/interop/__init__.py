"""In and out of the cache: one foreign layout a file.

``cli.py cache import FORMAT PATH`` and ``cli.py cache export FORMAT PATH`` know the layouts that have a file here. A
layout says what it holds and reads one recording at a time; ``_bring`` alone writes a cache.
"""

from cache.interop._layout import Layout
from cache.registry import Registry

FORMATS: Registry[Layout] = Registry(
    "format", "cache.interop", {"video_features": "video-features", "csv": "csv-features", "h5": "hdf5"}
)

__all__ = ["FORMATS", "Layout"]
