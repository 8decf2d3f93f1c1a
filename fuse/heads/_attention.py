"""Dot-product attention over the seen tokens of a window, and the transformer layer made of it."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from fuse.heads._block import keep


def attend(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, heads: int, causal: bool = False) -> Tensor:
    """Multi-head dot-product attention over the keys, 0 for a query that has none; causal: over none behind itself.

    q, k, v: [B,T,d]; keys: bool[B,T] -> [B,T,d].
    """
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))  # [B,h,T,d/h]
    mask = keys[:, None]  # [B,1,T], the same for every query
    if causal:
        mask = mask & torch.ones_like(mask[0]).expand(keys.shape[1], -1).tril()  # [B,T,T]
    some = mask.any(dim=-1)  # [B,1] or [B,T]
    # a query without keys attends to everything, then is zeroed: finite forward and backward
    mask = (mask | ~some.unsqueeze(-1)).unsqueeze(1)  # [B,1,1,T] or [B,1,T,T]
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return keep(out.transpose(1, 2).flatten(2), some)  # [B,T,d]


class SelfAttention(nn.Module):
    """MultiHead(x, x, x)."""

    def __init__(self, d: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """x: [B,T,d], keys: bool[B,T] -> [B,T,d]."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        out: Tensor = self.out(attend(q, k, v, keys, self.heads, self.causal))
        return out


class TransformerLayer(nn.Module):
    """Pre-LN encoder layer."""

    def __init__(self, d: int, heads: int, dropout: float, causal: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d)
        self.attention = SelfAttention(d, heads, causal)
        self.feed = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        self.drop = nn.Dropout(dropout)

    def forward(self, h: Tensor, keys: Tensor) -> Tensor:
        """h: [B,T,d], keys: bool[B,T] -> [B,T,d]."""
        h = h + self.drop(self.attention(self.norm(h), keys))
        out: Tensor = h + self.drop(self.feed(h))
        return out


def sinusoids(tokens: int, d: int, like: Tensor) -> Tensor:
    """Sine and cosine of the token index at d/2 frequencies: [T,d]."""
    half = (d + 1) // 2
    rate = torch.exp(torch.arange(half, device=like.device) * (-math.log(10_000.0) / half))
    angle = torch.arange(tokens, device=like.device).unsqueeze(-1) * rate  # [T,d/2]
    return torch.cat([angle.sin(), angle.cos()], dim=-1)[:, :d].to(like.dtype)
