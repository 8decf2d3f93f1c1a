"""Cross-attention (CA): Praveen, Granger and Cardinal, "Cross Attentional Audio-Visual Fusion for Dimensional
Emotion Recognition", FG 2021.

With X_m time-major (K x d_m), each token scaled to unit length:

    Z_mn     = X_m W_mn X_n^T                           K x K      one W per unordered pair of streams
    A_m|n    = softmax of Z_mn / temperature over m's own index
    X~_m|n   = A_m|n^T X_m                              K x d_m
    X_att,m  = tanh(X_m + mean over n of X~_m|n)

then concatenation and fully connected layers. It mixes each stream's own tokens, weighted by cross-modal
correlation; values never cross from one stream to another. That is what sets it apart from a QKV block.

Readings and deviations:
- M streams: the mean runs over the partners seen at that token; one stream alone correlates with itself (W_mm).
- W_mn is d_m x d_n as in the paper, so unequal widths need no adapter.
- the head works on the tokens it is given (8 tokens 16 frames apart by default, the paper's 8 sub-sequences of
  16 frames). The paper predicts one value a window: ``pool = "max"``. Default is one value a token.
- the transposes are those of the equations: the released code applies them wrongly unless K equals d.
- tanh after the residual and concatenation follow the paper; the released code sums the streams.
- RECOLA's annotation delay belongs to the labels, not here.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cache.errors import UsageError
from fuse.feeding.batch import HeadInputs
from fuse.heads import HEADS
from fuse.heads._base import Head, OutputConfig, Protocol, visible
from fuse.heads._block import keep, masked_softmax
from fuse.heads._maps import AttentionMap, rows_of
from fuse.heads._regressor import Regressor

MEANS = (
    "What one stream picks out of another: at each of its moments (rows), which moments of the other (columns). "
    "The result joins the stream that was picked from: nothing crosses over."
)


def reweigh(x: Tensor, z: Tensor, seen: Tensor, partner: Tensor) -> Tensor:
    """X~ = A^T X, zero where the partner is not seen.

    x: [B,K,d], z: [B,K,K] with x's tokens on axis 1 and the partner's on axis 2; seen, partner: bool[B,K].
    """
    a = correlation_weights(z, seen)
    return keep(a.mT @ x, partner)


def correlation_weights(z: Tensor, seen: Tensor) -> Tensor:
    """A: [B,K,K], softmax over x's own seen tokens, axis 1. Shapes as for ``reweigh``."""
    return masked_softmax(z, seen.unsqueeze(-1), dim=1)


def unit(x: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every token scaled to length 1."""
    # eps is above torch's 1e-12 so that an all-zero token does not multiply its gradient by 1e12
    return {m: functional.normalize(v, dim=-1, eps=1e-6) for m, v in x.items()}


def max_over_tokens(x: Tensor, seen: Tensor) -> Tensor:
    """Largest value of each feature over the seen tokens, repeated for every token; 0 where none is seen."""
    top = x.masked_fill(~seen.unsqueeze(-1), -torch.inf).amax(dim=1, keepdim=True)  # [B,1,d]
    top = top.masked_fill(~seen.any(dim=1)[:, None, None], 0.0)
    return top.expand_as(x)


@HEADS.register("cross-attention")
class CrossAttention(Head):
    """Pairwise cross-attention over the tokens of a window."""

    @dataclass(frozen=True)
    class Config(OutputConfig):
        """pool: ``max`` gives one value a window; hidden: first width of the regressor, halved for the second."""

        temperature: float = 1.0
        pool: Literal["none", "max"] = "none"
        hidden: int = 512
        dropout: float = 0.5

    protocol = Protocol(
        tokens=8, stride=16, hop=8, batch_size=16, lr=1e-4, weight_decay=0.0, loss="ccc", optimiser="adam"
    )

    def __init__(self, inputs: HeadInputs, cfg: Config) -> None:
        super().__init__(inputs, cfg)
        if cfg.temperature <= 0:
            raise UsageError(f"temperature must be above 0, got {cfg.temperature}")
        dims = inputs.dims
        self.pairs = list(itertools.combinations(inputs.names, 2)) or [(inputs.names[0], inputs.names[0])]
        self.W = nn.ParameterDict(
            {f"{m}|{n}": nn.init.xavier_normal_(torch.empty(dims[m], dims[n])) for m, n in self.pairs}
        )
        self.regressor = Regressor(
            nn.Dropout(cfg.dropout),
            nn.Linear(sum(dims.values()), cfg.hidden),
            nn.Tanh(),
            nn.Linear(cfg.hidden, cfg.hidden // 2),
            nn.Tanh(),
            nn.Linear(cfg.hidden // 2, 2),
            space=cfg.output_space,
            bounded=True,
        )

    def correlations(self, x: dict[str, Tensor]) -> Iterator[tuple[str, str, Tensor]]:
        """(m, n, Z_mn / temperature [B,K,K]) of every ordered pair; of one stream alone, of it with itself."""
        for m, n in self.pairs:
            z = x[m] @ self.W[f"{m}|{n}"] @ x[n].mT / self.cfg.temperature  # [B,K,K]
            yield m, n, z
            if m != n:
                yield n, m, z.mT

    def attend(self, x: dict[str, Tensor], seen: dict[str, Tensor]) -> dict[str, Tensor]:
        """X_att of every stream, zero where the stream is not seen. x[m]: [B,K,d_m], zero where not seen."""
        x = unit(x)
        total = {m: torch.zeros_like(v) for m, v in x.items()}
        partners = {m: torch.zeros_like(s, dtype=v.dtype) for (m, s), v in zip(seen.items(), x.values(), strict=True)}
        for own, other, z in self.correlations(x):
            total[own] = total[own] + reweigh(x[own], z, seen[own], seen[other])
            partners[own] = partners[own] + seen[other]
        mean = {m: total[m] / partners[m].clamp_min(1).unsqueeze(-1) for m in x}
        return {m: keep(torch.tanh(x[m] + mean[m]), seen[m]) for m in x}

    def forward(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> Tensor:
        """x[m]: [B,K,D_m] -> f32[B,K,2]."""
        x, seen = visible({m: x[m] for m in self.inputs.names}, present, real)
        attended = self.attend(x, seen)  # {m: [B,K,D_m]}
        if self.cfg.pool == "max":
            attended = {m: max_over_tokens(v, seen[m]) for m, v in attended.items()}
        out: Tensor = self.regressor(torch.cat(list(attended.values()), dim=-1))  # [B,K,2]
        return out

    def attention_maps(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> list[AttentionMap]:
        """A_m|n^T: at each token of n, the weights on m's own tokens; what they pick joins m."""
        x, seen = visible({m: x[m] for m in self.inputs.names}, present, real)
        weights = {
            (n, m): rows_of(correlation_weights(z, seen[m]).mT, seen[n]) for m, n, z in self.correlations(unit(x))
        }
        order = [(n, m) for n in self.inputs.names for m in self.inputs.names if (n, m) in weights]
        return [AttentionMap("cross-attention", n, (m,), "time", MEANS, weights[n, m]) for n, m in order]
