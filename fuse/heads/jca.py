"""Joint cross-attention (JCA): Praveen et al., "A Joint Cross-Attention Model for Audio-Visual Fusion in
Dimensional Emotion Recognition", CVPR Workshops 2022.

With X_m time-major (L x d_m), J = [X_1, ..., X_M] (L x d), d = sum of d_m, for every stream m:

    C_m = tanh(X_m^T W_jm J / sqrt(d))         d_m x d     feature by joint-feature correlation
    H_m = ReLU(W_m X_m + W_cm C_m^T)           k x d_m     attention maps
    X_att,m = W_hm H_m + X_m                   L x d_m     attended features

and the attended features, concatenated, are regressed per token. Parameters carry the paper's symbols, keyed by
stream (``W_j.audio``); shapes are W_j: L x L, W: k x L, W_c: k x d, W_h: L x k, none with a bias.

What follows from the equations: there is no softmax; the weights depend on L, so a head built for one L refuses
another; a stream that is zero throughout is inert. A stream absent at only some tokens is not: W_h mixes time.

Deviations:
- audio and visual become any set of streams; the equations hold for every M unchanged.
- tokens are frame embeddings 32 frames apart in place of the paper's clips of 32 frames, same L and positions.
- ReLU between the two regressor layers: the released code has none, which makes its regressor one linear map.
- both dimensions are regressed jointly by one model; the released code trains one model a dimension.
- ``dca`` puts the gate of dynamic cross-attention (Praveen et al., ICME 2024) behind the last equation:
  X_m' = ReLU(g_0 X_m + g_1 X_att,m), g = softmax(W_gm X_att,m / 0.1); where a window has nothing of any other
  stream, g_0 = 1. ReLU discards what is negative, as in the released code.
- the encoders' bias is removed again where a stream is absent, so that an absent stream stays inert.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fuse.feeding.batch import HeadInputs
from fuse.heads import HEADS
from fuse.heads._base import Head, OutputConfig, Protocol, visible
from fuse.heads._block import Adapters
from fuse.heads._joint import (
    DynamicGate,
    check_length,
    correlation_maps,
    joint_cross_attention,
    matrices,
    plain,
)
from fuse.heads._maps import AttentionMap, calls
from fuse.heads._regressor import regressor


@HEADS.register("jca")
class JCA(Head):
    """Joint cross-attention over windows of exactly L tokens."""

    @dataclass(frozen=True)
    class Config(OutputConfig):
        """width: d_m behind the encoders; k: attention maps per stream; hidden: width inside the regressor.

        dca: the gate of dynamic cross-attention between X_m and X_att,m.
        """

        width: int = 128
        k: int = 32
        hidden: int = 128
        dropout: float = 0.6
        dca: bool = False
        gate_temperature: float = 0.1

    protocol = Protocol(
        tokens=16, stride=32, hop=16, batch_size=64, lr=1e-3, weight_decay=0.0, loss="ccc", optimiser="adam"
    )
    fixed_length = True

    def __init__(self, inputs: HeadInputs, cfg: Config) -> None:
        super().__init__(inputs, cfg)
        names, tokens = inputs.names, inputs.tokens
        d = len(names) * cfg.width
        self.encoder = Adapters(inputs.dims, cfg.width)
        self.W_j = matrices(names, tokens, tokens)
        self.W = matrices(names, cfg.k, tokens)
        self.W_c = matrices(names, cfg.k, d)
        self.W_h = matrices(names, tokens, cfg.k)
        self.gate = DynamicGate(names, cfg.width, cfg.gate_temperature) if cfg.dca else None
        self.regressor = regressor((d, cfg.hidden), cfg.dropout, cfg.output_space)

    def forward(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> Tensor:
        """x[m]: [B,L,D_m] -> f32[B,L,2]. Raises UsageError where L is not the L it was built for."""
        check_length("jca", self.inputs.tokens, real.shape[1])
        x, seen = visible(x, present, real)
        encoded = self.encoder(x, seen)  # {m: [B,L,width]}
        attended = joint_cross_attention(encoded, plain(self.W_j), plain(self.W), plain(self.W_c), plain(self.W_h))
        if self.gate is not None:
            attended = self.gate(encoded, attended, seen)
        out: Tensor = self.regressor(torch.cat(list(attended.values()), dim=-1))  # [B,L,2]
        return out

    def attention_maps(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> list[AttentionMap]:
        """C_m of every stream, which is as near to weights as the equations come, and the gate where there is one."""
        with calls(*([] if self.gate is None else [self.gate])) as gated:
            self(x, present, real)
        x, seen = visible(x, present, real)
        made = correlation_maps("joint correlation", self.encoder(x, seen), plain(self.W_j))
        return made + [one for gate, given in gated for one in gate.attention_maps(*given)]
