"""LSTM over the concatenated streams: the baseline of MuSe 2021 (Stappen et al.; public code).

    h_t = Linear([x_1; b_1; ...; x_M; b_M]), no bias
    r   = LSTM(h), one layer of 64, forward in time or (``both``) both ways
    y_t = Linear(ReLU(Linear(r_t)))                      64 to 64 to 2

Deviations: both dimensions by one model; presence bits b_m; the sequences are windows (MuSe's: 200 frames, hop 100,
batches of 256, Adam at 1e-4 without decay), also in validation, where overlaps are averaged. Its packed sequences are
kept: padding is never stepped over.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from cache.errors import UsageError
from fuse.feeding.batch import HeadInputs
from fuse.heads import HEADS
from fuse.heads._base import Head, OutputConfig, Protocol, visible
from fuse.heads._block import join
from fuse.heads._recurrent import Recurrent
from fuse.heads._regressor import regressor


@HEADS.register("lstm")
class LSTMHead(Head):
    """Concatenate, run an LSTM, regress."""

    @dataclass(frozen=True)
    class Config(OutputConfig):
        """width: of the LSTM (of both directions together) and of the layers beside it."""

        width: int = 64
        layers: int = 1
        both: bool = False
        dropout: float = 0.3

    protocol = Protocol(tokens=300, stride=1, hop=200, batch_size=16, lr=1e-4, weight_decay=1e-3, loss="ccc")

    def __init__(self, inputs: HeadInputs, cfg: Config) -> None:
        super().__init__(inputs, cfg)
        if cfg.both and cfg.width % 2:
            raise UsageError(f"width={cfg.width} of an LSTM in both directions must be even")
        self.project = nn.Linear(sum(inputs.dims.values()) + len(inputs.names), cfg.width, bias=False)
        self.lstm = Recurrent("lstm", cfg.width, cfg.width, layers=cfg.layers, dropout=cfg.dropout, both=cfg.both)
        self.regressor = regressor((cfg.width, cfg.width), cfg.dropout, cfg.output_space)

    def forward(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> Tensor:
        """x[m]: [B,L,D_m] -> f32[B,L,2]."""
        x, seen = visible(x, present, real)
        h = self.project(join(self.inputs.names, x, seen))  # [B,L,width]
        out: Tensor = self.regressor(self.lstm(h, real))  # [B,L,2]
        return out
