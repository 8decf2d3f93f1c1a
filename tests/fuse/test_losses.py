"""Losses: masked, differentiable, finite where there is nothing to learn from."""

import numpy as np
import pytest
import torch

from cache.errors import UsageError
from fuse.losses import LOSSES
from fuse.numbers import metrics

NAMES = sorted(LOSSES)
SCOPES = ("batch", "window")


def batch(seed=0, b=3, n=20):
    g = torch.Generator().manual_seed(seed)
    va = torch.rand(b, n, 2, generator=g) * 2 - 1
    pred = va * 0.5 + torch.randn(b, n, 2, generator=g) * 0.2
    labelled = torch.rand(b, n, generator=g) > 0.3
    return pred.requires_grad_(), va, labelled


def graded(name, pred, va, labelled, scope):
    pred = pred.detach().clone().requires_grad_()
    value = LOSSES[name](pred, va, labelled, scope)
    (grad,) = torch.autograd.grad(value, pred)
    return value.detach(), grad


@pytest.mark.parametrize("scope", SCOPES)
def test_ccc_loss_equals_one_minus_the_metric(scope):
    pred, va, labelled = batch()
    value, _ = graded("ccc", pred, va, labelled, scope)
    p, t, m = pred.detach().numpy(), va.numpy(), labelled.numpy()
    if scope == "batch":
        want = 1 - metrics.ccc_va(p.reshape(-1, 2), t.reshape(-1, 2), m.ravel()).mean
    else:
        want = 1 - np.mean([metrics.ccc_va(p[i], t[i], m[i]).mean for i in range(len(p))])
    assert float(value) == pytest.approx(want, abs=1e-5)


def test_mse_and_the_sum_equal_their_definitions():
    pred, va, labelled = batch()
    mse, _ = graded("mse", pred, va, labelled, "batch")
    assert float(mse) == pytest.approx(float((pred.detach() - va)[labelled].square().mean()), abs=1e-6)
    ccc, _ = graded("ccc", pred, va, labelled, "batch")
    both, _ = graded("mse+ccc", pred, va, labelled, "batch")
    assert float(both) == pytest.approx(float(mse + 0.1 * ccc), abs=1e-6)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", NAMES)
def test_pitfall_22_the_loss_has_a_gradient_that_lowers_it(name, scope):
    pred, va, labelled = batch()
    value, grad = graded(name, pred, va, labelled, scope)
    assert grad[labelled].abs().min() > 0
    better, _ = graded(name, pred - 1e-2 * grad / grad.norm(), va, labelled, scope)
    assert better < value


def test_ccc_gradient_equals_finite_differences():
    pred, va, labelled = batch(b=2, n=5)
    for scope in SCOPES:
        assert torch.autograd.gradcheck(
            lambda p, s=scope: LOSSES["ccc"](p, va.double(), labelled, s), pred.detach().double().requires_grad_()
        )


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", NAMES)
def test_pitfall_20_unlabelled_tokens_never_enter_a_loss(name, scope):
    pred, va, labelled = batch()
    want, want_grad = graded(name, pred, va, labelled, scope)
    assert (want_grad[~labelled] == 0).all()
    for junk in (-5.0, float("nan"), float("inf"), 1e30):
        dirty_va = torch.where(labelled.unsqueeze(-1), va, junk)
        dirty_pred = torch.where(labelled.unsqueeze(-1), pred, junk)
        value, grad = graded(name, dirty_pred, dirty_va, labelled, scope)
        assert torch.equal(value, want)
        assert torch.equal(grad, want_grad)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_labelled_is_zero_loss_with_zero_gradient(name, scope):
    pred, va, labelled = batch()
    value, grad = graded(name, pred, va, torch.zeros_like(labelled), scope)
    assert value == 0
    assert (grad == 0).all()


@pytest.mark.parametrize("scope", SCOPES)
def test_one_labelled_token_has_no_ccc(scope):
    pred, va, labelled = batch(b=1)
    alone = torch.zeros_like(labelled)
    alone[0, 3] = True
    value, grad = graded("ccc", pred, va, alone, scope)
    assert value == 0
    assert (grad == 0).all()


def test_windows_without_labels_are_left_out_of_the_mean():
    pred, va, labelled = batch()
    labelled[1] = False
    for name in NAMES:
        value, _ = graded(name, pred, va, labelled, "window")
        kept, _ = graded(name, pred[[0, 2]], va[[0, 2]], labelled[[0, 2]], "window")
        assert value == pytest.approx(float(kept), abs=1e-6)


@pytest.mark.parametrize("scope", SCOPES)
def test_constant_prediction_and_target_stay_finite(scope):
    labelled = torch.ones(2, 9, dtype=torch.bool)
    constant = torch.full((2, 9, 2), 0.3)
    for pred, va in ((constant, constant), (constant, batch(b=2, n=9)[1]), (batch(b=2, n=9)[0], constant)):
        for name in NAMES:
            value, grad = graded(name, pred, va, labelled, scope)
            assert value.isfinite()
            assert grad.isfinite().all()


def test_half_precision_is_scored_in_float32_even_under_autocast():
    pred, va, labelled = batch()
    want, _ = graded("ccc", pred.detach().bfloat16().float(), va, labelled, "batch")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, _ = graded("ccc", pred.detach().bfloat16(), va, labelled, "batch")
    assert value.dtype == torch.float32
    assert value == want


def test_unknown_scope_names_the_legal_ones():
    pred, va, labelled = batch()
    with pytest.raises(UsageError, match=r"'video'.*batch, window"):
        LOSSES["ccc"](pred, va, labelled, "video")
