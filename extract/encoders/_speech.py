"""What the encoders of speech share: convolutions over the sound at 16 kHz, then a transformer, a row every 20 ms.

The convolutions stream over the whole file (``_waveform``); the transformer sees the file at once up to
``context_s``, beyond that in overlapping windows (``_windows``). The shape is wav2vec 2.0's (Baevski et al., NeurIPS
2020, https://arxiv.org/abs/2006.11477), which HuBERT, WavLM and data2vec keep; they differ in what is inside of the
layers and in how positions enter, which is transformers' (Apache-2.0) own code here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cache.errors import UsageError
from cache.records import Track
from extract.blocks import SampleRows, Waveform
from extract.encoders._base import batches
from extract.encoders._layers import LayeredEncoder, Taps
from extract.encoders._precision import Precision, computing
from extract.encoders._sound import SoundEncoder
from extract.encoders._waveform import FoldedFirst, Geometry, Normalized, features
from extract.encoders._windows import windows

if TYPE_CHECKING:
    import torch

#: Parts of published models that make no features: heads, quantizers, adapters behind the transformer.
HEADS = (
    r"^(lm_head|projector|classifier|final_proj|label_embs_concat|layer_weights|quantizer|project_q|project_hid|"
    r"adapter|tdnn|objective)\b|^masked_spec_embed$"
)


class SpeechEncoder(LayeredEncoder[Waveform], SoundEncoder):
    """One Waveform of a whole recording in, ``(S - 400) // 320 + 1`` rows out; shorter sound gives one row.

    ``Config`` also has context_s and overlap_s; a subclass builds ``net``, a transformers model of the family.
    """

    rate = 16_000
    library = "transformers"

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        if not 0 <= cfg.overlap_s < cfg.context_s:
            raise UsageError(
                f"{self.published.name} windows of {cfg.context_s} s cannot overlap by {cfg.overlap_s} s",
                hint="set overlap_s to at least 0 and below context_s",
            )
        self.geometry = Geometry(320, 400)
        self.first: FoldedFirst | None = None
        self.taps: Taps | None = None

    @property
    def normalize(self) -> bool:
        """Whether sound is brought to zero mean and unit variance first, as in the model's training."""
        return self.cfg.normalize

    def prepare(self) -> None:
        """Drop the transformer layers above the deepest that is wanted (and the norm that closes a pre-norm stack)."""
        import torch

        config, encoder = self.net.config, self.net.encoder
        self.geometry = Geometry.of(config.conv_kernel, config.conv_stride)
        conv = self.net.feature_extractor.conv_layers
        over_time = isinstance(getattr(conv[0], "layer_norm", None), torch.nn.GroupNorm)
        self.first = FoldedFirst(conv[0]) if over_time else None
        depths = self.depths(len(encoder.layers))
        if max(depths) < len(encoder.layers) and getattr(config, "do_stable_layer_norm", False):
            encoder.layer_norm = torch.nn.Identity()
        encoder.layers = encoder.layers[: max(depths)]
        self.taps = Taps(encoder.layers, depths)

    def pieces(self, sound: Waveform) -> Iterator[Track]:
        """samples: f32[S] at 16 kHz -> R rows, those of a batch of windows at a time."""
        x: SampleRows = Normalized(sound.samples) if self.normalize else sound.samples
        count, field = len(x), self.geometry.field
        if count < field:
            x = np.pad(x[:], (0, field - count))
        spans = self.geometry.spans(self.geometry.rows(len(x)), self.rate, sound.start)
        if count < field:
            spans[0, 1] = sound.start + count / self.rate
        conv = features(x, self.geometry, self.net.feature_extractor.conv_layers, self.first, self.device)
        done = 0
        for values in self._contextual(conv, len(spans)):
            yield Track(spans[done : done + len(values)], values)
            done += len(values)

    def _contextual(self, conv: Iterator["torch.Tensor"], rows: int) -> Iterator[npt.NDArray[np.float32]]:
        """The transformer over convolutional features, f32[r,C] at a time -> f32[r,K*D] at a time."""
        import torch

        size = self.geometry.rows(round(self.cfg.context_s * self.rate))
        stride = size - round(self.cfg.overlap_s * self.rate / self.geometry.hop)
        kept, oldest = torch.empty(0, device=self.device), 0  # features that some window still needs
        for some in batches(windows(rows, max(1, size), max(1, stride)), self.cfg.batch_size):
            with computing(self.cfg.precision, self.device):
                while oldest + len(kept) < some[-1].stop:
                    kept = torch.cat([kept, next(conv)])
                kept, oldest = kept[some[0].start - oldest :], some[0].start
                stacked = torch.stack([kept[w.start - oldest : w.stop - oldest] for w in some])
                h = self.fitting.joined(stacked, self._states)
            seen = zip(some, h.float().cpu().numpy(), strict=True)
            yield np.concatenate([values[w.first - w.start : w.last - w.start] for w, values in seen])

    def _states(self, conv: "torch.Tensor") -> "torch.Tensor":
        """Convolutional features [b,W,C] -> hidden states [b,W,K*D]."""
        h = self.net.feature_projection(conv)  # wav2vec 2.0's has the normalised features beside it
        h = self.net.encoder(h[0] if isinstance(h, tuple) else h).last_hidden_state
        return self.taps.beside(h)


@dataclass(frozen=True)
class SpeechConfig:
    """layer: hidden state after that transformer layer, -1 the last; layers: several of them side by side.

    context_s, overlap_s: windows, seconds. batch_size counts windows; on a CPU more than one at a time is slower.
    """

    weights: str = "hub"
    precision: Precision = "float32"
    batch_size: int = 1
    layer: int = -1
    context_s: float = 30.0
    overlap_s: float = 5.0
    layers: tuple[int, ...] = ()
