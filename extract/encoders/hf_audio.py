"""Any model of wav2vec 2.0's shape in transformers' format over sound at 16 kHz: one row every 20 ms.

``hf-audio:microsoft/wavlm-base-plus``, ``hf-audio:facebook/wav2vec2-large-xlsr-53``, ``hf-audio:/path/to/folder``:
wav2vec 2.0 (Baevski et al., NeurIPS 2020, https://arxiv.org/abs/2006.11477), HuBERT (Hsu et al., TASLP 2021), WavLM
(Chen et al., JSTSP 2022, https://arxiv.org/abs/2110.13900) and data2vec (Baevski et al., ICML 2022,
https://arxiv.org/abs/2202.03555), as built by transformers (Apache-2.0). Whether sound is normalised is what the
model's ``preprocessor_config.json`` says. How sound goes through it: ``_speech``.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cache.errors import DataError, UsageError
from extract.encoders import ENCODERS
from extract.encoders._architecture import read_json
from extract.encoders._open import OpenEncoder, own_tensors
from extract.encoders._published import CONFIG, Found
from extract.encoders._speech import HEADS, SpeechConfig, SpeechEncoder

if TYPE_CHECKING:
    import torch

PREPROCESSOR = "preprocessor_config.json"
FAMILIES = ("data2vec-audio", "hubert", "unispeech", "unispeech-sat", "wav2vec2", "wavlm")


@ENCODERS.register("hf-audio")
class HFAudio(OpenEncoder[Any], SpeechEncoder):
    """One Waveform of a whole recording in, ``(S - 400) // 320 + 1`` rows out; shorter sound gives one row."""

    @dataclass(frozen=True)
    class Config(SpeechConfig):
        """model: a hub id or a folder. normalize: as the model's own preprocessor_config.json where it is not given."""

        model: str = ""
        normalize: bool | None = None

    kind = "hf-audio"
    maybe = (PREPROCESSOR,)
    tensor_names = (
        (HEADS, None),
        (r"\.weight_g$", ".parametrizations.weight.original0"),
        (r"\.weight_v$", ".parametrizations.weight.original1"),
    )

    @cached_property
    def layer_dim(self) -> int:
        """What config.json says."""
        return int(self.config(self.find()).get("hidden_size", 768))  # transformers' default in all of the family

    def config(self, found: Found) -> dict[str, Any]:
        """config.json as plain data. Raises DataError for another kind of model."""
        given = super().config(found)
        if given["model_type"] not in FAMILIES:
            told = f"{found.files[CONFIG]} is of a {given['model_type']} model"
            raise DataError(told, hint=f"hf-audio takes {', '.join(FAMILIES)}")
        return given

    @cached_property
    def normalize(self) -> bool:
        """As given, else as the model was trained. Raises UsageError where neither says."""
        if self.cfg.normalize is not None:
            return self.cfg.normalize
        path = self.find().files.get(PREPROCESSOR)
        given = read_json(path) if path else {}
        if not isinstance(given.get("do_normalize"), bool):
            told = f"{self.cfg.model} does not say whether it wants normalised sound ({PREPROCESSOR}: do_normalize)"
            raise UsageError(told, hint="set normalize = true or false, as in its training")
        if given.get("sampling_rate", self.rate) != self.rate:
            raise DataError(f"{path} wants sound at {given['sampling_rate']} Hz; hf-audio feeds {self.rate} Hz")
        return given["do_normalize"]

    def settings(self) -> dict[str, Any]:
        """The config's, with the normalisation that the model wants."""
        return {**super().settings(), "normalize": self.normalize}

    def build(self, found: Found) -> "torch.nn.Module":
        """transformers' model of that family, without what training masks with and the adapter behind it."""
        import torch
        from transformers import AutoConfig, AutoModel

        config = AutoConfig.for_model(**{**self.config(found), "add_adapter": False})
        net = AutoModel.from_config(config, dtype=torch.float32)
        net.masked_spec_embed = None
        return net

    def adapt(self, state: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
        """Without the prefix that models with a head have."""
        return own_tensors(state, self.net.base_model_prefix)
