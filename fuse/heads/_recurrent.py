"""LSTM and GRU over the seen tokens of each window, as if the others were not there.

Seen tokens are moved together, run through as packed sequences, and put back; unseen ones come out as zero. Padding
at either end, and gaps, thus change nothing: the state after a gap is the state before it, also backwards in time.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fuse.heads._block import keep

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU}


class Recurrent(nn.Module):
    """layers of one kind of cell. both: also backwards in time, each direction half of ``width``.

    learned_start: initial states are parameters (Xavier), as in RJA; else zero.
    """

    def __init__(
        self,
        cell: str,
        d: int,
        width: int,
        *,
        layers: int = 1,
        dropout: float = 0.0,
        both: bool = False,
        learned_start: bool = False,
    ) -> None:
        super().__init__()
        hidden = width // 2 if both else width
        between = dropout if layers > 1 else 0.0  # torch's is between layers
        self.rnn = CELLS[cell](d, hidden, layers, batch_first=True, dropout=between, bidirectional=both)
        states = (2 if cell == "lstm" else 1) if learned_start else 0
        self.start = nn.ParameterList(
            nn.init.xavier_uniform_(torch.empty(layers * (1 + both), hidden)) for _ in range(states)
        )

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x: [B,L,D], seen: bool[B,L] -> [B,L,width], zero where not seen."""
        order = (~seen).int().argsort(dim=1, stable=True)  # [B,L], the seen tokens first, in time's order
        together = x.gather(1, order.unsqueeze(-1).expand_as(x))
        lengths = seen.sum(dim=1).clamp_min(1).cpu()
        packed = pack_padded_sequence(together, lengths, batch_first=True, enforce_sorted=False)
        out, _ = pad_packed_sequence(self._run(packed, len(x)), batch_first=True, total_length=x.shape[1])
        back = order.argsort(dim=1).unsqueeze(-1).expand_as(out)
        return keep(out.gather(1, back), seen)

    def _run(self, packed: nn.utils.rnn.PackedSequence, windows: int) -> nn.utils.rnn.PackedSequence:
        start = [
            s.unsqueeze(1).expand(-1, windows, -1).contiguous() for s in self.start
        ]  # (layers*directions,B,hidden)
        if not start:
            return self.rnn(packed)[0]
        return self.rnn(packed, tuple(start) if len(start) == 2 else start[0])[0]
