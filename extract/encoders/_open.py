"""Encoders of any model of a family on the hub: the model is named, by its id or its folder, and brings its config.

``hub`` weights are the model's own; other weights (a folder, ``hub:<org/name>``) bring their own config, and
``random:<seed>`` fills the model's own config with random numbers. The fingerprint has the weights' hash and the
options of config.json that may change numbers, so where the files came from does not matter.
"""

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar

from cache.errors import DataError, WeightsNotFound
from extract.encoders._architecture import read_json
from extract.encoders._base import Block
from extract.encoders._frozen import FrozenEncoder
from extract.encoders._published import CONFIG, Found, Published
from extract.encoders._weights import find, find_beside
from extract.naming import is_path

if TYPE_CHECKING:
    import torch

#: Options of a config.json that change no features: who wrote it, what heads mean, training.
IDLE = frozenset(
    re.findall(
        r"\w+",
        """
        _name_or_path architectures transformers_version torch_dtype dtype id2label label2id problem_type
        finetuning_task gradient_checkpointing use_cache output_attentions output_hidden_states return_dict
        task_specific_params classifier_dropout classifier_proj_size hidden_dropout hidden_dropout_prob
        attention_dropout activation_dropout attention_probs_dropout_prob final_dropout feat_proj_dropout
        feat_quantizer_dropout layerdrop initializer_range initializer_factor mask_feature_length mask_feature_min_masks
        mask_feature_prob mask_time_length mask_time_min_masks mask_time_prob apply_spec_augment ctc_loss_reduction
        ctc_zero_infinity contrastive_logits_temperature diversity_loss_weight num_negatives
        """,
    )
)


class OpenEncoder(FrozenEncoder[Block]):
    """``Config`` also has ``model``: a hub id, or the path of a folder (``/``, ``.`` or ``~`` in front)."""

    NO_EFFECT = frozenset({"batch_size", "weights", "model"})
    kind: ClassVar[str]  # the encoder's name
    maybe: ClassVar[tuple[str, ...]] = ()
    library = "transformers"

    def __init__(self, cfg: Any) -> None:
        self.published = Published(self.kind, (cfg.model,), (CONFIG,), maybe=self.maybe)
        super().__init__(cfg)

    def find(self) -> Found:
        """The weights and what is beside them. Raises WeightsNotFound, also for weights without a config.json."""
        spec, model = self.cfg.weights, self.cfg.model if is_path(self.cfg.model) else f"hub:{self.cfg.model}"
        found = find(model if spec in ("", "hub") else spec, self.published)
        if found.seed is not None:
            found = Found(found.spec, found.seed, find_beside(model, self.published))
        if CONFIG not in found.files:
            raise WeightsNotFound(
                f"there is no {CONFIG} beside the {self.kind} weights {found.spec}", hint="put it into their folder"
            )
        return found

    def signature(self) -> list[Any]:
        """Name and ``Found.signature``."""
        return [self.kind, *self.find().signature(self.library)]

    def config(self, found: Found) -> dict[str, Any]:
        """config.json as plain data. Raises DataError where it names no kind of model."""
        given = read_json(found.files[CONFIG])
        if not isinstance(given.get("model_type"), str):
            raise DataError(f"{found.files[CONFIG]} names no model_type", hint="give a model in transformers' format")
        return given

    def beside(self, found: Found) -> tuple[str, ...]:
        """The options of config.json that may change numbers."""
        given = self.config(found)
        return (json.dumps({k: given[k] for k in sorted(given.keys() - IDLE)}),)


def own_tensors(state: "dict[str, torch.Tensor]", prefix: str) -> "dict[str, torch.Tensor]":
    """Tensors of the model inside of one with a head: without its prefix where that is, the others left out."""
    inside = {k.removeprefix(f"{prefix}."): t for k, t in state.items() if k.startswith(f"{prefix}.")}
    return inside or state
