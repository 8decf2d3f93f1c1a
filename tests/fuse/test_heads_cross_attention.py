"""Cross-attention is the FG 2021 equations: each stream's own tokens, weighted by correlation with another's."""

import pytest
import torch

from cache.errors import UsageError
from cache.records import StreamSpec
from fuse.feeding.batch import HeadInputs
from fuse.heads.cross_attention import CrossAttention

B, K = 2, 5
DIMS = {"face": 6, "voice": 3, "words": 4}


def build(n, **options):
    torch.manual_seed(0)
    streams = tuple(StreamSpec(m, "visual", d) for m, d in list(DIMS.items())[:n])
    head = CrossAttention(HeadInputs(streams, K), CrossAttention.Config(hidden=8, **options)).eval().double()
    x = {m: torch.randn(B, K, DIMS[m], dtype=torch.float64) for m in list(DIMS)[:n]}
    return head, x, {m: torch.rand(B, K) > 0.3 for m in x}


def reference(head, x, seen):
    """Token by token, pair by pair, no broadcasting."""
    unit = {m: v / v.norm(dim=-1, keepdim=True) for m, v in x.items()}
    out = {m: torch.zeros_like(v) for m, v in x.items()}
    for m in x:
        for b, j in ((b, j) for b in range(B) for j in range(K) if seen[m][b, j]):
            mixes = []
            for n in [n for n in x if n != m] or [m]:
                if not seen[n][b, j]:
                    continue
                w = head.W[f"{m}|{n}"] if f"{m}|{n}" in head.W else head.W[f"{n}|{m}"].t()
                keys = [i for i in range(K) if seen[m][b, i]]
                z = torch.stack([unit[m][b, i] @ w @ unit[n][b, j] for i in keys]) / head.cfg.temperature
                mixes.append(sum(a * unit[m][b, i] for a, i in zip(z.softmax(0), keys, strict=True)))
            mean = sum(mixes) / len(mixes) if mixes else 0
            out[m][b, j] = torch.tanh(unit[m][b, j] + mean)
    return out


@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_attended_features_equal_the_equations(n, temperature):
    head, x, seen = build(n, temperature=temperature)
    got = head.attend({m: v * seen[m].unsqueeze(-1) for m, v in x.items()}, seen)
    for m, want in reference(head, x, seen).items():
        torch.testing.assert_close(got[m], want, atol=1e-10, rtol=0)


def test_one_matrix_per_unordered_pair_and_self_correlation_alone():
    assert list(build(3)[0].W) == ["face|voice", "face|words", "voice|words"]
    assert list(build(1)[0].W) == ["face|face"]


def test_max_pooling_gives_one_value_a_window_over_seen_tokens():
    head, x, seen = build(2, pool="max")
    real = torch.ones(B, K, dtype=torch.bool)
    out = head(x, seen, real)
    assert torch.equal(out, out[:, :1].expand_as(out))
    attended = head.attend({m: v * seen[m].unsqueeze(-1) for m, v in x.items()}, seen)
    top = torch.stack([torch.cat([attended[m][b][seen[m][b]].amax(0) for m in x]) for b in range(B)])
    torch.testing.assert_close(out[:, 0], head.regressor(top).float(), atol=1e-6, rtol=0)


def test_temperature_must_be_positive():
    with pytest.raises(UsageError, match="above 0, got 0"):
        build(2, temperature=0.0)
