"""MAVEN: Ahire et al., "MAVEN: Multi-modal Attention for Valence-Arousal Emotion Network", CVPR Workshops 2025.

Per window of T tokens, for streams m, each brought to one width d:

    (13)    A_m<-n = softmax(Q_m K_n^T / sqrt(d_k)) V_n           every ordered pair: 6 paths for 3 streams, 2, 0
            F_m    = LayerNorm_m((X_m + sum over n of A_m<-n) / (1 + |S_m|))
    (15-18) F_m   <- LayerNorm(MultiHead(F_m, F_m, F_m) + F_m)
    (19-20) h      = Linear([F_1; ...; F_M])
    (21-24) d_tt'  = tanh(W_d h_t + W'_d h_t' + b);  a = softmax over t' of v^T d_tt';  l_t = sum of a h_t'
    (25)    the encoder of (21-24) twice, one after the other
    (26)    mean over T, on request
    (27-29) three fully connected layers, ReLU, dropout, to (I, theta)
    (30-31) valence = I cos(theta), arousal = I sin(theta)

Readings where the paper is silent or contradicts itself:
- the querying stream receives the result (the code and the abstract; the dimensions of Eq. 14 say the opposite).
- one Q, K and V projection per stream, nine for three streams; bias-free, since a key's bias cancels in softmax.
- F_enhanced is never defined; (X + sum) / (1 + |S_m|) is the code's, with 3 made |S_m| + 1. S_m holds the other
  streams with at least one present token in that window; a stream absent throughout is no path and not counted.
- an absent token of a stream is never a key and stays zero; a token without any stream is no key of (21-24).
- the paper gives no residual around (21-24): ``refiner_residual``, on by default. No BEiT weights are used.
- valence and arousal are computed before the loss (Eq. 32), so theta has no seam. I is not bounded.
- one prediction a token, as the code; the paper has one a segment: ``pool = "mean"``, repeated for every token.
- no positional encoding, as the paper; ``pos = "sin"`` adds one.
- the paper states AdamW 1e-2 and Adam 1e-3 as weight decays; the first is the default here.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cache.errors import UsageError
from fuse.feeding.batch import HeadInputs
from fuse.heads import HEADS
from fuse.heads._additive import AdditiveAttention
from fuse.heads._attention import SelfAttention, TransformerLayer, attend, attention_weights, sinusoids
from fuse.heads._base import Head, OutputConfig, Protocol, visible
from fuse.heads._block import Adapters, keep
from fuse.heads._maps import ALL, AttentionMap, calls, rows_of
from fuse.heads._regressor import OutputSpace, regressor

CROSS = "What one stream takes from another: of each of its moments (rows), on which moments of the other (columns)."
OWN = "Each stream by itself, after that: of each of its moments (rows), on which other moments of its own (columns)."
JOINED = "All streams as one: of each moment (rows), on which moments of the window (columns)."


class CrossModal(nn.Module):
    """Eq. 13 over all ordered pairs of streams, and the average that makes F_enhanced."""

    def __init__(self, names: tuple[str, ...], d: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.paths = [(m, n) for m in names for n in names if m != n]  # m receives from n
        asked = names if self.paths else ()
        self.W_Q = nn.ModuleDict({m: nn.Linear(d, d, bias=False) for m in asked})
        self.W_K = nn.ModuleDict({m: nn.Linear(d, d, bias=False) for m in asked})
        self.W_V = nn.ModuleDict({m: nn.Linear(d, d, bias=False) for m in asked})
        self.norm = nn.ModuleDict({m: nn.LayerNorm(d) for m in names})
        self.drop = nn.Dropout(dropout)

    def forward(self, x: dict[str, Tensor], seen: dict[str, Tensor]) -> dict[str, Tensor]:
        """x[m]: [B,T,d], zero where not seen -> F_enhanced of the same shapes."""
        q, k, v = ({m: w(x[m]) for m, w in table.items()} for table in (self.W_Q, self.W_K, self.W_V))
        total = dict(x)
        terms = {m: torch.ones_like(s[:, 0], dtype=x[m].dtype) for m, s in seen.items()}  # [B]: 1 + |S_m|
        for m, n in self.paths:
            total[m] = total[m] + attend(q[m], k[n], v[n], seen[n], self.heads)
            terms[m] = terms[m] + seen[n].any(dim=-1)
        mean = {m: total[m] / terms[m][:, None, None] for m in x}
        return {m: keep(self.norm[m](self.drop(mean[m])), seen[m]) for m in x}

    def weights(self, x: dict[str, Tensor], seen: dict[str, Tensor]) -> dict[tuple[str, str], Tensor]:
        """Of each path (m, n), of each token of m on each of n, mean over the attention heads: [B,T,T]."""
        q, k = ({m: w(x[m]) for m, w in table.items()} for table in (self.W_Q, self.W_K))
        weights = {(m, n): attention_weights(q[m], k[n], seen[n], self.heads) for m, n in self.paths}
        return {(m, n): rows_of(w.mean(dim=1), seen[m]) for (m, n), w in weights.items()}


class Refine(nn.Module):
    """Eq. 15-18 for one stream."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.attention = SelfAttention(d, heads)
        self.norm = nn.LayerNorm(d)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x: [B,T,d], seen: bool[B,T] -> [B,T,d], zero where not seen."""
        return keep(self.norm(self.attention(x, seen) + x), seen)


@HEADS.register("maven")
class Maven(Head):
    """Cross-modal attention, self-attention, additive attention, polar regression."""

    @dataclass(frozen=True)
    class Config(OutputConfig):
        """d: width of fusion; d_proj: width behind Eq. 20 (the regressor is d_proj, 2/3, 1/3 of it, 2)."""

        d: int = 512
        heads: int = 2
        d_proj: int = 768
        d_att: int = 64
        dropout: float = 0.2
        refiner: Literal["additive", "transformer", "none"] = "additive"
        refiner_residual: bool = True
        output_space: OutputSpace = "polar"
        pool: Literal["none", "mean"] = "none"
        pos: Literal["none", "sin"] = "none"

    protocol = Protocol(tokens=300, stride=1, hop=200, batch_size=16, lr=1e-4, weight_decay=1e-2, loss="mse")

    def __init__(self, inputs: HeadInputs, cfg: Config) -> None:
        super().__init__(inputs, cfg)
        if cfg.d % cfg.heads or cfg.d_proj % cfg.heads:
            raise UsageError(f"d={cfg.d} and d_proj={cfg.d_proj} must be multiples of heads={cfg.heads}")
        names = inputs.names
        self.project = Adapters(inputs.dims, cfg.d)
        self.cross = CrossModal(names, cfg.d, cfg.heads, cfg.dropout)
        self.refine = nn.ModuleDict({m: Refine(cfg.d, cfg.heads) for m in names})
        self.merge = nn.Linear(len(names) * cfg.d, cfg.d_proj)
        self.refiner = nn.ModuleList(_refiner(cfg) for _ in range(0 if cfg.refiner == "none" else 2))
        self.regressor = regressor((cfg.d_proj, cfg.d_proj * 2 // 3, cfg.d_proj // 3), cfg.dropout, cfg.output_space)

    def fuse(self, x: dict[str, Tensor], seen: dict[str, Tensor]) -> Tensor:
        """Eq. 13-20: x[m]: [B,T,D_m] -> [B,T,d_proj]."""
        f = self.project(x, seen)  # {m: [B,T,d]}
        if self.cfg.pos == "sin":
            f = {m: keep(v + sinusoids(v.shape[1], self.cfg.d, v), seen[m]) for m, v in f.items()}
        f = self.cross(f, seen)  # {m: [B,T,d]}
        f = {m: self.refine[m](v, seen[m]) for m, v in f.items()}  # {m: [B,T,d]}
        h: Tensor = self.merge(torch.cat(list(f.values()), dim=-1))
        return h

    def forward(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> Tensor:
        """x[m]: [B,T,D_m] -> f32[B,T,2]."""
        x, seen = visible({m: x[m] for m in self.inputs.names}, present, real)
        keys = torch.stack(list(seen.values())).any(dim=0)  # [B,T], some stream is seen
        h = keep(self.fuse(x, seen), keys)  # [B,T,d_proj]
        for layer in self.refiner:
            h = keep(layer(h, keys), keys)
        if self.cfg.pool == "mean":
            h = h.sum(dim=1, keepdim=True) / keys.sum(dim=1).clamp_min(1)[:, None, None]  # [B,1,d_proj]
        out: Tensor = self.regressor(h)
        return out.expand(-1, real.shape[1], -1)  # [B,T,2]

    def attention_maps(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> list[AttentionMap]:
        """Eq. 13 of every path, Eq. 15 of every stream, and the refiner's layers over the joined streams."""
        inner = [r.attention for r in self.refine.values()]
        last = [getattr(layer, "attention", layer) for layer in self.refiner]
        with calls(self.cross, *inner, *last) as found:
            self(x, present, real)
        (_, given), *others = found
        made = [AttentionMap("cross-attention", m, (n,), "time", CROSS, w)
                for (m, n), w in self.cross.weights(*given).items()]  # fmt: skip
        names = [(m, "self-attention", OWN) for m in self.inputs.names]
        names += [(ALL, f"refiner, layer {i + 1}", JOINED) for i in range(len(last))]
        for (m, stage, means), (module, given) in zip(names, others, strict=True):
            made.append(AttentionMap(stage, m, (m,), "time", means, module.weights(*given)))
        return made


def _refiner(cfg: Maven.Config) -> nn.Module:
    if cfg.refiner == "additive":
        return AdditiveAttention(cfg.d_proj, cfg.d_att, cfg.refiner_residual)
    return TransformerLayer(cfg.d_proj, cfg.heads, cfg.dropout)
