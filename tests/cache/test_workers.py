"""A reader opened in the parent works in the workers of a torch DataLoader, forked or spawned, packed or mapped."""

import numpy as np
import pytest
import torch

from cache.care.convert import convert
from cache.packed import Packing
from cache.reader import StreamReader
from cache.records import Aligned, Timeline
from cache.store import FeatureCache

FRAMES, WINDOW = 400, 64


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    top, rng = tmp_path_factory.mktemp("workers"), np.random.default_rng(0)
    cache = FeatureCache.create(top / "mapped", "demo")
    key = cache.declare("s", "visual", 5, {"dtype": "bfloat16"}, {}).key
    for i in range(4):
        cache.timelines.write(f"r{i}", Timeline(np.arange(FRAMES) / 25, FRAMES / 25))
        values = rng.standard_normal((FRAMES, 5), np.float32)
        cache.write(key, f"r{i}", Aligned(values, np.ones(FRAMES, bool)), dtype="bfloat16")
    convert(cache.root, top / "packed", packing=Packing("zstd", 100), quiet=True)
    return top, key


class Windows(torch.utils.data.Dataset):
    """Every fiftieth window of every recording, as f32[64,5]."""

    def __init__(self, reader: StreamReader) -> None:
        self.reader = reader
        self.index = [(r, at) for r in sorted(reader.folders) for at in range(0, FRAMES - WINDOW, 50)]

    def __len__(self):
        return len(self.index)

    def __getitem__(self, i):
        recording, at = self.index[i]
        return self.reader.window(recording, slice(at, at + WINDOW)).astype(np.float32)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.parametrize("layout", ["mapped", "packed"])
def test_workers_read_what_the_parent_reads(caches, layout, context):
    top, key = caches
    windows = Windows(FeatureCache(top / layout).reader(key))
    windows[0]  # maps and zarr are in use before the workers begin
    loader = torch.utils.data.DataLoader(
        windows, batch_size=5, num_workers=2, multiprocessing_context=context, timeout=60
    )
    found = np.concatenate([batch.numpy() for batch in loader])
    wanted = FeatureCache(top / "mapped")
    direct = [wanted.read(key, r).values[at : at + WINDOW] for r, at in windows.index]
    np.testing.assert_array_equal(found, direct)
    assert len(windows) == 28
