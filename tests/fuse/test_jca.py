"""JCA is the paper's three equations, for any number of streams."""

import math

import pytest
import torch

from cache.errors import UsageError
from cache.records import StreamSpec
from fuse.feeding.batch import HeadInputs
from fuse.heads.jca import JCA, joint_cross_attention

B, L, K = 3, 5, 4
WIDTHS = {"face": 6, "voice": 3, "words": 4, "pose": 2}


def draw(m, seed=0):
    g = torch.Generator().manual_seed(seed)
    widths = dict(list(WIDTHS.items())[:m])
    d = sum(widths.values())

    def r(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64) * 0.5

    x = {n: r(B, L, w) for n, w in widths.items()}
    return x, {n: r(L, L) for n in x}, {n: r(K, L) for n in x}, {n: r(K, d) for n in x}, {n: r(L, K) for n in x}


def by_indices(x, w_j, w, w_c, w_h):
    """C, H and X_att of the paper with every index spelt out."""
    joint = torch.cat(list(x.values()), -1)
    out = {}
    for m in x:
        c = torch.einsum("bif,ij,bjg->bfg", x[m], w_j[m], joint).div(math.sqrt(joint.shape[-1])).tanh()
        h = (torch.einsum("ki,bif->bkf", w[m], x[m]) + torch.einsum("kg,bfg->bkf", w_c[m], c)).clamp_min(0)
        out[m] = torch.einsum("ik,bkf->bif", w_h[m], h) + x[m]
    return out


def one_sample(x, w_j, w, w_c, w_h, b):
    """The same for one window, with matrices and transposes as printed: X_a is L x d_a."""
    joint = torch.cat([v[b] for v in x.values()], dim=1)
    out = {}
    for m, v in x.items():
        c = torch.tanh(v[b].t().mm(w_j[m]).mm(joint) / joint.shape[1] ** 0.5)
        h = torch.relu(w[m].mm(v[b]) + w_c[m].mm(c.t()))
        out[m] = w_h[m].mm(h) + v[b]
    return out


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_block_equals_the_equations_elementwise(m):
    args = draw(m)
    got, want = joint_cross_attention(*args), by_indices(*args)
    for n in want:
        torch.testing.assert_close(got[n], want[n], atol=1e-12, rtol=0)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_block_equals_a_loop_over_windows(m):
    args = draw(m)
    got = joint_cross_attention(*args)
    for b in range(B):
        for n, want in one_sample(*args, b).items():
            torch.testing.assert_close(got[n][b], want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_a_zero_stream_is_inert(m):
    x, *weights = draw(m)
    dead = list(x)[1]
    x[dead] = torch.zeros_like(x[dead])
    full = joint_cross_attention(x, *weights)
    assert (full[dead] == 0).all()
    # and the others come out as if it had not been there, but for the scale sqrt(d) and the columns of W_c it had
    w_j, w, w_c, w_h = weights
    start = sum(v.shape[-1] for v in list(x.values())[:1])
    alive = {n: v for n, v in x.items() if n != dead}
    gap = slice(start, start + x[dead].shape[-1])
    cut = {n: torch.cat([w_c[n][:, : gap.start], w_c[n][:, gap.stop :]], 1) for n in alive}
    d, d_alive = sum(v.shape[-1] for v in x.values()), sum(v.shape[-1] for v in alive.values())
    scaled = {n: w_j[n] * math.sqrt(d_alive / d) for n in alive}
    rest = joint_cross_attention(alive, scaled, w, cut, w_h)
    for n in alive:
        torch.testing.assert_close(full[n], rest[n], atol=1e-12, rtol=0)


def head(tokens=16, **options):
    torch.manual_seed(0)
    streams = (StreamSpec("audio", "audio", 512), StreamSpec("visual", "visual", 768))
    return JCA(HeadInputs(streams, tokens), JCA.Config(**options)).eval()


def test_parameters_carry_the_paper_s_symbols_and_shapes():
    shapes = {k: tuple(v.shape) for k, v in head().state_dict().items()}
    for m, width in (("audio", 512), ("visual", 768)):
        assert shapes.pop(f"W_j.{m}") == (16, 16)
        assert shapes.pop(f"W.{m}") == (32, 16)
        assert shapes.pop(f"W_c.{m}") == (32, 256)
        assert shapes.pop(f"W_h.{m}") == (16, 32)
        assert shapes.pop(f"encoder.{m}.weight") == (128, width)
        assert shapes.pop(f"encoder.{m}.bias") == (128,)
    assert all(k.startswith("regressor.") for k in shapes)


@pytest.mark.parametrize("given", [8, 15, 17, 300])
def test_another_window_length_is_refused_with_both_numbers(given):
    x = {"audio": torch.zeros(2, given, 512), "visual": torch.zeros(2, given, 768)}
    mask = torch.ones(2, given, dtype=torch.bool)
    with pytest.raises(UsageError, match=f"windows of 16 tokens, got {given}"):
        head()(x, dict.fromkeys(x, mask), mask)


def test_head_is_the_block_between_encoders_and_regressor():
    model = head(tokens=4, width=8, k=3)
    x = {"audio": torch.randn(2, 4, 512), "visual": torch.randn(2, 4, 768)}
    mask = torch.ones(2, 4, dtype=torch.bool)
    encoded = {m: model.encoder[m](v) for m, v in x.items()}
    want = by_indices(encoded, model.W_j, model.W, model.W_c, model.W_h)
    want = model.regressor(torch.cat([want["audio"], want["visual"]], -1))
    torch.testing.assert_close(model(x, dict.fromkeys(x, mask), mask), want, atol=1e-6, rtol=1e-5)
