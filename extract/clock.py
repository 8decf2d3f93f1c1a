"""Clocks of recordings that have none of their own: nominal frames, and the timeline says that they are."""

import numpy as np

from cache.records import Timeline

NOMINAL_FPS = 25.0


def nominal_timeline(start: float, seconds: float) -> Timeline:
    """``NOMINAL_FPS`` frames a second over sound that begins at ``start`` and lasts so long."""
    frames = max(1, int(seconds * NOMINAL_FPS + 1e-6))
    pts = start + np.arange(frames) / NOMINAL_FPS
    return Timeline(pts, float(pts[-1] + 1 / NOMINAL_FPS))
