"""Linear control: y_t = tanh(W [x_1; ...; x_M] + b), per frame, with nothing hidden.

The "22-parameter" baseline of HSEmotion (Savchenko, ABAW6 notebook): ten numbers a frame, one Dense(2, tanh), CCC
loss; on one stream of width D it has 2 D + 2 weights. A fusion head that does not beat it has not shown fusion.

With ``tanh = false`` it is also the joint last layer of the two-stream network of Kuhnke et al. (FG 2020), whose
512 + 512 features are regressed by one Linear.

Deviations: cached features of any width in place of ten scores; a missing token is zero, which after normalisation is
the training mean; 16 windows of 64 frames are one batch, as many frames as the notebook's 1024 drawn singly.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fuse.feeding.batch import HeadInputs
from fuse.heads import HEADS
from fuse.heads._base import Head, OutputConfig, Protocol, visible
from fuse.heads._regressor import Regressor


@HEADS.register("linear")
class LinearHead(Head):
    """One Linear over all streams."""

    @dataclass(frozen=True)
    class Config(OutputConfig):
        """tanh: bound the outputs, in Cartesian space."""

        tanh: bool = True

    protocol = Protocol(tokens=64, stride=1, hop=64, batch_size=16, lr=1e-3, weight_decay=1e-3, loss="ccc")

    def __init__(self, inputs: HeadInputs, cfg: Config) -> None:
        super().__init__(inputs, cfg)
        self.regressor = Regressor(nn.Linear(sum(inputs.dims.values()), 2), space=cfg.output_space, bounded=cfg.tanh)

    def forward(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> Tensor:
        """x[m]: [B,L,D_m] -> f32[B,L,2]."""
        x, _ = visible(x, present, real)
        out: Tensor = self.regressor(torch.cat([x[m] for m in self.inputs.names], dim=-1))  # [B,L,2]
        return out
