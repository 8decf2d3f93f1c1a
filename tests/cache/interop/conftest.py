"""An import in one call, and a small cache with what a cache can hold: absent frames, gaps, odd ids, two protocols."""

import numpy as np
import pytest

from cache.interop import FORMATS
from cache.interop._bring import bring_in
from cache.interop._layout import Wants
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.store import FeatureCache

ODD = ["plain", "with/slash", "../up", "täst ü", ".hidden", "x" * 230]


@pytest.fixture
def bring(tmp_path):
    """Import into ``tmp_path/cache`` (or the one given); returns (what was done, the cache)."""

    def call(form, path, cache=None, **wants):
        cache = cache or FeatureCache.create(tmp_path / "cache")
        layout = FORMATS.get(form)(path, Wants(**wants))
        with layout.opened:
            return bring_in(layout, form, cache, quiet=True), cache

    return call


@pytest.fixture
def full(tmp_path):
    """A cache of uneven frames, ids that are no plain names, and labels under two protocols."""
    rng, cache = np.random.default_rng(0), FeatureCache.create(tmp_path / "full", "toy")
    specs = [
        cache.declare(n, m, d, {"encoder": n, "dtype": t, "align": "linear"}, {"signature": [n]})
        for n, m, d, t in (("face", "visual", 5, "float16"), ("voice", "audio", 3, "float32"))
    ]
    labels = {}
    for i, recording in enumerate(ODD):
        frames = 40 + 300 * (i == 1) + i
        pts = np.cumsum(rng.uniform(0.03, 0.05, frames)) + 0.5
        cache.timelines.write(recording, Timeline(pts, float(pts[-1]) + 0.04), {"clock": "container", "decoder": "x"})
        for spec in specs[: 1 + (i != 2)]:
            values, present = rng.standard_normal((frames, spec.dim), np.float32), rng.random(frames) > 0.3
            about = {"rows": frames, "source": {"kind": "video", "name": f"{i}.mp4"}}
            dtype = cache.about(spec.key)["settings"]["dtype"]
            cache.write(spec.key, recording, Aligned(values, present), about, dtype=dtype)
        seen = rng.random(frames) > 0.1
        va = np.where(seen[:, None], rng.uniform(-1, 1, (frames, 2)), 0).astype(np.float32)
        labels[recording] = Labels(va, seen)
    split = Partitions(
        dict.fromkeys(ODD[:3], "train") | {"only split": "test"}, {"plain": "s1"}, {"plain": "f", ODD[0]: "f"}
    )
    cache.labels.write("va", labels, split)
    cache.labels.write("other year", {ODD[0]: labels[ODD[0]]}, Partitions({ODD[0]: "validation"}), {ODD[0]: 0.4})
    return cache


def _tree(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture
def tree():
    """Every file of a folder, by its path in it."""
    return _tree
