"""CAN weighs streams feature by feature, and its BatchNorm knows only real tokens."""

import pytest
import torch
from torch.nn import functional

from cache.records import StreamSpec
from fuse.feeding.batch import HeadInputs
from fuse.heads.can import CAN

B, T = 2, 6
DIMS = {"face": 6, "voice": 3, "words": 4}


def build(n):
    torch.manual_seed(0)
    streams = tuple(StreamSpec(m, "visual", d) for m, d in list(DIMS.items())[:n])
    head = CAN(HeadInputs(streams, T), CAN.Config(width=5)).eval().double()
    x = {m: torch.randn(B, T, DIMS[m], dtype=torch.float64) for m in list(DIMS)[:n]}
    seen = {m: torch.rand(B, T) > 0.4 for m in x}
    for m in x:
        seen[m][1, 2] = False  # a frame without anything
    return head, x, seen


def one_frame(head, x, seen):
    """z of one frame, feature by feature."""
    width, names = head.cfg.width, list(x)
    p = torch.stack([head.project[m](x[m]) * seen[m] for m in names])  # M x width
    if len(names) == 1:
        return p.flatten()
    scores = (head.W.weight @ p.flatten() + head.W.bias).view(len(names), width)
    z = torch.zeros_like(p)
    for j in range(width):
        keys = [i for i, m in enumerate(names) if seen[m]]
        for i, weight in zip(keys, scores[keys, j].softmax(0), strict=True):
            z[i, j] = weight * p[i, j]
    return z.flatten()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_head_equals_the_equations_frame_by_frame(n):
    head, x, seen = build(n)
    head.norm.running_mean.uniform_(-1, 1)
    head.norm.running_var.uniform_(0.5, 2)
    got = head(x, seen, torch.ones(B, T, dtype=torch.bool))
    norm = head.norm
    for b, t in ((b, t) for b in range(B) for t in range(T)):
        z = one_frame(head, {m: v[b, t] for m, v in x.items()}, {m: bool(s[b, t]) for m, s in seen.items()})
        h = (head.hidden(z) - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
        want = torch.tanh(head.regressor[-1](functional.leaky_relu(h)))
        torch.testing.assert_close(got[b, t], want.float(), atol=1e-6, rtol=0)


def test_statistics_are_those_of_real_tokens():
    head, x, seen = build(2)
    real = torch.ones(B, T, dtype=torch.bool)
    real[1, 3:] = False
    h = head.hidden(head.fuse({m: v * (seen[m] & real).unsqueeze(-1) for m, v in x.items()}, seen))
    head.train()(x, seen, real)
    rows = h[real]
    torch.testing.assert_close(head.norm.running_mean, 0.1 * rows.mean(0))
    torch.testing.assert_close(head.norm.running_var, 0.9 + 0.1 * rows.var(0))
    torch.testing.assert_close(
        head.normalise(h, real)[real].mean(0), torch.zeros(5, dtype=torch.float64), atol=1e-9, rtol=0
    )


def test_a_single_real_token_trains_on_what_is_known():
    head, x, seen = build(2)
    real = torch.zeros(B, T, dtype=torch.bool)
    real[0, 0] = True
    assert head.train()(x, seen, real).isfinite().all()
    assert (head.norm.running_var == 1).all()
