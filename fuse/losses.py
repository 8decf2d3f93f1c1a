"""Differentiable losses on (valence, arousal), masked by ``labelled``. ``LOSSES[name]`` is the table.

Every loss is ``loss(pred[B,L,2], va[B,L,2], labelled[B,L], scope)`` and a scalar of at least float32, computed
outside autocast. ``scope``: ``batch`` pools all labelled tokens of the batch; ``window`` takes each window on its
own and averages, which is degenerate where a window's labels are constant (its CCC is 0, without gradient).
What is stored where a token is not labelled reaches neither the value nor the gradient.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from cache.errors import UsageError

Scope = Literal["batch", "window"]
Loss = Callable[[Tensor, Tensor, Tensor, Scope], Tensor]
EPS = 1e-8
CCC_WEIGHT = 0.1  # of the CCC term in "mse+ccc": MAVEN's code, where that term reached no weight


def _grouped(pred: Tensor, va: Tensor, labelled: Tensor, scope: Scope) -> tuple[Tensor, Tensor, Tensor]:
    """Groups to score, unlabelled tokens zeroed: pred, va [G,N,2]; labelled as weights [G,N,1]."""
    if scope not in get_args(Scope):
        raise UsageError(f"unknown scope {scope!r} of a loss; there are: {', '.join(get_args(Scope))}")
    dtype = torch.promote_types(pred.dtype, torch.float32)
    seen = labelled.unsqueeze(-1)
    pred, va = (torch.where(seen, t.to(dtype), 0.0) for t in (pred, va))
    if scope == "batch":
        pred, va, seen = (t.reshape(1, -1, t.shape[-1]) for t in (pred, va, seen))
    return pred, va, seen.to(dtype)


def _mean_of_groups(value: Tensor, used: Tensor) -> Tensor:
    """Mean over the groups in use and both dimensions; 0 with zero gradient where none is. [G,2], bool[G,1]."""
    kept = torch.where(used, value, 0.0)
    return kept.sum() / (used.sum() * value.shape[-1]).clamp_min(1)


def mse(pred: Tensor, va: Tensor, labelled: Tensor, scope: Scope = "batch") -> Tensor:
    """Mean squared error over labelled tokens and both dimensions."""
    with torch.autocast(pred.device.type, enabled=False):
        p, t, w = _grouped(pred, va, labelled, scope)
        n = w.sum(dim=1)  # [G,1]
        return _mean_of_groups((p - t).square().sum(dim=1) / n.clamp_min(1), n > 0)


def ccc(pred: Tensor, va: Tensor, labelled: Tensor, scope: Scope = "batch") -> Tensor:
    """1 - CCC, averaged over both dimensions. Groups with fewer than two labelled tokens are left out."""
    with torch.autocast(pred.device.type, enabled=False):
        p, t, w = _grouped(pred, va, labelled, scope)
        n = w.sum(dim=1, keepdim=True)  # [G,1,1]
        safe = n.clamp_min(1)
        mean_p, mean_t = p.sum(dim=1, keepdim=True) / safe, t.sum(dim=1, keepdim=True) / safe  # [G,1,2]
        dp, dt = (p - mean_p) * w, (t - mean_t) * w  # [G,N,2]
        cov, var_p, var_t = ((a * b).sum(dim=1) / safe[:, 0] for a, b in ((dp, dt), (dp, dp), (dt, dt)))  # [G,2]
        concord = 2 * cov / (var_p + var_t + (mean_p - mean_t)[:, 0].square() + EPS)
        return _mean_of_groups(1 - concord, n[:, 0] >= 2)


def mse_ccc(pred: Tensor, va: Tensor, labelled: Tensor, scope: Scope = "batch") -> Tensor:
    """``mse`` + 0.1 ``ccc``."""
    return mse(pred, va, labelled, scope) + CCC_WEIGHT * ccc(pred, va, labelled, scope)


LOSSES: dict[str, Loss] = {"ccc": ccc, "mse": mse, "mse+ccc": mse_ccc}
