"""Additive attention over time with linear memory, as in Eq. 21-24 of MAVEN.

    d_tt' = tanh(W_d h_t + W'_d h_t' + b);  a = softmax over t' of v^T d_tt';  l_t = sum of a h_t'

Written plainly, d_tt' is a [B,T,T,a] tensor: 6.6 GB at T = 1500. Here it is made a chunk of queries at a time in one
buffer, and made again in the backward pass instead of being kept.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fuse.heads._block import masked_softmax
from fuse.heads._maps import rows_of

CHUNK = 2**22  # numbers in one [B,t,T,a] block: 16 MB


def _tanh_blocks(query: Tensor, key: Tensor, rows: int) -> Iterator[tuple[slice, Tensor]]:
    """Eq. 21, d_tt' [B,t,T,a], for ``rows`` queries at a time, all in one buffer: read it before the next one.

    One buffer and not one a block, because fresh blocks of this size cost more than the arithmetic.
    """
    (b, t, a), keys = query.shape, key.shape[1]
    buffer = query.new_empty(b * min(rows, t) * keys * a)
    for start in range(0, t, rows):
        q = query[:, start : start + rows]
        d = buffer[: q.numel() * keys].view(b, q.shape[1], keys, a)
        yield slice(start, start + rows), torch.add(q.unsqueeze(2), key.unsqueeze(1), out=d).tanh_()


def _weights(query: Tensor, key: Tensor, v: Tensor, keys: Tensor, rows: int) -> Tensor:
    """a of Eq. 22, softmax over t': [B,T,T]."""
    scores = query.new_empty(*query.shape[:2], key.shape[1])  # [B,T,T]
    for at, d in _tanh_blocks(query, key, rows):
        scores[:, at] = d @ v
    return masked_softmax(scores, keys.unsqueeze(1))


class _Additive(torch.autograd.Function):
    """Eq. 21-24 a chunk of queries at a time; d_tt' is made again in the backward pass instead of being kept."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, v: Tensor, h: Tensor, keys: Tensor, rows: int) -> Tensor:
        weights = _weights(query, key, v, keys, rows)
        ctx.save_for_backward(query, key, v, h, weights)
        ctx.rows = rows
        return weights @ h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, v, h, weights = ctx.saved_tensors
        slope = grad @ h.mT  # [B,T,T], by weight
        e = weights * (slope - (weights * slope).sum(dim=-1, keepdim=True))  # by score; 0 where no key
        g_query, g_key, g_v = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(v)
        for at, d in _tanh_blocks(query, key, ctx.rows):
            g_v += e[:, at].flatten() @ d.flatten(0, 2)
            d.square_().neg_().add_(1).mul_(e[:, at].unsqueeze(-1))  # (1 - d^2) e: through tanh
            g_query[:, at] = d.sum(dim=2) * v
            g_key += d.sum(dim=1) * v
        return g_query, g_key, g_v, weights.mT @ grad, None, None


def additive_attention(query: Tensor, key: Tensor, v: Tensor, h: Tensor, keys: Tensor, size: int = CHUNK) -> Tensor:
    """Eq. 21-24 in float32. query, key: [B,T,a], v: [a], h: [B,T,d], keys: bool[B,T] -> [B,T,d].

    The [B,T,T,a] tensor never exists whole: at most about ``size`` of its numbers at a time.
    """
    rows = _rows(key, size)
    with torch.autocast(h.device.type, enabled=False):
        q, k, w, values = (t if t.dtype == torch.float64 else t.float() for t in (query, key, v, h))
        out: Tensor = _Additive.apply(q, k, w, values, keys, rows)
    return out


def _rows(key: Tensor, size: int) -> int:
    """Queries at a time, so that a block holds about ``size`` numbers."""
    return max(1, size // max(1, key.numel()))


class AdditiveAttention(nn.Module):
    """One encoder of Eq. 21-24."""

    def __init__(self, d: int, d_att: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.W_d = nn.Linear(d, d_att)  # its bias is b
        self.W_d_prime = nn.Linear(d, d_att, bias=False)
        self.v = nn.Parameter(torch.empty(d_att).uniform_(-1, 1) / math.sqrt(d_att))

    def forward(self, h: Tensor, keys: Tensor) -> Tensor:
        """h: [B,T,d], keys: bool[B,T] -> [B,T,d]."""
        out = additive_attention(self.W_d(h), self.W_d_prime(h), self.v, h, keys)
        return h + out if self.residual else out

    def weights(self, h: Tensor, keys: Tensor) -> Tensor:
        """Of each token on each; a token that is no key has none. [B,T,T]."""
        with torch.no_grad():  # blocks are written in place
            key = self.W_d_prime(h)
            return rows_of(_weights(self.W_d(h), key, self.v, keys, _rows(key, CHUNK)), keys)
