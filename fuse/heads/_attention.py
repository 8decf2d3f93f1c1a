"""Dot-product attention over the seen tokens of a window, and the transformer layer made of it."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from fuse.heads._block import keep
from fuse.heads._maps import rows_of


def attend(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, heads: int, causal: bool = False) -> Tensor:
    """Multi-head dot-product attention over the keys, 0 for a query that has none; causal: over none behind itself.

    q, k, v: [B,T,d]; keys: bool[B,T] -> [B,T,d].
    """
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))  # [B,h,T,d/h]
    mask, some = _mask(keys, causal)
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return keep(out.transpose(1, 2).flatten(2), some)  # [B,T,d]


def attention_weights(q: Tensor, k: Tensor, keys: Tensor, heads: int, causal: bool = False) -> Tensor:
    """The weights by which ``attend`` sums values, of each attention head: [B,h,T,T], 0 for what is no key."""
    q, k = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k))  # [B,h,T,d/h]
    mask, some = _mask(keys, causal)
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~mask, -math.inf)
    return scores.softmax(dim=-1).masked_fill(~some[:, None, :, None], 0.0)


def _mask(keys: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """Which keys a query may look at, bool[B,1,1,T] or bool[B,1,T,T], and which queries have any, [B,1] or [B,T]."""
    mask = keys[:, None]  # [B,1,T], the same for every query
    if causal:
        mask = mask & torch.ones_like(mask[0]).expand(keys.shape[1], -1).tril()  # [B,T,T]
    some = mask.any(dim=-1)
    # a query without keys attends to everything, then is zeroed: finite forward and backward
    return (mask | ~some.unsqueeze(-1)).unsqueeze(1), some


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

    def weights(self, x: Tensor, keys: Tensor) -> Tensor:
        """Of each token on each, mean over the attention heads; a token that is no key has none. [B,T,T]."""
        q, k, _ = self.qkv(x).chunk(3, dim=-1)
        return rows_of(attention_weights(q, k, keys, self.heads, self.causal).mean(dim=1), keys)


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
