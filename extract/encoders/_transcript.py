"""What the encoders of text share: a transcript as one text, read in windows of tokens, a row a unit.

The units (words or cues) are joined by spaces and tokenized together; a unit's row is the mean of its tokens' hidden
states. Texts beyond ``context_tokens`` are read in overlapping windows (``_windows``). All windows of a text have one
length, so nothing is ever padded and no mask is needed.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cache.errors import UsageError
from cache.records import Modality, Track
from extract.blocks import TimedText
from extract.encoders._layers import LayeredEncoder
from extract.encoders._precision import Precision, computing
from extract.encoders._tokens import tokenize
from extract.encoders._windows import Window, windows

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TextConfig:
    """layer: hidden state after that transformer layer, -1 the last; layers: several of them side by side.

    Windows are counted in tokens, without the special ones.
    """

    weights: str = "hub"
    precision: Precision = "float32"
    batch_size: int = 8
    layer: int = -1
    context_tokens: int = 510
    stride_tokens: int = 255
    layers: tuple[int, ...] = ()


class TextEncoder(LayeredEncoder[list[TimedText]]):
    """All units of a transcript in, one row for each that has a token; its span is the unit's own, never invented.

    A subclass builds ``net``, an encoder model of transformers, and sets ``tokenizer`` on the way.
    """

    modality: Modality = "text"
    library = "transformers"

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        if not 0 < cfg.stride_tokens <= cfg.context_tokens:
            raise UsageError(
                f"{self.published.name} windows of {cfg.context_tokens} tokens every {cfg.stride_tokens} leave gaps",
                hint="set stride_tokens to 1 up to context_tokens",
            )
        self.tokenizer: Any = None
        self._depths: list[int] = []
        self._last = 0  # layers that the network has; deeper ones are dropped

    @abstractmethod
    def closing(self) -> tuple[list[int], list[int]]:
        """Ids of the special tokens before and behind a window."""

    def prepare(self) -> None:
        """Drop the layers above the deepest that is wanted. Raises UsageError where windows are too long."""
        most = _longest(self.net) - sum(len(ids) for ids in self.closing())
        if self.cfg.context_tokens > most:
            told = f"{self.published.name} was given context_tokens = {self.cfg.context_tokens}"
            raise UsageError(
                f"{told}, these weights take {most}",
                hint=f"set context_tokens to {most} or less, and stride_tokens to no more",
            )
        self._last = self.net.config.num_hidden_layers
        self._depths = self.depths(self._last)
        encoder = getattr(self.net, "encoder", None)
        inside = [name for name, _ in encoder.named_children()] if encoder is not None else []
        if inside == ["layer"] and not hasattr(self.net, "LayerNorm"):  # a norm at the end would close a cut stack, too
            self._last = max(self._depths)
            encoder.layer = encoder.layer[: self._last]

    def push(self, block: list[TimedText]) -> Track:
        """U units in time order -> one row for each unit with a token."""
        units = [u for u in block if u.text.strip()]
        spans = np.array([(u.start, u.end) for u in units], np.float64).reshape(-1, 2)
        tokens = tokenize(self.tokenizer, [u.text.strip() for u in units])
        sums = np.zeros((len(units), len(self._depths) * self.net.config.hidden_size))
        inside = tokens.unit >= 0
        np.add.at(sums, tokens.unit[inside], self._hidden(tokens.ids)[inside])
        counts = np.bincount(tokens.unit[inside], minlength=len(units))
        said = counts > 0
        return Track(spans[said], (sums[said] / counts[said, None]).astype(np.float32))

    def _hidden(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Token ids i64[N] -> hidden states f32[N,K*D], each from the window in which the token is most central."""
        import torch

        before, behind = self.closing()
        hidden = np.empty((len(ids), len(self._depths) * self.net.config.hidden_size), np.float32)

        def states(some: Sequence[Window]) -> npt.NDArray[np.float32]:
            closed = [[*before, *ids[w.start : w.stop], *behind] for w in some]
            x = torch.tensor(np.array(closed), device=self.device)  # (b, W + specials), one length
            return self._states(x).float().cpu().numpy()

        cut = windows(len(ids), self.cfg.context_tokens, self.cfg.stride_tokens)
        with computing(self.cfg.precision, self.device):
            for some, h in self.fitting.each(cut, states):
                for w, rows in zip(some, h[:, len(before) :], strict=True):  # (b, W + behind, K * D)
                    hidden[w.first : w.last] = rows[w.first - w.start : w.last - w.start]
        return hidden

    def _states(self, ids: "torch.Tensor") -> "torch.Tensor":
        """Token ids [b,L] -> hidden states [b,L,K*D]."""
        import torch

        inner = any(n != self._last for n in self._depths)
        out = self.net(input_ids=ids, output_hidden_states=inner)
        return torch.cat([_state(out, n, self._last) for n in self._depths], dim=-1)


def _state(out: Any, n: int, last: int) -> "torch.Tensor":
    return out.last_hidden_state if n == last else out.hidden_states[n]


def _longest(net: "torch.nn.Module") -> int:
    """Positions that a model has; in RoBERTa's family they start behind the padding's."""
    embedding = getattr(getattr(net, "embeddings", None), "position_embeddings", None)
    padding = getattr(embedding, "padding_idx", None)
    return net.config.max_position_embeddings - (0 if padding is None else padding + 1)
