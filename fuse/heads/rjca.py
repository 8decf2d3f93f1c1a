"""Recursive joint cross-attention (RJCA): Praveen et al., "Recursive Joint Attention for Audio-Visual Fusion in
Regression Based Emotion Recognition", ICASSP 2023, and its form for three streams (RJCMA, CVPR Workshops 2024).

Each token is scaled to unit length; X_m^(0) = that, or what a BiLSTM over the stream makes of it. Then for r = 1..R

    J^(r)   = [X_1^(r-1), ..., X_M^(r-1)]                          L x d
    C_m     = tanh(X_m^(r-1)^T W_jm J^(r) / sqrt(d))               d_m x d
    H_m     = ReLU(W_m X_m^(r-1) + W_cm C_m^T)                     k x d_m
    X_m^(r) = W_hm H_m + X_m^(r-1)                                 L x d_m

with the same weights for every r; X^(R), concatenated, goes through a joint BiLSTM and is regressed per token.
BiLSTM of a stream: X_m <- unit(Linear([X_m; BiLSTM(X_m)])), two layers, learned initial states.

``block = "code"`` is what the released code has in place of the last three lines (a co-attention layer):

    J = W_q [X_1, ..., X_M] + b;  C_m = Dropout(tanh((W_key,m X_m)^T J / sqrt(d)))      W_key,m mixes time, L x L
    H_m = ReLU(tanh((W_val,m X_m) C_m));  X_m <- X_m + Dropout(ReLU(W_o,m H_m))

Readings and deviations:
- recursion shares its weights; the released code stacks separate layers: ``share_weights = false``, and ships two
  of its models with a depth of one. ReLU(tanh()) in its layer discards what is negative; kept, as released.
- the code for three streams computes W_q J and then goes on with the raw J, so that W_q never learns; not inherited.
- unseen tokens are zeroed again before every step, since W_h (and W_key's bias) makes numbers where nothing was.
- the audio-guided attention over 7x7 maps needs maps; cached embeddings are pooled. Left out.
- BiLSTMs run over the seen tokens only; the joint one over tokens at which any stream is seen.
- one regressor with ReLU between its layers gives both dimensions; frames 32 apart stand for clips, as in ``jca``.
- ``dca`` is the gate of dynamic cross-attention (ICME 2024) between X_m^(0) and X_m^(R).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cache.errors import UsageError
from fuse.feeding.batch import HeadInputs
from fuse.heads import HEADS
from fuse.heads._base import Head, OutputConfig, Protocol, visible
from fuse.heads._block import Adapters, keep
from fuse.heads._joint import (
    MEANS,
    DynamicGate,
    check_length,
    correlation_maps,
    joint_cross_attention,
    matrices,
    plain,
)
from fuse.heads._maps import ALL, AttentionMap, calls
from fuse.heads._recurrent import Recurrent
from fuse.heads._regressor import regressor

Streams = dict[str, Tensor]


def unit(x: Tensor) -> Tensor:
    """Each token scaled to length 1; eps is large enough not to blow up the gradient of a zero token."""
    return functional.normalize(x, dim=-1, eps=1e-6)


class PaperStep(nn.Module):
    """One recursion as in the papers."""

    def __init__(self, names: tuple[str, ...], width: int, tokens: int, k: int) -> None:
        super().__init__()
        self.W_j = matrices(names, tokens, tokens)
        self.W = matrices(names, k, tokens)
        self.W_c = matrices(names, k, len(names) * width)
        self.W_h = matrices(names, tokens, k)

    def forward(self, x: Streams) -> Streams:
        """x[m]: [B,L,d_m], zero where not seen -> the same shapes."""
        return joint_cross_attention(x, plain(self.W_j), plain(self.W), plain(self.W_c), plain(self.W_h))

    def attention_maps(self, stage: str, x: Streams) -> list[AttentionMap]:
        """C_m of every stream with each."""
        return correlation_maps(stage, x, plain(self.W_j))


class CodeStep(nn.Module):
    """The co-attention layer of the released code."""

    def __init__(self, names: tuple[str, ...], width: int, tokens: int, dropout: float) -> None:
        super().__init__()
        d = len(names) * width
        self.W_q = nn.Linear(d, d)
        self.W_key = nn.ModuleDict({m: nn.Linear(tokens, tokens) for m in names})
        self.W_val = nn.ModuleDict({m: nn.Linear(width, width) for m in names})
        self.W_o = nn.ModuleDict({m: nn.Linear(d, width) for m in names})
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Streams) -> Streams:
        """x[m]: [B,L,d_m], zero where not seen -> the same shapes."""
        joint = self.W_q(torch.cat(list(x.values()), dim=-1))  # J [B,L,d]
        out = {}
        for m, x_m in x.items():
            c = self._correlation(m, x_m, joint)
            h = torch.relu(torch.tanh(self.W_val[m](x_m) @ self.drop(c)))  # H_m [B,L,d]
            out[m] = x_m + self.drop(torch.relu(self.W_o[m](h)))  # [B,L,d_m]
        return out

    def attention_maps(self, stage: str, x: Streams) -> list[AttentionMap]:
        """C_m of every stream with J, whose features W_q has mixed: they belong to no stream."""
        joint = self.W_q(torch.cat(list(x.values()), dim=-1))
        return [AttentionMap(stage, m, (ALL,), "features", MEANS, self._correlation(m, v, joint)) for m, v in x.items()]

    def _correlation(self, m: str, x_m: Tensor, joint: Tensor) -> Tensor:
        return torch.tanh(self.W_key[m](x_m.mT) @ joint / math.sqrt(joint.shape[-1]))  # C_m [B,d_m,d]


class StreamLSTM(nn.Module):
    """unit(Linear([x; BiLSTM(x)])) of one stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = Recurrent("lstm", width, width, layers=2, dropout=0.1, both=True, learned_start=True)
        self.merge = nn.Linear(2 * width, width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x: [B,L,d], seen: bool[B,L] -> [B,L,d], zero where not seen."""
        return keep(unit(self.merge(torch.cat([x, self.lstm(x, seen)], dim=-1))), seen)


@HEADS.register("rjca")
class RJCA(Head):
    """Joint cross-attention applied to its own result, between BiLSTMs, over windows of exactly L tokens."""

    @dataclass(frozen=True)
    class Config(OutputConfig):
        """width: d_m behind the encoders; k: attention maps per stream; hidden: width inside the regressor.

        stream_lstm, joint_lstm: BiLSTMs before and after the recursion. dca: the gate at its end.
        """

        width: int = 128
        k: int = 32
        recursions: int = 2
        share_weights: bool = True
        block: Literal["paper", "code"] = "paper"
        stream_lstm: bool = True
        joint_lstm: bool = True
        hidden: int = 128
        dropout: float = 0.6
        dca: bool = False
        gate_temperature: float = 0.1

    protocol = Protocol(tokens=16, stride=32, hop=16, batch_size=64, lr=3e-4, weight_decay=1e-5, loss="ccc")
    fixed_length = True

    def __init__(self, inputs: HeadInputs, cfg: Config) -> None:
        super().__init__(inputs, cfg)
        if cfg.recursions < 1 or cfg.width % 2:
            raise UsageError(
                f"got recursions={cfg.recursions}, width={cfg.width}; wanted at least 1, and an even width"
            )
        names, d = inputs.names, len(inputs.names) * cfg.width
        self.encoder = Adapters(inputs.dims, cfg.width)
        self.lstm = nn.ModuleDict({m: StreamLSTM(cfg.width) for m in names} if cfg.stream_lstm else {})
        self.steps = nn.ModuleList(_step(inputs, cfg) for _ in range(1 if cfg.share_weights else cfg.recursions))
        self.gate = DynamicGate(names, cfg.width, cfg.gate_temperature) if cfg.dca else None
        self.joint = (
            Recurrent("lstm", d, d, layers=2, dropout=0.1, both=True, learned_start=True) if cfg.joint_lstm else None
        )
        self.regressor = regressor((d, cfg.hidden), cfg.dropout, cfg.output_space)

    def recurse(self, x: Streams, seen: Streams) -> Streams:
        """X^(R) from X^(0), both [B,L,d_m] a stream, X^(0) zero where not seen."""
        attended = x
        for r in range(self.cfg.recursions):
            attended = self.steps[r % len(self.steps)]({m: keep(v, seen[m]) for m, v in attended.items()})
        return attended

    def forward(self, x: Streams, present: Streams, real: Tensor) -> Tensor:
        """x[m]: [B,L,D_m] -> f32[B,L,2]. Raises UsageError where L is not the L it was built for."""
        check_length("rjca", self.inputs.tokens, real.shape[1])
        x, seen = visible(x, present, real)
        first = {m: unit(v) for m, v in self.encoder(x, seen).items()}  # {m: [B,L,width]}
        first |= {m: lstm(first[m], seen[m]) for m, lstm in self.lstm.items()}
        attended = self.recurse(first, seen)
        if self.gate is not None:
            attended = self.gate(first, attended, seen)
        joint = torch.cat(list(attended.values()), dim=-1)  # [B,L,d]
        if self.joint is not None:
            joint = unit(self.joint(joint, torch.stack(list(seen.values())).any(dim=0)))
        out: Tensor = self.regressor(joint)  # [B,L,2]
        return out

    def attention_maps(self, x: Streams, present: Streams, real: Tensor) -> list[AttentionMap]:
        """C_m of every stream, at every recursion, and the gate where there is one."""
        with calls(*self.steps) as found, calls(*([] if self.gate is None else [self.gate])) as gated:
            self(x, present, real)
        made = []
        for r, (step, (given,)) in enumerate(found):
            made += step.attention_maps(f"joint correlation, recursion {r + 1}", given)
        return made + [one for gate, given in gated for one in gate.attention_maps(*given)]


def _step(inputs: HeadInputs, cfg: RJCA.Config) -> nn.Module:
    if cfg.block == "code":
        return CodeStep(inputs.names, cfg.width, inputs.tokens, cfg.dropout)
    return PaperStep(inputs.names, cfg.width, inputs.tokens, cfg.k)
