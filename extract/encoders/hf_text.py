"""Any encoder model of text in transformers' format over a transcript: a row a unit, the mean of its tokens' states.

``hf-text:microsoft/deberta-v3-base``, ``hf-text:FacebookAI/xlm-roberta-base``, ``hf-text:/path/to/folder``: BERT
(Devlin et al., NAACL 2019), RoBERTa, DeBERTa (He et al., ICLR 2021), XLM-R, ELECTRA and the others that transformers
(Apache-2.0) lists as trained to fill in masked words. Decoders see no later words, and an encoder with a decoder is
published as one model: both are refused. The tokenizer is the model's own ``tokenizer.json``, its special tokens
around every window. How a transcript goes through it: ``_transcript``.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cache.errors import DataError, WeightsNotFound
from extract.encoders import ENCODERS
from extract.encoders._open import OpenEncoder, own_tensors
from extract.encoders._published import CONFIG, Found
from extract.encoders._tokens import closing, read_tokenizer
from extract.encoders._transcript import TextConfig, TextEncoder

if TYPE_CHECKING:
    import torch

TOKENIZER = "tokenizer.json"
MAKE = (
    'save it once with the weights in a folder: python -c "from transformers import AutoTokenizer as A; '
    "A.from_pretrained('{model}').save_pretrained('FOLDER')\" (it may ask for sentencepiece), and give that folder"
)


@ENCODERS.register("hf-text")
class HFText(OpenEncoder[Any], TextEncoder):
    """All units of a transcript in, one row for each that has a token; its span is the unit's own, never invented."""

    @dataclass(frozen=True)
    class Config(TextConfig):
        """model: a hub id or a folder."""

        model: str = ""

    kind = "hf-text"
    maybe = (TOKENIZER,)
    tensor_names = (
        (r"^(lm_head|lm_predictions|mask_predictions|cls|pooler|classifier|qa_outputs)\b", None),
        (r"(position_ids|token_type_ids)$", None),
        (r"LayerNorm\.gamma$", "LayerNorm.weight"),
        (r"LayerNorm\.beta$", "LayerNorm.bias"),
    )

    @cached_property
    def layer_dim(self) -> int:
        """What config.json says."""
        found = self.find()
        given = self.config(found)
        width = given.get("hidden_size", given.get("dim"))
        if not isinstance(width, int):
            raise DataError(f"{found.files[CONFIG]} names no hidden_size", hint="give an encoder model of text")
        return width

    def build(self, found: Found) -> "torch.nn.Module":
        """transformers' model without its pooler. Raises DataError for what is no encoder of text."""
        import torch
        from transformers import AutoConfig, AutoModel
        from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

        given = self.config(found)
        kind = given["model_type"]
        if kind not in MASKED or given.get("is_encoder_decoder") or given.get("is_decoder"):
            told = f"{found.files[CONFIG]} is of a {kind} model, wanted an encoder that fills in masked words"
            raise DataError(told, hint="e.g. bert, roberta, deberta-v2, xlm-roberta, electra, modernbert")
        config = AutoConfig.for_model(**given)
        if config.is_encoder_decoder:
            raise DataError(f"{kind} models have a decoder", hint="give an encoder, e.g. bert, roberta or deberta-v2")
        net = AutoModel.from_config(config, dtype=torch.float32)
        if getattr(net, "pooler", None) is not None:
            net.pooler = None
        return net

    def adapt(self, state: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
        """Without the prefix that models with a head have."""
        return own_tensors(state, self.net.base_model_prefix)

    def beside(self, found: Found) -> tuple[str, ...]:
        """The options that may change numbers, and the tokenizer."""
        if TOKENIZER not in found.files:
            told = f"there is no {TOKENIZER} beside the hf-text weights {found.spec}"
            raise WeightsNotFound(told, hint=MAKE.format(model=self.cfg.model))
        self.tokenizer, text = read_tokenizer(found.files, self.kind)
        return (*super().beside(found), text)

    def closing(self) -> tuple[list[int], list[int]]:
        """As the tokenizer says."""
        return closing(self.tokenizer)
