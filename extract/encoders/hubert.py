"""HuBERT-base over sound at 16 kHz: one 768-d row every 20 ms, each seeing 25 ms plus its context.

Model: Hsu et al., "HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden Units",
TASLP 2021 (https://arxiv.org/abs/2106.07447), as built by transformers (Apache-2.0). Weights: Meta,
facebook/hubert-base-ls960 (Apache-2.0). The convolutions stream over the whole file (``_waveform``); the transformer
sees the file at once up to ``context_s``, beyond that in overlapping windows (``_windows``). ``micro`` has the
same clock and is tiny, for tests and demonstrations.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cache.errors import UsageError
from cache.records import Track
from extract.blocks import SampleRows, Waveform
from extract.encoders import ENCODERS
from extract.encoders._architecture import architecture, decisive, depth
from extract.encoders._base import batches
from extract.encoders._precision import Precision, computing
from extract.encoders._published import CONFIG, Found, Published
from extract.encoders._sound import SoundEncoder
from extract.encoders._waveform import FoldedFirst, Geometry, Normalized, features
from extract.encoders._windows import windows

if TYPE_CHECKING:
    import torch

SIZES: dict[str, dict[str, Any]] = {
    "base": {"hidden_size": 768},  # everything else is transformers' default
    "micro": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "conv_dim": [16, 16, 32, 32, 32, 32, 32],
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    },
}
NUMBERS = (
    *("conv_kernel", "conv_stride", "conv_pos_batch_norm", "feat_extract_activation", "feat_extract_norm"),
    *("feat_proj_layer_norm", "do_stable_layer_norm", "hidden_act", "layer_norm_eps"),
    *("num_attention_heads", "num_conv_pos_embedding_groups"),
)


@ENCODERS.register("hubert")
class Hubert(SoundEncoder):
    """One Waveform of a whole recording in, ``(S - 400) // 320 + 1`` rows out; shorter sound gives one row."""

    @dataclass(frozen=True)
    class Config:
        """layer: hidden state after that transformer layer, -1 the last. context_s, overlap_s: windows, seconds.

        batch_size counts windows of ``context_s``; on a CPU more than one at a time is slower.
        """

        size: Literal["base", "micro"] = "base"
        weights: str = "hub"
        precision: Precision = "float32"
        batch_size: int = 1
        layer: int = -1
        context_s: float = 30.0
        overlap_s: float = 5.0
        normalize: bool = True

    rate = 16_000
    library = "transformers"
    published = Published("hubert", ("facebook/hubert-base-ls960",), (CONFIG,))
    tensor_names = (
        (r"^hubert\.", ""),
        (r"^(lm_head|projector|classifier|final_proj|label_embs_concat)\b|^masked_spec_embed$", None),
        (r"\.weight_g$", ".parametrizations.weight.original0"),
        (r"\.weight_v$", ".parametrizations.weight.original1"),
    )

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        if not 0 <= cfg.overlap_s < cfg.context_s:
            raise UsageError(
                f"hubert windows of {cfg.context_s} s cannot overlap by {cfg.overlap_s} s",
                hint="set overlap_s to at least 0 and below context_s",
            )
        self.geometry = Geometry(320, 400)
        self.first: FoldedFirst | None = None

    @property
    def dim(self) -> int:
        """768 for base, 64 for micro, else what a local config.json says."""
        return int(architecture(self.config_file(), "hubert", SIZES[self.cfg.size])["hidden_size"])

    def _config(self, found: Found) -> Any:
        from transformers import HubertConfig

        given = architecture(found.files.get(CONFIG), "hubert", SIZES[self.cfg.size])
        return HubertConfig.from_dict({**given, "mask_time_prob": 0.0, "mask_feature_prob": 0.0})

    def build(self, found: Found) -> "torch.nn.Module":
        """transformers' HubertModel."""
        from transformers import HubertModel

        return HubertModel(self._config(found))

    def beside(self, found: Found) -> tuple[str, ...]:
        """The architecture's options that no tensor's shape shows."""
        return (json.dumps(decisive(self._config(found).to_dict(), NUMBERS)),)

    def prepare(self) -> None:
        """Drop the transformer layers above ``cfg.layer`` (and the norm that closes a pre-norm stack)."""
        import torch

        config, encoder = self.net.config, self.net.encoder
        self.geometry = Geometry.of(config.conv_kernel, config.conv_stride)
        conv = self.net.feature_extractor.conv_layers
        self.first = FoldedFirst(conv[0]) if config.feat_extract_norm == "group" else None
        keep = depth("hubert", self.cfg.layer, len(encoder.layers))
        if keep < len(encoder.layers) and config.do_stable_layer_norm:
            encoder.layer_norm = torch.nn.Identity()
        encoder.layers = encoder.layers[:keep]

    def pieces(self, sound: Waveform) -> Iterator[Track]:
        """samples: f32[S] at 16 kHz -> R rows, those of a batch of windows at a time."""
        x: SampleRows = Normalized(sound.samples) if self.cfg.normalize else sound.samples
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
        """The transformer over convolutional features, f32[r,C] at a time -> f32[r,D] at a time."""
        import torch

        size = self.geometry.rows(round(self.cfg.context_s * self.rate))
        stride = size - round(self.cfg.overlap_s * self.rate / self.geometry.hop)
        kept, oldest = torch.empty(0, device=self.device), 0  # features that some window still needs
        for some in batches(windows(rows, max(1, size), max(1, stride)), self.cfg.batch_size):
            with computing(self.cfg.precision, self.device):
                while oldest + len(kept) < some[-1].stop:
                    kept = torch.cat([kept, next(conv)])
                kept, oldest = kept[some[0].start - oldest :], some[0].start
                h = torch.stack([kept[w.start - oldest : w.stop - oldest] for w in some])  # (b, W, C)
                h = self.net.encoder(self.net.feature_projection(h)).last_hidden_state  # (b, W, D)
            seen = zip(some, h.float().cpu().numpy(), strict=True)
            yield np.concatenate([values[w.first - w.start : w.last - w.start] for w, values in seen])
