"""RoBERTa-base over a transcript: one 768-d row a unit (word or cue), the mean of its tokens' hidden states.

Model: Liu et al., "RoBERTa: A Robustly Optimized BERT Pretraining Approach", 2019
(https://arxiv.org/abs/1907.11692), as built by transformers (Apache-2.0). Weights: Meta, FacebookAI/roberta-base
(MIT). How a transcript goes through it: ``_transcript``. ``micro`` is tiny, for tests.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from extract.encoders import ENCODERS
from extract.encoders._architecture import architecture, decisive
from extract.encoders._published import CONFIG, Found, Published
from extract.encoders._tokens import read_tokenizer, seedless
from extract.encoders._transcript import TextConfig, TextEncoder

if TYPE_CHECKING:
    import torch

SHARED = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
SIZES: dict[str, dict[str, Any]] = {
    "base": {**SHARED, "hidden_size": 768, "vocab_size": 50265},  # else transformers' defaults
    "micro": {
        **SHARED,
        "hidden_size": 96,
        "vocab_size": 1024,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 192,
    },
}
NUMBERS = ("hidden_act", "layer_norm_eps", "num_attention_heads", "pad_token_id", "bos_token_id", "eos_token_id")
#: Scale of randomly drawn position embeddings: unlearned, they would drown the words at full size.
RANDOM_POSITIONS = 0.1


@ENCODERS.register("roberta")
class Roberta(TextEncoder):
    """All units of a transcript in, one row for each that has a token; its span is the unit's own, never invented."""

    @dataclass(frozen=True)
    class Config(TextConfig):
        """The options of text, and the published size or a tiny one."""

        size: Literal["base", "micro"] = "base"

    published = Published(
        "roberta",
        ("FacebookAI/roberta-base", "roberta-base"),
        (CONFIG, "tokenizer.json"),
        either=("vocab.json", "merges.txt"),
    )
    tensor_names = (
        (r"^roberta\.", ""),
        (r"^(lm_head|pooler|classifier|qa_outputs)\.|position_ids$|token_type_ids$", None),
        (r"LayerNorm\.gamma$", "LayerNorm.weight"),
        (r"LayerNorm\.beta$", "LayerNorm.bias"),
    )

    @property
    def layer_dim(self) -> int:
        """768 for base, 96 for micro, else what a local config.json says."""
        return int(architecture(self.config_file(), "roberta", SIZES[self.cfg.size])["hidden_size"])

    def _config(self, found: Found) -> Any:
        from transformers import RobertaConfig

        return RobertaConfig.from_dict(architecture(found.files.get(CONFIG), "roberta", SIZES[self.cfg.size]))

    def build(self, found: Found) -> "torch.nn.Module":
        """transformers' RobertaModel without its pooler."""
        from transformers import RobertaModel

        net = RobertaModel(self._config(found), add_pooling_layer=False)
        if found.seed is not None:
            net.embeddings.position_embeddings.weight.data.mul_(RANDOM_POSITIONS)
        return net

    def beside(self, found: Found) -> tuple[str, ...]:
        """The tokenizer, and the architecture's options that no tensor's shape shows."""
        if found.seed is None:
            self.tokenizer, text = read_tokenizer(found.files, self.published.name)
        else:
            self.tokenizer, text = seedless(), "bytes and letter pairs"
        return (json.dumps(decisive(self._config(found).to_dict(), NUMBERS)), text)

    def closing(self) -> tuple[list[int], list[int]]:
        """<s> and </s>."""
        return [self.net.config.bos_token_id], [self.net.config.eos_token_id]
