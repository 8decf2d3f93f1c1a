"""The few tensor steps that all heads stand on: masks, adapters, masked softmax, usable names."""

import pytest
import torch

from cache.errors import UsageError
from cache.records import StreamSpec
from fuse.feeding.batch import HeadInputs
from fuse.heads import Head, visible
from fuse.heads._block import Adapters, masked_softmax

DIMS = {"face": 4, "voice": 3}


def batch():
    g = torch.Generator().manual_seed(0)
    present = {m: torch.rand(3, 6, generator=g) > 0.3 for m in DIMS}
    real = torch.ones(3, 6, dtype=torch.bool)
    real[-1, -2:] = False
    return {m: torch.randn(3, 6, d, generator=g) for m, d in DIMS.items()}, present, real


@pytest.mark.parametrize("names", [(), ("a", "a"), ("a.b",), ("",)])
def test_unusable_stream_names_are_refused(names):
    with pytest.raises(UsageError, match="stream"):
        Head(HeadInputs(tuple(StreamSpec(m, "visual", 4) for m in names), 6), Head.Config())


def test_visible_zeroes_what_is_absent_or_padded():
    x, present, real = batch()
    values, seen = visible(
        {m: torch.where((present[m] & real).unsqueeze(-1), v, torch.nan) for m, v in x.items()}, present, real
    )
    for m in x:
        assert torch.equal(seen[m], present[m] & real)
        assert (values[m][~seen[m]] == 0).all()
        assert torch.equal(values[m][seen[m]], x[m][seen[m]])


def test_adapters_leave_unseen_tokens_at_zero():
    adapters = Adapters(DIMS, 5)
    x, seen, _ = batch()
    for m, v in adapters(x, seen).items():
        assert (v[~seen[m]] == 0).all()
        assert torch.equal(v[seen[m]], adapters[m](x[m])[seen[m]])


def test_masked_softmax_without_keys_is_zero_with_finite_gradients():
    scores = torch.randn(2, 4, requires_grad=True)
    keys = torch.tensor([[True, False, True, False], [False] * 4])
    weights = masked_softmax(scores, keys)
    torch.testing.assert_close(weights[0, [0, 2]], scores[0, [0, 2]].softmax(0))
    assert (weights[~keys] == 0).all()
    weights.square().sum().backward()
    assert scores.grad.isfinite().all()
    assert (scores.grad[1] == 0).all()
