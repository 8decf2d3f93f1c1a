"""Late fusion: every stream has a regressor of its own, and their predictions are averaged.

    f_m(t) = Linear(Dropout(ReLU(Linear([x_m; b_m]))))          the ``unimodal`` head
    y_t    = mean of f_m(t) over the streams seen at t

As in MuSe 2021's late fusion of unimodal predictions, but for the second model on top of them: fitted on the
predictions of the partition that is reported it leaks, and out-of-fold predictions need several runs. The mean has
no weights, so nothing can leak.

``train = "apart"`` (default) keeps it late: at each training step one stream, drawn at random, answers wherever it is
seen, so that each f_m learns from its own errors only and not from what the others leave over. With M streams each gets
one step in M. ``train = "jointly"`` takes the loss of the mean instead, which makes an additive model.

Where nothing is seen the average runs over all f_m, whose presence bits b_m say so.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from fuse.feeding.batch import HeadInputs
from fuse.heads import HEADS
from fuse.heads._base import Head, OutputConfig, Protocol, visible
from fuse.heads._block import join
from fuse.heads._regressor import Regressor, regressor


@HEADS.register("late")
class Late(Head):
    """The mean of unimodal predictions."""

    @dataclass(frozen=True)
    class Config(OutputConfig):
        """hidden: width of each stream's hidden layer."""

        hidden: int = 128
        dropout: float = 0.3
        train: Literal["apart", "jointly"] = "apart"

    protocol = Protocol(tokens=300, stride=1, hop=200, batch_size=16, lr=1e-4, weight_decay=1e-3, loss="ccc")

    def __init__(self, inputs: HeadInputs, cfg: Config) -> None:
        super().__init__(inputs, cfg)
        self.of = nn.ModuleDict(
            {m: regressor((d + 1, cfg.hidden), cfg.dropout, cfg.output_space) for m, d in inputs.dims.items()}
        )

    def forward(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> Tensor:
        """x[m]: [B,L,D_m] -> f32[B,L,2]."""
        x, seen = visible(x, present, real)
        each = torch.stack([f(join((m,), x, seen)) for m, f in self.of.items()])  # [M,B,L,2]
        votes = torch.stack([seen[m] for m in self.of])  # [M,B,L]
        if self.training and self.cfg.train == "apart":
            drawn = int(torch.randint(len(self.of), ()))
            alone = torch.zeros_like(votes)
            alone[drawn] = votes[drawn]
            votes = torch.where(alone.any(dim=0), alone, votes)
        votes = votes | ~votes.any(dim=0)
        weights = votes.unsqueeze(-1).to(each.dtype)
        return (each * weights).sum(dim=0) / weights.sum(dim=0)

    def start_at(self, mean_va: Tensor) -> None:
        """Every stream's regressor starts at the training mean f32[2]."""
        for f in self.of.values():
            cast(Regressor, f).start_at(mean_va)
