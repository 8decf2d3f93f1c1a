"""What the encoders of clips share: a row for every video frame, computed from the frames around it.

A clip has ``clip`` frames, ``stride`` apart. ``causal`` ends it at its frame, so that nothing is seen ahead of time;
``centred`` puts ``clip // 2`` of its frames before. Beyond the first and the last frame of a recording that frame is
repeated, so even one frame gives a row. Frames count as neighbours in their order of arrival: where crops are
missing, a clip goes across the gap. Each frame is prepared once, and only those still needed are kept; rows wait
until their last frame is seen.

``every = n`` computes one clip for n frames (causal: at the first of them, centred: at their middle). Its row holds
for the n frames, once for each stretch of them without a gap, so that no row covers a frame that was not there.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cache.errors import UsageError
from cache.records import Modality, Track
from extract.blocks import FrameBlock
from extract.encoders._frozen import FrozenEncoder
from extract.encoders._pixels import Preprocess
from extract.encoders._precision import Precision, computing

if TYPE_CHECKING:
    import torch

_TOUCHING_S = 1e-6


@dataclass(frozen=True)
class ClipConfig:
    """clip, stride, every: video frames. crop_pct: the crop's share of the resized shorter side.

    batch_size counts clips.
    """

    size: Literal["base", "micro"] = "base"
    weights: str = "hub"
    precision: Precision = "float32"
    batch_size: int = 4
    crop_pct: float = 0.875
    clip: int = 16
    stride: int = 1
    placement: Literal["causal", "centred"] = "causal"
    every: int = 1


class ClipEncoder(FrozenEncoder[FrameBlock]):
    """Frames of any size in, one row a frame out, whatever the length; a row holds as long as its frame is shown.

    A subclass sets ``preprocess``, whose constants belong to its model; its network takes f32[B,3,T,S,S].
    """

    Config = ClipConfig
    modality: Modality = "visual"
    library = "torchvision"
    preprocess: Preprocess

    def __init__(self, cfg: ClipConfig) -> None:
        super().__init__(cfg)
        for name in ("clip", "stride", "every"):
            if getattr(cfg, name) < 1:
                raise UsageError(f"{name} = {getattr(cfg, name)} frames", hint=f"set {name} to 1 or more")
        before = cfg.clip - 1 if cfg.placement == "causal" else cfg.clip // 2
        self._offsets = (np.arange(cfg.clip) - before) * cfg.stride  # frames of a clip, seen from its anchor
        self._anchor = 0 if cfg.placement == "causal" else cfg.every // 2  # seen from its first row
        self.begin()

    def begin(self) -> None:
        """Nothing is kept: a recording begins. Frames are counted from 0 in order of arrival."""
        self._frames: torch.Tensor | None = None  # f32[K,3,S,S], those from frame _oldest on
        self._spans = np.empty((0, 2))  # f64[K,2] of the same
        self._oldest = 0
        self._next = 0  # the first frame without a row

    def settings(self) -> dict[str, Any]:
        """The config's, the preprocessing's, and what stands beyond the first and last frame."""
        return {**super().settings(), "preprocess": asdict(self.preprocess), "edges": "repeated"}

    def prepare(self) -> None:
        """Channels last: the same numbers up to rounding, less work (I3D in bf16 on a CPU: half of it)."""
        import torch

        self.net.to(memory_format=torch.channels_last_3d)

    def embed(self, clips: "torch.Tensor") -> "torch.Tensor":
        """f32[B,3,T,S,S] -> [B,D]."""
        return self.net(clips)

    def push(self, block: FrameBlock) -> Track:
        """rgb: N x u8[H,W,3] -> the rows whose frames are all seen."""
        import torch

        if not block.rgb:
            return Track.concat([], self.dim)
        with computing(self.cfg.precision, self.device):
            new = self.preprocess(block.rgb, self.device)  # (N, 3, S, S)
            self._frames = new if self._frames is None else torch.cat([self._frames, new])
        self._spans = np.concatenate([self._spans, block.spans])
        seen = self._oldest + len(self._spans)
        return self._rows(range(self._next, seen - max(self.cfg.every - 1, self._anchor + self._offsets[-1])))

    def finish(self) -> Track:
        """The rows held back, the last frame standing for those after it."""
        track = self._rows(range(self._next, self._oldest + len(self._spans)))
        self.begin()
        return track

    def _rows(self, frames: range) -> Track:
        """Rows from the first of these frames on: one clip at every n-th of them."""
        firsts = np.array(frames[:: self.cfg.every], np.int64)
        if not len(firsts):
            return Track.concat([], self.dim)
        last = self._oldest + len(self._spans) - 1
        anchors = np.minimum(firsts + self._anchor, last)
        clips = np.clip(anchors[:, None] + self._offsets, 0, last)  # (rows, T)
        values = self._values(clips - self._oldest)
        self._next = min(int(firsts[-1]) + self.cfg.every, last + 1)
        track = self._spread(values, int(firsts[0]))
        self._forget()
        return track

    def _values(self, clips: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Clips as positions among the kept frames, i64[R,T] -> f32[R,D]."""
        import torch

        def embedded(some: npt.NDArray[np.int64]) -> torch.Tensor:
            x = self._frames[torch.from_numpy(some).to(self.device)].transpose(1, 2)  # (B, 3, T, S, S)
            return self.embed(x.contiguous(memory_format=torch.channels_last_3d))

        with computing(self.cfg.precision, self.device):
            return self.fitting.joined(clips, embedded).float().cpu().numpy()

    def _spread(self, values: npt.NDArray[np.float32], first: int) -> Track:
        """Row r holds for the frames from ``first + r * every`` on, as far as they were computed, gaps left out."""
        spans = self._spans[first - self._oldest : self._next - self._oldest]
        row = np.arange(len(spans)) // self.cfg.every
        parted = (np.diff(row) > 0) | (spans[1:, 0] > spans[:-1, 1] + _TOUCHING_S)
        cuts = np.flatnonzero(parted) + 1
        begin, end = np.r_[0, cuts], np.r_[cuts, len(spans)]  # stretches of touching frames of one row
        return Track(np.stack([spans[begin, 0], spans[end - 1, 1]], axis=1), values[row[begin]])

    def _forget(self) -> None:
        """Drop the frames that no later row needs."""
        oldest = max(0, self._next + min(0, int(self._offsets[0])))  # an anchor may lie before its usual place
        keep = max(oldest - self._oldest, 0)
        self._frames, self._spans = self._frames[keep:].clone(), self._spans[keep:]
        self._oldest += keep
