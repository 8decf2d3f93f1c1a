"""Unimodal control: one stream, one hidden layer, per frame. No paper.

The floor that any fusion head has to beat, and the head of each remaining stream in the robustness tables.
It is the ``concat`` head given one stream, so that a difference between the two is a difference in streams.
"""

from dataclasses import dataclass

from torch import Tensor

from cache.errors import UsageError
from fuse.feeding.batch import HeadInputs
from fuse.heads import HEADS
from fuse.heads._base import Head, OutputConfig, Protocol, visible
from fuse.heads._block import join
from fuse.heads._regressor import regressor


@HEADS.register("unimodal")
class Unimodal(Head):
    """Linear-ReLU-Dropout-Linear over one stream and its presence bit."""

    @dataclass(frozen=True)
    class Config(OutputConfig):
        """hidden: width of the hidden layer."""

        hidden: int = 128
        dropout: float = 0.3

    protocol = Protocol(tokens=300, stride=1, hop=200, batch_size=16, lr=1e-4, weight_decay=1e-3, loss="ccc")
    single_stream = True

    def __init__(self, inputs: HeadInputs, cfg: Config) -> None:
        super().__init__(inputs, cfg)
        if len(inputs.names) != 1:
            raise UsageError(
                f"head 'unimodal' takes exactly 1 stream, got {len(inputs.names)}: {', '.join(inputs.names)}",
                hint="name one stream, or use --head concat",
            )
        self.regressor = regressor((inputs.streams[0].dim + 1, cfg.hidden), cfg.dropout, cfg.output_space)

    def forward(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> Tensor:
        """x[m]: [B,L,D] -> f32[B,L,2]."""
        x, seen = visible(x, present, real)
        out: Tensor = self.regressor(join(self.inputs.names, x, seen))  # [B,L,2]
        return out
