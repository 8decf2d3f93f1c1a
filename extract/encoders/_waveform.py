"""HuBERT's convolutions over a waveform of any length, in chunks, equal to one pass over the whole file.

The first convolution is followed by a GroupNorm over *time*, so its statistics belong to the whole file: naive chunks
change the features by 3-20 %. That convolution is linear and has one input channel; its outputs' mean and variance
follow exactly from the first two moments of its input windows (10 numbers and a 10 x 10 matrix, in float64), and the
normalisation folds into its weights. Chunks of rows then need no statistics of their own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from extract.blocks import SampleRows, Samples

if TYPE_CHECKING:
    import torch

CHUNK_ROWS = 500
MOMENT_CHUNK = 1 << 18


@dataclass(frozen=True)
class Geometry:
    """Rows of a stack of unpadded convolutions: row k sees samples ``[k*hop, k*hop + field)``."""

    hop: int
    field: int

    @classmethod
    def of(cls, kernels: Sequence[int], strides: Sequence[int]) -> "Geometry":
        """From the layers' kernels and strides; HuBERT's give hop 320, field 400."""
        hop = field = 1
        for kernel, stride in zip(kernels, strides, strict=True):
            field += (kernel - 1) * hop
            hop *= stride
        return cls(hop, field)

    def rows(self, samples: int) -> int:
        """Rows that fit into so many samples."""
        return max(0, (samples - self.field) // self.hop + 1)

    def spans(self, rows: int, rate: int, start: float) -> npt.NDArray[np.float64]:
        """f64[rows,2] in seconds."""
        first = np.arange(rows) * self.hop
        return start + np.stack([first, first + self.field], axis=1) / rate


class Normalized:
    """Sound with zero mean and unit variance over the whole file, as the feature extractor does (1e-7 in the root)."""

    def __init__(self, samples: SampleRows) -> None:
        self._samples = samples
        chunks = range(0, len(samples), MOMENT_CHUNK)
        mean = sum(samples[i : i + MOMENT_CHUNK].sum(dtype=np.float64) for i in chunks) / len(samples)
        var = sum(((samples[i : i + MOMENT_CHUNK] - mean) ** 2).sum() for i in chunks) / len(samples)
        self._mean, self._std = np.float32(mean), np.float32(np.sqrt(var + 1e-7))

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, some: slice) -> Samples:
        return (self._samples[some] - self._mean) / self._std


def moments(x: SampleRows, kernel: int, stride: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean f64[k] and covariance f64[k,k] of all windows ``x[t*stride : t*stride + k]``, added up in chunks."""
    count, mean, cov = (len(x) - kernel) // stride + 1, np.zeros(kernel), np.zeros((kernel, kernel))
    for frames in _frames(x, kernel, stride, count):
        mean += frames.sum(0, dtype=np.float64)
    mean /= count
    for frames in _frames(x, kernel, stride, count):
        centred = frames - mean  # (n, k) f64
        cov += centred.T @ centred
    return mean, cov / count


def _frames(x: SampleRows, kernel: int, stride: int, count: int) -> Iterator[Samples]:
    """The windows, some of them at a time: f32[n,k], views."""
    for i in range(0, count, MOMENT_CHUNK):
        stop = min(i + MOMENT_CHUNK, count)
        piece = x[i * stride : (stop - 1) * stride + kernel]
        yield np.lib.stride_tricks.sliding_window_view(piece, kernel)[::stride]


class FoldedFirst:
    """The first convolution, GroupNorm and activation with one file's statistics folded into the weights."""

    def __init__(self, layer: "torch.nn.Module") -> None:
        self.layer = layer
        self.weight = layer.conv.weight.detach().cpu().double().numpy()[:, 0]  # (C, k)
        self.stride = layer.conv.stride[0]
        self.gamma, self.beta = (p.detach().cpu().double().numpy() for p in layer.layer_norm.parameters())

    def fitted(self, x: SampleRows, device: "torch.device") -> tuple["torch.Tensor", "torch.Tensor"]:
        """Weight f32[C,1,k] and bias f32[C] for this file. A bias of the convolution cancels in the normalisation."""
        import torch

        mean, cov = moments(x, self.weight.shape[1], self.stride)
        var = np.einsum("cj,jk,ck->c", self.weight, cov, self.weight)
        scale = self.gamma / np.sqrt(np.maximum(var, 0) + self.layer.layer_norm.eps)
        folded = self.weight * scale[:, None], self.beta - (self.weight @ mean) * scale
        weight, bias = (torch.tensor(a, dtype=torch.float32, device=device) for a in folded)
        return weight[:, None], bias

    def run(self, x: "torch.Tensor", fit: tuple["torch.Tensor", "torch.Tensor"]) -> "torch.Tensor":
        """x: f32[1,1,S] -> f32[1,C,T]."""
        import torch

        return self.layer.activation(torch.nn.functional.conv1d(x, *fit, stride=self.stride))


def features(
    x: SampleRows,
    geometry: Geometry,
    layers: Sequence["torch.nn.Module"],
    first: FoldedFirst | None,
    device: "torch.device",
) -> Iterator["torch.Tensor"]:
    """Convolutional features of a file, ``CHUNK_ROWS`` rows at a time: f32[r,C].

    ``first`` stands for ``layers[0]`` where that has a GroupNorm.
    """
    import torch

    fit = first.fitted(x, device) if first else None
    rows, rest = geometry.rows(len(x)), layers[1:] if first else layers
    for s in range(0, rows, CHUNK_ROWS):
        e = min(s + CHUNK_ROWS, rows)
        piece = x[s * geometry.hop : (e - 1) * geometry.hop + geometry.field]
        h = torch.from_numpy(piece).to(device)[None, None]  # (1, 1, S)
        h = first.run(h, fit) if first else h
        for layer in rest:
            h = layer(h)  # (1, C, t)
        yield h[0].T.float()
