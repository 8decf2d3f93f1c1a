"""A corpus that lies on the device as a whole: a batch is one gather there, with the numbers of the memory maps."""

import logging
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cache.records import StreamSpec
from fuse.feeding.batch import Batch
from fuse.feeding.data import Corpus
from fuse.feeding.room import Room, as_tensor
from fuse.feeding.windows import Windows

log = logging.getLogger("affuse")
_SHARE = 0.5  # of the free memory of a GPU that features may take


@dataclass(frozen=True)
class Resident(Corpus):
    """All frames of all recordings, one after the other, N in all; of recording i they begin at ``start[i]``.

    values[stream]: [N,D] as stored; seen[stream]: bool[N]; moments[stream]: mean and std, f32[D]; va: f32[N,2];
    labelled: bool[N].
    """

    start: Tensor
    values: dict[str, Tensor]
    seen: dict[str, Tensor]
    moments: dict[str, tuple[Tensor, Tensor]]
    va: Tensor
    labelled: Tensor

    def batch(
        self, windows: Windows, rows: npt.NDArray[np.int64], device: torch.device, room: Room | None = None
    ) -> Batch:
        """Gather the windows of those rows on the device that holds the corpus; see Batch for shapes."""
        recording, frame = torch.from_numpy(windows.recording[rows]), torch.from_numpy(windows.frame[rows])
        here = frame.to(self.va.device)
        real = here >= 0
        at = (self.start[recording.to(self.va.device)].unsqueeze(1) + here).clamp(min=0)
        x, present = {}, {}
        for stream, (mean, std) in self.moments.items():
            present[stream] = self.seen[stream][at] & real
            gathered = gather(self.values[stream], at).float().sub_(mean).div_(std)
            x[stream] = gathered.masked_fill_(~present[stream].unsqueeze(-1), 0.0)
        labelled = self.labelled[at] & real
        va = self.va[at].masked_fill_(~real.unsqueeze(-1), 0.0)
        return Batch(x, present, real, labelled, va, recording, frame)

    def expect(self, windows: Windows, rows: npt.NDArray[np.int64]) -> None:
        """All is there."""

    def narrowed(self, streams: tuple[StreamSpec, ...]) -> "Resident":
        """With these streams alone, by name; their features stay where they are."""
        held = ("readers", "stats", "values", "seen", "moments")
        named: dict[str, Any] = {f: {s.name: getattr(self, f)[s.key] for s in streams} for f in held}
        return replace(self, **named)


def gather(values: Tensor, at: Tensor, out: Tensor | None = None) -> Tensor:
    """values [N,D], at i64[B,L]: their rows as [B,L,D]; into ``out`` [B*L,D], where that is given."""
    return torch.index_select(values, 0, at.reshape(-1), out=out).reshape(*at.shape, -1)


def resident(corpus: Corpus, device: torch.device) -> Resident:
    """The corpus on a device."""
    starts = np.concatenate([[0], np.cumsum(corpus.lengths)[:-1]]).astype(np.int64)
    values, seen = {}, {}
    for stream, reader in corpus.readers.items():
        parts = [reader.recording(r) for r in corpus.recordings]
        values[stream] = torch.cat([as_tensor(v).to(device) for v, _ in parts])
        seen[stream] = torch.cat([torch.from_numpy(p) for _, p in parts]).to(device)
    moments = {
        name: (torch.from_numpy(s.mean).to(device), torch.from_numpy(s.std).to(device))
        for name, s in corpus.stats.items()
    }
    va, labelled = np.zeros((sum(corpus.lengths), 2), np.float32), np.zeros(sum(corpus.lengths), bool)
    for start, length, name in zip(starts, corpus.lengths, corpus.recordings, strict=True):
        if name in corpus.labels:
            va[start : start + length] = corpus.labels[name].va[:length]
            labelled[start : start + length] = corpus.labels[name].labelled[:length]
    return Resident(
        **{f.name: getattr(corpus, f.name) for f in fields(Corpus)},
        start=torch.from_numpy(starts).to(device),
        values=values,
        seen=seen,
        moments=moments,
        va=torch.from_numpy(va).to(device),
        labelled=torch.from_numpy(labelled).to(device),
    )


def placed(corpus: Corpus, device: torch.device, wanted: bool | None) -> Corpus:
    """The corpus, resident where that is ``wanted``; by default (None) on a GPU whose free memory holds it well."""
    if wanted is None:
        wanted = device.type == "cuda" and _bytes(corpus) < _SHARE * torch.cuda.mem_get_info(device)[0]
    if not wanted:
        return corpus
    log.debug("%.2f GB of features lie on %s", _bytes(corpus) / 1e9, device)
    return resident(corpus, device)


def _bytes(corpus: Corpus) -> int:
    return sum(reader.recording(r)[0].nbytes for reader in corpus.readers.values() for r in corpus.recordings)
