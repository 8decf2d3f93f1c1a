"""TCN over the concatenated streams: the temporal model of Zhang et al. (ABAW2, 2021) and of JCA's I3D-TCN, as a head.

    h = TCN([x_1; b_1; ...; x_M; b_M]);  y_t = Linear(h_t)          four blocks of 128, kernel 5, dilations 1, 2, 4, 8

Causal as published: a frame knows the 120 before it; ``causal = false`` looks 60 to either side instead.

Deviations: both codes have a TCN per stream and fuse afterwards (``--temporal`` with any head does that); this is the
control in which time is modelled and fusion is mere concatenation. Presence bits b_m are ours.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from fuse.feeding.batch import HeadInputs
from fuse.heads import HEADS
from fuse.heads._base import Head, OutputConfig, Protocol, visible
from fuse.heads._block import join, keep
from fuse.heads._regressor import Regressor
from fuse.heads._tcn import TCN


@HEADS.register("tcn")
class TCNHead(Head):
    """Concatenate, run a TCN, regress."""

    @dataclass(frozen=True)
    class Config(OutputConfig):
        """width: of each of ``levels`` blocks; kernel: taps of each convolution."""

        width: int = 128
        levels: int = 4
        kernel: int = 5
        causal: bool = True
        dropout: float = 0.1

    protocol = Protocol(tokens=300, stride=1, hop=200, batch_size=16, lr=1e-4, weight_decay=1e-3, loss="ccc")

    def __init__(self, inputs: HeadInputs, cfg: Config) -> None:
        super().__init__(inputs, cfg)
        d, widths = sum(inputs.dims.values()) + len(inputs.names), [cfg.width] * cfg.levels
        self.tcn = TCN(d, widths, kernel=cfg.kernel, dropout=cfg.dropout, causal=cfg.causal)
        self.regressor = Regressor(nn.Linear(cfg.width, 2), space=cfg.output_space)

    def forward(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> Tensor:
        """x[m]: [B,L,D_m] -> f32[B,L,2]."""
        x, seen = visible(x, present, real)
        out: Tensor = self.regressor(self.tcn(keep(join(self.inputs.names, x, seen), real), real))  # [B,L,2]
        return out
