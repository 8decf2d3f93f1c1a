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
- the encoders' bias is removed again where a stream is absent, so that an absent stream stays inert.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cache.errors import UsageError
from fuse.batch import HeadInputs
from fuse.heads import HEADS
from fuse.heads._base import Head, Protocol, visible
from fuse.heads._block import Adapters, regressor


def joint_cross_attention(
    x: Mapping[str, Tensor],
    w_j: Mapping[str, Tensor],
    w: Mapping[str, Tensor],
    w_c: Mapping[str, Tensor],
    w_h: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """The three equations above. x[m]: [B,L,d_m], in the order in which J joins them. Returns X_att of same shapes."""
    joint = torch.cat(list(x.values()), dim=-1)  # J [B,L,d]
    attended = {}
    for m, x_m in x.items():
        c = torch.tanh(x_m.mT @ (w_j[m] @ joint) / math.sqrt(joint.shape[-1]))  # C_m [B,d_m,d]
        h = torch.relu(w[m] @ x_m + w_c[m] @ c.mT)  # H_m [B,k,d_m]
        attended[m] = w_h[m] @ h + x_m  # X_att,m [B,L,d_m]
    return attended


def _matrices(names: tuple[str, ...], rows: int, columns: int) -> nn.ParameterDict:
    """One rows x columns matrix per stream, initialised as a bias-free torch Linear is."""
    return nn.ParameterDict(
        {m: nn.Parameter(nn.init.kaiming_uniform_(torch.empty(rows, columns), a=math.sqrt(5))) for m in names}
    )


@HEADS.register("jca")
class JCA(Head):
    """Joint cross-attention over windows of exactly L tokens."""

    @dataclass(frozen=True)
    class Config(Head.Config):
        """width: d_m behind the encoders; k: attention maps per stream; hidden: width inside the regressor."""

        width: int = 128
        k: int = 32
        hidden: int = 128
        dropout: float = 0.6

    protocol = Protocol(tokens=16, stride=32, hop=16, batch_size=64, lr=1e-3, weight_decay=0.0, loss="ccc")
    fixed_length = True

    def __init__(self, inputs: HeadInputs, cfg: Config) -> None:
        super().__init__(inputs, cfg)
        names, tokens = inputs.names, inputs.tokens
        d = len(names) * cfg.width
        self.encoder = Adapters(inputs.dims, cfg.width)
        self.W_j = _matrices(names, tokens, tokens)
        self.W = _matrices(names, cfg.k, tokens)
        self.W_c = _matrices(names, cfg.k, d)
        self.W_h = _matrices(names, tokens, cfg.k)
        self.regressor = regressor((d, cfg.hidden, 2), cfg.dropout)

    def forward(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> Tensor:
        """x[m]: [B,L,D_m] -> f32[B,L,2]. Raises UsageError where L is not the L it was built for."""
        if real.shape[1] != self.inputs.tokens:
            raise UsageError(
                f"head 'jca' was built for windows of {self.inputs.tokens} tokens, got {real.shape[1]}",
                hint="its weights depend on the window length: pad to it, or train at the other length",
            )
        x, seen = visible(x, present, real)
        encoded = self.encoder(x, seen)  # {m: [B,L,width]}
        attended = joint_cross_attention(encoded, _plain(self.W_j), _plain(self.W), _plain(self.W_c), _plain(self.W_h))
        out: Tensor = self.regressor(torch.cat(list(attended.values()), dim=-1))  # [B,L,2]
        return out.float()


def _plain(matrices: nn.ParameterDict) -> dict[str, Tensor]:
    return dict(matrices.items())
