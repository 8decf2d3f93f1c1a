"""HuBERT-base over sound at 16 kHz: one 768-d row every 20 ms, each seeing 25 ms plus its context.

Model: Hsu et al., "HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden Units",
TASLP 2021 (https://arxiv.org/abs/2106.07447), as built by transformers (Apache-2.0). Weights: Meta,
facebook/hubert-base-ls960 (Apache-2.0). How sound goes through it: ``_speech``. ``micro`` has the same clock and is
tiny, for tests and demonstrations.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from extract.encoders import ENCODERS
from extract.encoders._architecture import architecture, decisive
from extract.encoders._published import CONFIG, Found, Published
from extract.encoders._speech import HEADS, SpeechConfig, SpeechEncoder

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
class Hubert(SpeechEncoder):
    """One Waveform of a whole recording in, ``(S - 400) // 320 + 1`` rows out; shorter sound gives one row."""

    @dataclass(frozen=True)
    class Config(SpeechConfig):
        """The options of speech, and the published size or a tiny one."""

        size: Literal["base", "micro"] = "base"
        normalize: bool = True

    published = Published("hubert", ("facebook/hubert-base-ls960",), (CONFIG,))
    tensor_names = (
        (r"^hubert\.", ""),
        (HEADS, None),
        (r"\.weight_g$", ".parametrizations.weight.original0"),
        (r"\.weight_v$", ".parametrizations.weight.original1"),
    )

    @property
    def layer_dim(self) -> int:
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
