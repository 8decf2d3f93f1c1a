"""MAVEN: its paths, its additive attention within memory, its polar output."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cache.errors import UsageError
from cache.records import StreamSpec
from fuse.feeding.batch import HeadInputs
from fuse.heads._additive import additive_attention
from fuse.heads._regressor import polar_to_va, va_to_polar
from fuse.heads.maven import Maven, attend
from fuse.losses import LOSSES

B, T = 2, 7
DIMS = {"face": 6, "voice": 5, "words": 4}
MB = 2**20


def build(n=3, seed=0, **options):
    torch.manual_seed(seed)
    streams = tuple(StreamSpec(m, "visual", d) for m, d in list(DIMS.items())[:n])
    return Maven(HeadInputs(streams, T), Maven.Config(**{"d": 16, "d_proj": 24, "d_att": 8} | options)).eval()


def batch(n=3, tokens=T):
    g = torch.Generator().manual_seed(1)
    names = list(DIMS)[:n]
    x = {m: torch.randn(B, tokens, DIMS[m], generator=g) for m in names}
    present = {m: torch.rand(B, tokens, generator=g) > 0.3 for m in names}
    return x, present, torch.ones(B, tokens, dtype=torch.bool)


@pytest.mark.parametrize(("n", "paths", "projections"), [(3, 6, 9), (2, 2, 6), (1, 0, 0)])
def test_paths_and_projections_follow_the_number_of_streams(n, paths, projections):
    cross = build(n).cross
    assert len(cross.paths) == paths
    assert len(set(cross.paths)) == paths
    assert sum(len(table) for table in (cross.W_Q, cross.W_K, cross.W_V)) == projections


def test_dot_product_attention_equals_equation_13_over_the_keys():
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(B, T, 8, generator=g) for _ in range(3))
    keys = torch.rand(B, T, generator=g) > 0.4
    keys[1] = False
    got = attend(q, k, v, keys, heads=2)
    for h in (slice(0, 4), slice(4, 8)):
        z = q[0, :, h] @ k[0, keys[0], h].T / math.sqrt(4)
        torch.testing.assert_close(got[0, :, h], z.softmax(-1) @ v[0, keys[0], h], atol=1e-6, rtol=1e-5)
    assert (got[1] == 0).all()  # no key: zero, not NaN


def enhanced(head, x, seen, m):
    """F_enhanced of stream m for window 0, straight from the formula (R1: the query receives)."""
    cross, d = head.cross, head.cfg.d // head.cfg.heads
    total, terms = x[m][0].clone(), 1
    for n in x:
        keys = seen[n][0]
        if n == m or not keys.any():
            continue
        q, k, v = cross.W_Q[m](x[m][0]), cross.W_K[n](x[n][0][keys]), cross.W_V[n](x[n][0][keys])
        total += torch.cat(
            [
                (a @ b.T / math.sqrt(d)).softmax(-1) @ c
                for a, b, c in zip(q.split(d, 1), k.split(d, 1), v.split(d, 1), strict=True)
            ],
            1,
        )
        terms += 1
    return cross.norm[m](total / terms)


@pytest.mark.parametrize("gone", [None, "words"])
def test_cross_modal_average_counts_only_streams_that_are_there(gone):
    head = build()
    x, present, real = batch()
    if gone:
        present[gone] = torch.zeros_like(real)
    f = head.project(x, present)
    got = head.cross(f, present)
    for m in f:
        want = enhanced(head, f, present, m)
        torch.testing.assert_close(got[m][0][present[m][0]], want[present[m][0]], atol=1e-5, rtol=1e-5)
        assert (got[m][~present[m]] == 0).all()


def naive_additive(query, key, v, h, keys):
    d = torch.tanh(query[:, :, None] + key[:, None])
    scores = (d @ v).masked_fill(~keys[:, None], -1e9)
    return (scores.softmax(-1) * keys[:, None]) @ h


@pytest.mark.parametrize("size", [1, 200, 10**9])
def test_chunked_additive_attention_equals_the_naive_one(size):
    g = torch.Generator().manual_seed(0)
    shapes = ((B, T, 4), (B, T, 4), (4,), (B, T, 6))
    tensors = [torch.randn(*s, generator=g).requires_grad_() for s in shapes]
    keys = torch.rand(B, T, generator=g) > 0.3
    keys[1] = False
    pull = torch.randn(B, T, 6, generator=g)
    naive, chunked = naive_additive(*tensors, keys), additive_attention(*tensors, keys, size)
    torch.testing.assert_close(chunked, naive, atol=1e-5, rtol=0)
    want = torch.autograd.grad((naive * pull).sum(), tensors)
    for a, b in zip(torch.autograd.grad((chunked * pull).sum(), tensors), want, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    q, k, v, h = (t.detach() for t in tensors)
    e = torch.tensor([v @ torch.tanh(q[0, 2] + k[0, t]) for t in range(T) if keys[0, t]])  # Eq. 21-22 at t = 2
    torch.testing.assert_close(chunked[0, 2], e.softmax(0) @ h[0, keys[0]], atol=1e-5, rtol=1e-5)


MEASURE = """
import resource, torch
from cache.records import StreamSpec
from fuse.feeding.batch import HeadInputs
from fuse.heads.maven import Maven
dims = {"swin": 1024, "hubert": 768, "roberta": 768}
head = Maven(HeadInputs(tuple(StreamSpec(m, "visual", d) for m, d in dims.items()), 1500), Maven.Config())
def step(t):
    real = torch.ones(1, t, dtype=torch.bool)
    head({m: torch.randn(1, t, d) for m, d in dims.items()}, dict.fromkeys(dims, real), real).square().sum().backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step(1500)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
