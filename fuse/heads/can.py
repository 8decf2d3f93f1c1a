"""CAN, the attention fusion of the public code of Zhang et al. (ABAW3, 2022). No equation numbers: code only.

Per frame, for streams m = 1..M, each brought to ``width`` features:

    P_m = Linear_m(x_m);  P = [P_1; ...; P_M]
    a   = softmax of W P, taken over streams, feature by feature
    z   = [a_1 * P_1; ...; a_M * P_M]
    y   = tanh(Linear(LeakyReLU(BatchNorm(Linear(z)))))

Readings and deviations:
- the code takes the softmax over all M x width features, which scales z down by about that number until BatchNorm
  undoes it. Here each feature's weights over the streams sum to 1, so that a stream that is not seen drops out.
- one stream has nothing to be weighed against: a = 1, and there is no W.
- BatchNorm's statistics in training are those of real tokens alone; padding has no say.
- the hidden layer is as wide as P_m; both dimensions by one model.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fuse.feeding.batch import HeadInputs
from fuse.heads import HEADS
from fuse.heads._base import Head, OutputConfig, Protocol, visible
from fuse.heads._block import Adapters, masked_softmax
from fuse.heads._maps import ALL, AttentionMap
from fuse.heads._regressor import Regressor

MEANS = (
    "At each moment, how much of each stream passes: the mean over the features, each of which is weighed by itself."
)


@HEADS.register("can")
class CAN(Head):
    """Streams weighed against each other, feature by feature, frame by frame."""

    @dataclass(frozen=True)
    class Config(OutputConfig):
        """width: of each stream behind its Linear, and of the hidden layer."""

        width: int = 128
        dropout: float = 0.3

    protocol = Protocol(tokens=300, stride=1, hop=200, batch_size=16, lr=1e-4, weight_decay=1e-3, loss="ccc")

    def __init__(self, inputs: HeadInputs, cfg: Config) -> None:
        super().__init__(inputs, cfg)
        joint = len(inputs.names) * cfg.width
        self.project = Adapters(inputs.dims, cfg.width)
        self.W = nn.Linear(joint, joint) if len(inputs.names) > 1 else None
        self.hidden = nn.Linear(joint, cfg.width)
        self.norm = nn.BatchNorm1d(cfg.width)
        self.regressor = Regressor(
            nn.LeakyReLU(), nn.Dropout(cfg.dropout), nn.Linear(cfg.width, 2), space=cfg.output_space, bounded=True
        )

    def fuse(self, x: dict[str, Tensor], seen: dict[str, Tensor]) -> Tensor:
        """z: x[m]: [B,L,D_m], zero where not seen -> [B,L,M width]."""
        p = self.streams(x, seen)
        if self.W is not None:
            p = p * self.weights(self.W, p, seen)
        return p.flatten(2)

    def streams(self, x: dict[str, Tensor], seen: dict[str, Tensor]) -> Tensor:
        """P: x[m]: [B,L,D_m] -> [B,L,M,width]."""
        return torch.stack(list(self.project(x, seen).values()), dim=2)

    def weights(self, w: nn.Module, p: Tensor, seen: dict[str, Tensor]) -> Tensor:
        """a, of W and P of the equations; p: [B,L,M,width] -> the same shape."""
        there = torch.stack([seen[m] for m in self.inputs.names], dim=2).unsqueeze(-1)  # [B,L,M,1]
        return masked_softmax(w(p.flatten(2)).view_as(p), there, dim=2)

    def normalise(self, h: Tensor, real: Tensor) -> Tensor:
        """BatchNorm over real tokens. h: [B,L,width]."""
        norm = self.norm
        if self.training and int(real.sum()) > 1:  # one token has no spread
            rows = norm(h[real])
            return rows.new_zeros(h.shape).index_put((real,), rows)
        flat = functional.batch_norm(
            h.flatten(0, 1), norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
        return flat.view_as(h)

    def forward(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> Tensor:
        """x[m]: [B,L,D_m] -> f32[B,L,2]."""
        x, seen = visible(x, present, real)
        h = self.normalise(self.hidden(self.fuse(x, seen)), real)  # [B,L,width]
        out: Tensor = self.regressor(h)
        return out

    def attention_maps(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> list[AttentionMap]:
        """a, the mean over its features; one stream alone is not weighed."""
        if self.W is None:
            return []
        x, seen = visible(x, present, real)
        a = self.weights(self.W, self.streams(x, seen), seen).mean(dim=-1)  # [B,L,M]
        return [AttentionMap("weights of the streams", ALL, self.inputs.names, "streams", MEANS, a)]
