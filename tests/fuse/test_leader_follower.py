"""Leader-follower is Zhang's equations, frame by frame: attention across streams, and the leader's own way round."""

import pytest
import torch
from torch.nn import functional

from cache.errors import UsageError
from cache.records import StreamSpec
from fuse.feeding.batch import HeadInputs
from fuse.heads._tcn import TCN
from fuse.heads.leader_follower import LeaderFollower

B, T = 2, 9
DIMS = {"voice": ("audio", 3), "face": ("visual", 6), "words": ("text", 4)}


def build(n, **options):
    torch.manual_seed(0)
    streams = tuple(StreamSpec(m, *DIMS[m]) for m in list(DIMS)[:n])
    cfg = LeaderFollower.Config(**{"width": 10, "d_k": 8, "levels": 2} | options)
    head = LeaderFollower(HeadInputs(streams, T), cfg).eval().double()
    x = {s.name: torch.randn(B, T, s.dim, dtype=torch.float64) for s in streams}
    return head, x, {m: torch.rand(B, T) > 0.3 for m in x}


def convolved(conv, x, dilation):
    """A causal convolution, tap by tap. x: list of T vectors."""
    weight = conv.weight  # [out, in, k]
    taps = weight.shape[-1]
    return [
        conv.bias + sum(weight[:, :, k] @ x[t - (taps - 1 - k) * dilation] for k in range(taps)
                        if t >= (taps - 1 - k) * dilation)
        for t in range(len(x))
    ]  # fmt: skip


def tcn_by_steps(tcn, x, seen):
    """One window [T,D] through the TCN: what is not seen is zero before every convolution."""
    for i, block in enumerate(tcn.blocks):
        h = list(x)
        for conv in block.conv:
            h = convolved(conv, h, 2**i)
            h = [functional.leaky_relu(v) * seen[t] for t, v in enumerate(h)]
        if isinstance(block.residual, torch.nn.Conv1d):
            rest = [block.residual.weight[:, :, 0] @ v + block.residual.bias for v in x]
        else:
            rest = x
        x = [functional.leaky_relu(a + b) * seen[t] for t, (a, b) in enumerate(zip(h, rest, strict=True))]
    return torch.stack(list(x))


def one_frame(head, x, seen):
    """y of one frame from x_m, with the rows of K, Q and V made stream by stream. x[m]: [c]; seen[m]: bool."""
    att, d = head.attention, head.cfg.d_k // head.cfg.heads
    parts = [x[head.leader]]
    for m in x:
        if not seen[m]:
            parts.append(torch.zeros(head.cfg.d_k, dtype=torch.float64))
            continue
        keys = [n for n in x if seen[n]]
        mixed = []
        for h in range(head.cfg.heads):
            at = slice(h * d, (h + 1) * d)
            scores = torch.stack([att.k[m](x[m])[at] @ att.q[n](x[n])[at] for n in keys]) / d**0.5
            mixed.append(sum(s * att.v[n](x[n])[at] for s, n in zip(scores.softmax(0), keys, strict=True)))
        parts.append(att.norm[m](torch.cat(mixed) + att.v[m](x[m])))
    return head.regressor[-1](torch.cat(parts))


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("n", [2, 3])
def test_head_equals_the_equations_frame_by_frame(n, heads):
    head, x, seen = build(n, heads=heads)
    got = head(x, seen, torch.ones(B, T, dtype=torch.bool))
    for b in range(B):
        tcn = {m: tcn_by_steps(head.tcn[m], list(v[b] * seen[m][b].unsqueeze(-1)), seen[m][b]) for m, v in x.items()}
        for t in range(T):
            want = one_frame(head, {m: v[t] for m, v in tcn.items()}, {m: bool(s[b, t]) for m, s in seen.items()})
            torch.testing.assert_close(got[b, t], want.float(), atol=1e-6, rtol=0)


def test_one_stream_alone_is_its_tcn_and_a_linear():
    head, x, seen = build(1)
    assert head.attention is None
    want = head.regressor[-1](head.tcn["voice"](x["voice"] * seen["voice"].unsqueeze(-1), seen["voice"]))
    torch.testing.assert_close(head(x, seen, torch.ones(B, T, dtype=torch.bool)), want.float())


def test_the_first_visual_stream_leads_unless_another_is_named():
    assert build(3)[0].leader == "face"
    assert build(1)[0].leader == "voice"
    assert build(3, leader="words")[0].leader == "words"
    with pytest.raises(UsageError, match="leader 'swin' is none of the streams voice, face, words"):
        build(3, leader="swin")


def test_without_followers_at_a_frame_only_the_leader_counts():
    head, x, seen = build(2)
    seen["voice"][:, 4] = False
    real = torch.ones(B, T, dtype=torch.bool)
    other = x | {"voice": torch.randn_like(x["voice"])}
    seen["voice"][:, :4] = False  # the follower's TCN is causal: nothing of it has been heard by then
    a, b = head(x, seen, real), head(other, seen, real)
    assert torch.equal(a[:, :5], b[:, :5])
    assert not torch.equal(a[:, 5:], b[:, 5:])


def test_widths_must_fit_the_heads():
    with pytest.raises(UsageError, match="d_k=8 must be a multiple of heads=3"):
        build(2, heads=3)


@pytest.mark.parametrize(("causal", "before", "after"), [(True, 12, 0), (False, 6, 6)])
def test_a_tcn_looks_as_far_as_it_says(causal, before, after):
    """Two blocks of kernel 3 reach 2 * 2 * (1 + 2) = 12 tokens: all back, or half of it to either side."""
    torch.manual_seed(0)
    tcn = TCN(2, [4, 4], kernel=3, causal=causal).eval().double()
    x = torch.randn(1, 40, 2, dtype=torch.float64, requires_grad=True)
    tcn(x, torch.ones(1, 40, dtype=torch.bool))[0, 20].sum().backward()
    touched = x.grad[0].abs().sum(-1).nonzero().flatten()
    assert (int(touched.min()), int(touched.max())) == (20 - before, 20 + after)
