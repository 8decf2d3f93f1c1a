"""Features that lie on the device as a whole give the batches, and the numbers, that memory maps give."""

import dataclasses

import numpy as np
import pytest
import torch

from fuse.feeding.data import open_partition
from fuse.feeding.resident import Resident, placed, resident
from fuse.feeding.snapshot import take_snapshot
from fuse.feeding.streams import choose_streams
from fuse.feeding.windows import make_windows
from fuse.recipe import train_recipe
from fuse.train import run_train

CPU = torch.device("cpu")


@pytest.fixture
def corpus(toy_cache):
    return open_partition(take_snapshot(toy_cache, choose_streams(toy_cache, ()), "va"), "train")


@pytest.mark.parametrize(("tokens", "stride", "hop"), [(16, 1, 16), (16, 3, 5), (200, 1, 200), (1, 1, 1)])
def test_batches_are_bit_for_bit_those_of_the_memory_maps(corpus, tokens, stride, hop):
    windows = make_windows(corpus.lengths, tokens, stride, hop)
    rows = np.random.default_rng(0).permutation(len(windows))[:50]
    mapped, held = (c.batch(windows, rows, CPU) for c in (corpus, resident(corpus, CPU)))
    for field in dataclasses.fields(mapped):
        one, other = getattr(mapped, field.name), getattr(held, field.name)
        pairs = [(one[m], other[m]) for m in one] if isinstance(one, dict) else [(one, other)]
        assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs), field.name


def test_a_run_gives_the_same_numbers_and_the_same_folder(toy_cache, tmp_path):
    asked = {"head": "jca", "epochs": 2, "device": "cpu"}
    mapped, held = (
        run_train(train_recipe(toy_cache.root, None, {**asked, "resident": r, "runs": tmp_path / str(r)}), quiet=True)
        for r in (False, True)
    )
    assert mapped.evaluations == held.evaluations
    assert mapped.folder.rpartition("/")[2] == held.folder.rpartition("/")[2]


def test_annotation_delay_reaches_what_lies_on_the_device(toy_cache, tmp_path):
    asked = {"head": "linear", "epochs": 2, "device": "cpu", "delay_valence": 0.4, "delay_arousal": 0.2}
    late, held, unmoved = (
        run_train(train_recipe(toy_cache.root, None, {**asked, **more, "runs": tmp_path / str(n)}), quiet=True)
        for n, more in enumerate(({}, {"resident": True}, {"delay_valence": 0, "delay_arousal": 0}))
    )
    assert held.evaluations == late.evaluations != unmoved.evaluations


def test_by_default_only_a_gpu_holds_features(corpus):
    assert placed(corpus, CPU, None) is corpus
    assert placed(corpus, CPU, False) is corpus
    assert isinstance(placed(corpus, CPU, True), Resident)
