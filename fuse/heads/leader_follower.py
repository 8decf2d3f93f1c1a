"""Leader-follower attention: Zhang et al., "Continuous Emotion Recognition with Audio-visual Leader-follower
Attentive Fusion", ICCV Workshops (ABAW2) 2021. Not the model of Schoneveld et al., 2021.

Per frame, one token a stream; attention is across streams at one time step, never across time:

    x_m = TCN_m(features of m)                                     c         causal, per stream
    q_m, k_m, v_m = Linear(x_m)                                    d_k       rows of Q, K, V, M x d_k
    S   = softmax(K Q^T / sqrt(d_k))                               M x M     over the second index
    F_m = LayerNorm_m((S V + V)_m)                                 d_k
    y   = Linear([x_leader; F_1; ...; F_M])                        2

The leader's own features bypass the attention; followers enter through F only. K plays the part that others call
query; the names are those of the paper's code.

Readings and deviations:
- the released code overwrites two streams by their K before Q and V are taken from them; its successor, and this
  head, take all three from x_m.
- streams not seen at a token are no column of S, and their F is zero.
- LayerNorm is taken over the d_k of each stream, not over [M, d_k]: there, a stream of zeros would rescale the
  others. Its weights are one set a stream, as in [M, d_k].
- any number of streams; the leader is the first visual stream unless ``leader`` names another. One stream alone has
  nobody to attend to: y = Linear(x_leader).
- one width for all TCNs; the successor (LFAN, 2022) gives audio fewer channels, adds BatchNorm to the TCN, two
  attention heads (``heads = 2``) with an output projection, and tanh. No BatchNorm, projection or tanh here.
- both dimensions by one model instead of one model each; backbones stay frozen, so that the learning rate is 1e-4
  and not 1e-5. The loss is 1 - CCC of each window, averaged, as in the code.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cache.errors import UsageError
from fuse.feeding.batch import HeadInputs
from fuse.heads import HEADS
from fuse.heads._base import Head, OutputConfig, Protocol, visible
from fuse.heads._block import keep, masked_softmax
from fuse.heads._maps import AttentionMap, calls, rows_of
from fuse.heads._regressor import Regressor
from fuse.heads._tcn import TCN

MEANS = "At each moment, on which streams one looks, its own among them. It never looks at another moment."


def leader_of(inputs: HeadInputs, wanted: str) -> str:
    """The stream that leads: the one wanted, else the first visual one, else the first. Raises UsageError."""
    if wanted and wanted not in inputs.names:
        raise UsageError(
            f"leader {wanted!r} is none of the streams {', '.join(inputs.names)}", hint="name one of them, or none"
        )
    visual = [s.name for s in inputs.streams if s.modality == "visual"]
    return wanted or (visual or list(inputs.names))[0]


class AcrossStreams(nn.Module):
    """S, F of the equations: attention over the streams of one time step."""

    def __init__(self, names: tuple[str, ...], width: int, d_k: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.ModuleDict({m: nn.Linear(width, d_k) for m in names})
        self.k = nn.ModuleDict({m: nn.Linear(width, d_k) for m in names})
        self.v = nn.ModuleDict({m: nn.Linear(width, d_k) for m in names})
        self.norm = nn.ModuleDict({m: nn.LayerNorm(d_k) for m in names})
        self.drop = nn.Dropout(dropout)

    def forward(self, x: dict[str, Tensor], seen: dict[str, Tensor]) -> Tensor:
        """x[m]: [B,L,c], seen[m]: bool[B,L] -> [B,L,M d_k], F of all streams, zero where one is not seen."""
        s, v = self.weights(x, seen)
        f = (self.drop(s) @ v.unflatten(-1, (self.heads, -1)).transpose(2, 3)).transpose(2, 3).flatten(3) + v
        return torch.cat([keep(norm(f[:, :, i]), seen[m]) for i, (m, norm) in enumerate(self.norm.items())], dim=-1)

    def weights(self, x: dict[str, Tensor], seen: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """S [B,L,h,M,M], and the V [B,L,M,d_k] that it is for. Shapes as for ``forward``."""
        q, k, v = (torch.stack([keep(w[m](x[m]), seen[m]) for m in w], dim=2) for w in (self.q, self.k, self.v))
        there = torch.stack([seen[m] for m in self.q], dim=-1)  # [B,L,M]
        q, k = (t.unflatten(-1, (self.heads, -1)).transpose(2, 3) for t in (q, k))  # [B,L,h,M,d_k/h]
        return masked_softmax(k @ q.mT / q.shape[-1] ** 0.5, there[:, :, None, None]), v


@HEADS.register("leader-follower")
class LeaderFollower(Head):
    """A TCN per stream, attention across streams, and the leader's own way around it."""

    @dataclass(frozen=True)
    class Config(OutputConfig):
        """width, levels, kernel: of each TCN. d_k: of the attention. leader: a stream; empty for the first visual."""

        width: int = 128
        levels: int = 4
        kernel: int = 5
        d_k: int = 32
        heads: int = 1
        dropout: float = 0.1
        leader: str = ""

    protocol = Protocol(
        tokens=300,
        stride=1,
        hop=200,
        batch_size=12,
        lr=1e-4,
        weight_decay=1e-3,
        loss="ccc",
        ccc_scope="window",
        optimiser="adam",
    )

    def __init__(self, inputs: HeadInputs, cfg: Config) -> None:
        super().__init__(inputs, cfg)
        if cfg.d_k % cfg.heads:
            raise UsageError(f"d_k={cfg.d_k} must be a multiple of heads={cfg.heads}")
        names, many = inputs.names, len(inputs.names) > 1
        self.leader = leader_of(inputs, cfg.leader)
        self.tcn = nn.ModuleDict(
            {
                m: TCN(d, [cfg.width] * cfg.levels, kernel=cfg.kernel, dropout=cfg.dropout)
                for m, d in inputs.dims.items()
            }
        )
        self.attention = AcrossStreams(names, cfg.width, cfg.d_k, cfg.heads, cfg.dropout) if many else None
        width = cfg.width + (len(names) * cfg.d_k if many else 0)
        self.regressor = Regressor(nn.Linear(width, 2), space=cfg.output_space)

    def forward(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> Tensor:
        """x[m]: [B,L,D_m] -> f32[B,L,2]."""
        x, seen = visible(x, present, real)
        x = {m: tcn(x[m], seen[m]) for m, tcn in self.tcn.items()}  # {m: [B,L,width]}
        parts = [x[self.leader]]
        if self.attention is not None:
            parts.append(self.attention(x, seen))
        out: Tensor = self.regressor(torch.cat(parts, dim=-1))  # [B,L,2]
        return out

    def attention_maps(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> list[AttentionMap]:
        """S of every stream; one stream alone has nobody to look at."""
        if self.attention is None:
            return []
        with calls(self.attention) as found:
            self(x, present, real)
        [(across, (x, seen))] = found
        s, names = across.weights(x, seen)[0].mean(dim=2), self.inputs.names  # [B,L,M,M]
        return [
            AttentionMap("attention across streams", m, names, "streams", MEANS, rows_of(s[:, :, i], seen[m]))
            for i, m in enumerate(names)
        ]
