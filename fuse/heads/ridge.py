"""Ridge control: the linear map that minimises, over the labelled training frames and in closed form,

    sum_t |y_t - W [x_1; ...; x_M]_t - b|^2 + alpha N |W|^2          N frames; b is not penalised

What a linear read-out of the frozen features is worth when no optimiser, epoch or seed plays any part.

It is solved by scikit-learn's Ridge, on the triangular factor of [1, X, Y] in place of its N rows: the factor has the
same normal equations, and is made block by block, so that a corpus larger than memory is no matter. Its first row
holds the means; the rest is the factor of the centred data, which is what leaves b without a penalty.

The labels themselves are regressed: there is no output space, no loss, no learning rate, and no temporal model before
it, since that would stay as it was drawn. A missing token is zero, after normalisation the training mean.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from sklearn import linear_model
from torch import Tensor, nn

from cache.errors import UsageError
from fuse.feeding.batch import Batch, HeadInputs
from fuse.heads import HEADS
from fuse.heads._base import ClosedForm, Head, Protocol, visible

Matrix = npt.NDArray[np.float64]


def triangular(blocks: Iterable[Matrix], width: int) -> Matrix:
    """R of the QR factorisation of all rows of the blocks, [<= width, width]. Rows are gathered to keep it quick."""
    waiting, rows = [np.zeros((0, width))], 0
    for block in blocks:
        waiting.append(block)
        rows += len(block)
        if rows > 4 * width:
            waiting, rows = [_r(waiting)], 0
    return _r(waiting)


def _r(rows: list[Matrix]) -> Matrix:
    return cast(Matrix, np.linalg.qr(np.concatenate(rows), mode="r"))


@HEADS.register("ridge")
class Ridge(ClosedForm):
    """One linear map, solved for."""

    @dataclass(frozen=True)
    class Config(Head.Config):
        """alpha: penalty a labelled frame; scikit-learn's alpha is this times their number."""

        alpha: float = 0.01

    protocol = Protocol(tokens=300, stride=1, hop=300, batch_size=16)

    def __init__(self, inputs: HeadInputs, cfg: Config) -> None:
        super().__init__(inputs, cfg)
        if not cfg.alpha >= 0:
            raise UsageError(f"alpha is {cfg.alpha}, wanted at least 0")
        self.linear = nn.Linear(sum(inputs.dims.values()), 2)

    def forward(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> Tensor:
        """x[m]: [B,L,D_m] -> f32[B,L,2]."""
        out: Tensor = self.linear(self._joined(x, present, real))
        return out.float()

    @torch.no_grad()
    def solve(self, batches: Iterable[Batch]) -> None:
        """Set W and b from the labelled tokens of the batches. Raises UsageError where there are fewer than two."""
        d = self.linear.in_features
        r = triangular(self._rows(batches), d + 3)
        if len(r) < 2:
            raise UsageError(f"ridge needs at least 2 labelled frames to train on, got {len(r)}")
        frames = float(r[0, 0] ** 2)
        model = linear_model.Ridge(self.cfg.alpha * frames, fit_intercept=False, solver="svd")
        weights = model.fit(r[1:, 1 : d + 1], r[1:, d + 1 :]).coef_  # [2,D]
        means = r[0, 1:] / r[0, 0]  # of x, then of y
        self.linear.weight.copy_(torch.from_numpy(weights))
        self.linear.bias.copy_(torch.from_numpy(means[d:] - weights @ means[:d]))

    def _joined(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> Tensor:
        x, _ = visible(x, present, real)
        return torch.cat([x[m] for m in self.inputs.names], dim=-1)  # [B,L,D]

    def _rows(self, batches: Iterable[Batch]) -> Iterator[Matrix]:
        """[n,1+D+2] a batch: 1, x and y of its labelled tokens."""
        for b in batches:
            x, va = self._joined(b.x, b.present, b.real)[b.labelled], b.va[b.labelled]
            yield torch.cat([x.new_ones(len(x), 1), x, va], dim=-1).cpu().double().numpy()