def test_a_step_over_1500_tokens_stays_below_one_gigabyte():
    root = Path(__file__).resolve().parents[2]
    env = os.environ | {"OMP_NUM_THREADS": "1"}  # a busy machine stalls threads, and memory is what is measured
    run = [sys.executable, "-c", MEASURE]
    done = subprocess.run(run, cwd=root, env=env, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1024 * MB


def test_pitfall_26_polar_output_is_the_cartesian_of_its_polar_numbers():
    polar, cartesian = build(), build(output_space="cartesian")
    cartesian.load_state_dict(polar.state_dict())
    intensity, theta = cartesian(*batch()).unbind(-1)
    want = torch.stack([intensity * theta.cos(), intensity * theta.sin()], -1)
    torch.testing.assert_close(polar(*batch()), want, atol=1e-6, rtol=0)


def test_pitfall_26_theta_plus_two_pi_changes_neither_output_nor_loss():
    head = build()
    before = head(*batch())
    with torch.no_grad():
        head.regressor[-1].bias[1] += 2 * math.pi
    after = head(*batch())
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    va, labelled = torch.rand(B, T, 2), torch.ones(B, T, dtype=torch.bool)
    for loss in LOSSES.values():
        torch.testing.assert_close(loss(after, va, labelled, "batch"), loss(before, va, labelled, "batch"))


@pytest.mark.parametrize("mean", [(0.24, 0.2), (-0.3, 0.1), (-0.2, -0.4), (0.0, -0.5), (0.0, 0.0)])
@pytest.mark.parametrize("space", ["polar", "cartesian"])
def test_a_head_starts_at_the_training_mean(space, mean):
    head = build(output_space=space)
    head.start_at(torch.tensor(mean))
    last = head.regressor[-1]
    there = polar_to_va(last.bias) if space == "polar" else last.bias
    torch.testing.assert_close(there.detach(), torch.tensor(mean), atol=1e-6, rtol=0)
    with torch.no_grad():
        last.weight.zero_()
    torch.testing.assert_close(head(*batch()), torch.tensor(mean).expand(B, T, 2), atol=1e-6, rtol=0)


def test_at_the_origin_both_dimensions_still_have_a_gradient():
    polar = va_to_polar(torch.zeros(2)).requires_grad_()
    for column in polar_to_va(polar):
        assert torch.autograd.grad(column, polar, retain_graph=True)[0].abs().max() > 0.5


@pytest.mark.parametrize("refiner", ["additive", "transformer", "none"])
@pytest.mark.parametrize("residual", [True, False])
def test_refiners_mix_time_and_reach_every_parameter(refiner, residual):
    head = build(refiner=refiner, refiner_residual=residual)
    x, present, real = batch()
    head(x, present, real).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 1e-10 for p in head.parameters())
    assert len(head.refiner) == (0 if refiner == "none" else 2)
    nothing = {m: torch.zeros_like(p) for m, p in present.items()}
    assert head(x, nothing, real).isfinite().all()


def test_the_two_refiners_run_one_after_the_other():
    head = build()
    x, present, real = batch()
    keys = torch.stack(list(present.values())).any(0)
    h = head.fuse(x := {m: v * present[m].unsqueeze(-1) for m, v in x.items()}, present) * keys.unsqueeze(-1)
    for layer in head.refiner:
        h = (h + naive_additive(layer.W_d(h), layer.W_d_prime(h), layer.v, h, keys)) * keys.unsqueeze(-1)
    want = head.regressor(h)
    torch.testing.assert_close(head(x, present, real), want, atol=1e-5, rtol=0)


def test_mean_pooling_gives_one_value_a_window():
    out = build(pool="mean")(*batch())
    assert out.shape == (B, T, 2)
    assert torch.equal(out, out[:, :1].expand_as(out))


def test_order_of_tokens_matters_only_with_positions():
    x, present, real = batch()
    present = dict.fromkeys(x, real)
    turned = {m: v.flip(1) for m, v in x.items()}
    for pos, same in (("none", True), ("sin", False)):
        head = build(pos=pos)
        gap = (head(turned, present, real).flip(1) - head(x, present, real)).abs().max()
        assert (gap < 1e-5) == same


def test_widths_must_fit_the_heads():
    with pytest.raises(UsageError, match="d=16 and d_proj=25 must be multiples of heads=2"):
        build(d_proj=25)


def test_additive_attention_gradients_equal_finite_differences():
    g = torch.Generator().manual_seed(2)
    tensors = [torch.randn(*s, generator=g, dtype=torch.float64).requires_grad_() for s in ((2, 3, 2), (2, 3, 2), (2,))]
    h = torch.randn(2, 3, 2, generator=g, dtype=torch.float64).requires_grad_()
    keys = torch.tensor([[True, False, True], [False, False, False]])
    assert torch.autograd.gradcheck(lambda *t: additive_attention(*t, keys, 1), (*tensors, h))
