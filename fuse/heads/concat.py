"""Feature concatenation, the ablation row "Feature Concatenation" of Praveen et al., CVPRW 2022 (slides).

y_t = Linear(Dropout(ReLU(Linear([x_1; b_1; ...; x_M; b_M]))))

Deviations: the slides do not describe the layers, so one hidden layer of 128 is our choice; the presence bits
b_m (1 where the stream is present) are ours too, because a missing token is zero-filled.
"""

from dataclasses import dataclass

from torch import Tensor

from fuse.feeding.batch import HeadInputs
from fuse.heads import HEADS
from fuse.heads._base import Head, OutputConfig, Protocol, visible
from fuse.heads._block import join
from fuse.heads._regressor import regressor


@HEADS.register("concat")
class Concat(Head):
    """Linear-ReLU-Dropout-Linear over all streams and their presence bits."""

    @dataclass(frozen=True)
    class Config(OutputConfig):
        """hidden: width of the hidden layer."""

        hidden: int = 128
        dropout: float = 0.3

    protocol = Protocol(tokens=300, stride=1, hop=200, batch_size=16, lr=1e-4, weight_decay=1e-3, loss="ccc")

    def __init__(self, inputs: HeadInputs, cfg: Config) -> None:
        super().__init__(inputs, cfg)
        width = sum(inputs.dims.values()) + len(inputs.names)
        self.regressor = regressor((width, cfg.hidden), cfg.dropout, cfg.output_space)

    def forward(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> Tensor:
        """x[m]: [B,L,D_m] -> f32[B,L,2]."""
        x, seen = visible(x, present, real)
        out: Tensor = self.regressor(join(self.inputs.names, x, seen))  # [B,L,2]
        return out
