"""RoBERTa-base over a transcript: one 768-d row a unit (word or cue), the mean of its tokens' hidden states.

Model: Liu et al., "RoBERTa: A Robustly Optimized BERT Pretraining Approach", 2019
(https://arxiv.org/abs/1907.11692), as built by transformers (Apache-2.0). Weights: Meta, FacebookAI/roberta-base
(MIT). The units are joined by spaces and read as one text; texts beyond ``context_tokens`` are read in overlapping
windows. All windows of a text have one length, so nothing is ever padded. ``micro`` is tiny, for tests.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cache.errors import UsageError
from cache.records import Modality, Track
from extract.blocks import TimedText
from extract.encoders import ENCODERS
from extract.encoders._architecture import architecture, decisive, depth
from extract.encoders._base import batches
from extract.encoders._frozen import FrozenEncoder
from extract.encoders._precision import Precision, computing
from extract.encoders._published import CONFIG, Found, Published
from extract.encoders._tokens import read_tokenizer, seedless, tokenize
from extract.encoders._windows import windows

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
class Roberta(FrozenEncoder[list[TimedText]]):
    """All units of a transcript in, one row for each that has a token; its span is the unit's own, never invented."""

    @dataclass(frozen=True)
    class Config:
        """layer: hidden state after that transformer layer, -1 the last. Windows are counted in tokens."""

        size: Literal["base", "micro"] = "base"
        weights: str = "hub"
        precision: Precision = "float32"
        batch_size: int = 8
        layer: int = -1
        context_tokens: int = 510
        stride_tokens: int = 255

    modality: Modality = "text"
    library = "transformers"
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

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        if not 0 < cfg.stride_tokens <= cfg.context_tokens:
            raise UsageError(
                f"roberta windows of {cfg.context_tokens} tokens every {cfg.stride_tokens} leave gaps",
                hint="set stride_tokens to 1 up to context_tokens",
            )
        self.tokenizer: Any = None

    @property
    def dim(self) -> int:
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
            self.tokenizer, text = read_tokenizer(found.files)
        else:
            self.tokenizer, text = seedless(), "bytes and letter pairs"
        return (json.dumps(decisive(self._config(found).to_dict(), NUMBERS)), text)

    def prepare(self) -> None:
        """Drop the layers above ``cfg.layer``. Raises UsageError where the windows are too long for the model."""
        config, encoder = self.net.config, self.net.encoder
        most = config.max_position_embeddings - config.pad_token_id - 3  # positions start after padding's; <s>, </s>
        if self.cfg.context_tokens > most:
            raise UsageError(
                f"roberta was given context_tokens = {self.cfg.context_tokens}, these weights take {most}",
                hint=f"set context_tokens to {most} or less",
            )
        encoder.layer = encoder.layer[: depth("roberta", self.cfg.layer, len(encoder.layer))]

    def push(self, block: list[TimedText]) -> Track:
        """U units in time order -> one row for each unit with a token."""
        units = [u for u in block if u.text.strip()]
        spans = np.array([(u.start, u.end) for u in units], np.float64).reshape(-1, 2)
        tokens = tokenize(self.tokenizer, [u.text.strip() for u in units])
        sums = np.zeros((len(units), self.net.config.hidden_size))
        inside = tokens.unit >= 0
        np.add.at(sums, tokens.unit[inside], self._hidden(tokens.ids)[inside])
        counts = np.bincount(tokens.unit[inside], minlength=len(units))
        said = counts > 0
        return Track(spans[said], (sums[said] / counts[said, None]).astype(np.float32))

    def _hidden(self, ids: np.ndarray) -> np.ndarray:
        """Token ids i64[N] -> hidden states f32[N,D], each from the window in which the token is most central."""
        import torch

        config = self.net.config
        hidden = np.empty((len(ids), config.hidden_size), np.float32)
        cut = windows(len(ids), self.cfg.context_tokens, self.cfg.stride_tokens)
        with computing(self.cfg.precision, self.device):
            for some in batches(cut, self.cfg.batch_size):
                closed = [[config.bos_token_id, *ids[w.start : w.stop], config.eos_token_id] for w in some]
                x = torch.tensor(np.array(closed), device=self.device)  # (b, W + 2), one length: no padding, no mask
                h = self.net(input_ids=x).last_hidden_state.float().cpu().numpy()[:, 1:]  # (b, W + 1, D)
                for w, rows in zip(some, h, strict=True):
                    hidden[w.first : w.last] = rows[w.first - w.start : w.last - w.start]
        return hidden
