"""What a stream may pass before it reaches a head: a learned mix of its layers, then a model of time.

``I3D-TCN + JCA`` is ``--visual i3d --temporal visual=tcn --head jca``; ``ResNet18-GRU + JCA`` likewise. Any head
stands behind them unchanged: it is told streams of another width, and its masks stay what they were.

Mix of K layers (Yang et al., "SUPERB", Interspeech 2021; the scale is ELMo's, Peters et al., 2018):

    x = scale * sum_k softmax(w)_k x_k          w = 0 and scale = 1 at first, so it begins as the mean

for streams that hold several hidden states of an encoder (``hubert@layers=6,9,12``). SUPERB's normalisation of each
layer is the cache's: features are standardised per dimension.

Models of time, over the tokens of a window; ``causal`` (default) means that no token sees a later one:

    tcn          four blocks, kernel 5 (see heads/_tcn.py); else as far to either side
    gru, lstm    one layer; else one half of the width in each direction
    transformer  Linear, sine positions, two pre-norm layers, LayerNorm; else attention is over the whole window

A token that is absent or padding cannot be looked at by any of them, and stays absent.

Departure: JCA's I3D-TCN runs within a clip of 32 frames and takes the maximum over it; here a clip is one token.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cache.errors import UsageError
from cache.records import MODALITIES, StreamSpec
from cache.registry import suggest
from fuse.feeding.batch import HeadInputs
from fuse.heads._attention import TransformerLayer, sinusoids
from fuse.heads._base import ClosedForm, Head, visible
from fuse.heads._block import keep
from fuse.heads._maps import AttentionMap, calls
from fuse.heads._recurrent import CELLS, Recurrent
from fuse.heads._tcn import TCN

log = logging.getLogger("affuse")
TemporalModel = Literal["none", "tcn", "gru", "lstm", "transformer"]
BEFORE = "One stream by itself, before the head: of each of its moments (rows), on which of its moments (columns)."
DEPTH = {"tcn": 4, "gru": 1, "lstm": 1, "transformer": 2}


@dataclass(frozen=True)
class TemporalOptions:
    """Of all temporal models of a run. width: that a stream leaves with. layers: of each; 0 for its own default.

    kernel: of a tcn. heads: of a transformer.
    """

    width: int = 128
    layers: int = 0
    causal: bool = True
    kernel: int = 5
    heads: int = 4
    dropout: float = 0.1


class LayerMix(nn.Module):
    """Several hidden states of an encoder, side by side, as one."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(layers))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """x: [B,L,K*D], layer-major -> [B,L,D]."""
        states = x.unflatten(-1, (len(self.w), -1))  # [B,L,K,D]
        return self.scale * (self.w.softmax(0) @ states)


class Transformer(nn.Module):
    """Layers of self-attention over the seen tokens."""

    def __init__(self, d: int, width: int, layers: int, heads: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.project = nn.Linear(d, width)
        self.layers = nn.ModuleList(TransformerLayer(width, heads, dropout, causal) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x: [B,L,D], seen: bool[B,L] -> [B,L,width], zero where not seen."""
        h = self.project(x)
        h = h + sinusoids(h.shape[1], h.shape[2], h)
        for layer in self.layers:
            h = layer(h, seen)
        return keep(self.norm(h), seen)


def temporal_model(kind: str, d: int, options: TemporalOptions) -> nn.Module:
    """A model of that kind over a stream of width d. Raises UsageError for widths that it cannot have."""
    o, layers = options, options.layers or DEPTH[kind]
    parts = o.heads if kind == "transformer" else 2 if kind in CELLS and not o.causal else 1
    if min(o.width, o.kernel, o.heads, layers) < 1 or o.width % parts:
        raise UsageError(
            f"no {kind} has width {o.width}, {layers} layers, kernel {o.kernel} and {o.heads} heads",
            hint=f"give temporal_options.width a multiple of {parts}, and the others at least 1",
        )
    if kind == "tcn":
        return TCN(d, [o.width] * layers, kernel=o.kernel, dropout=o.dropout, causal=o.causal)
    if kind == "transformer":
        return Transformer(d, o.width, layers, o.heads, o.dropout, o.causal)
    return Recurrent(kind, d, o.width, layers=layers, dropout=o.dropout, both=not o.causal)


class Fronted(Head):
    """A head behind mixes and temporal models of its streams."""

    def __init__(self, inputs: HeadInputs, head: Head, mix: nn.ModuleDict, temporal: nn.ModuleDict) -> None:
        super().__init__(inputs, head.cfg)
        self.mix, self.temporal, self.head = mix, temporal, head

    def forward(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> Tensor:
        """x[m]: [B,L,D_m] -> f32[B,L,2]."""
        out: Tensor = self.head(self.passed(x, present, real), present, real)
        return out

    def passed(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> dict[str, Tensor]:
        """What reaches the head of each stream: [B,L,D_m] of its width there."""
        x, seen = visible({m: x[m] for m in self.inputs.names}, present, real)
        x |= {m: mix(x[m]) for m, mix in self.mix.items()}
        return x | {m: model(x[m], seen[m]) for m, model in self.temporal.items()}

    def attention_maps(self, x: dict[str, Tensor], present: dict[str, Tensor], real: Tensor) -> list[AttentionMap]:
        """Of transformers before the head, each layer's; then the head's own."""
        before = {
            (m, i): layer.attention
            for m, model in self.temporal.items()
            if isinstance(model, Transformer)
            for i, layer in enumerate(model.layers)
        }
        with calls(*before.values()) as found:
            x = self.passed(x, present, real)
        named = zip(before, found, strict=True)
        own = [
            AttentionMap(f"transformer, layer {i + 1}", m, (m,), "time", BEFORE, layer.weights(*given))
            for (m, i), (layer, given) in named
        ]
        return own + self.head.attention_maps(x, present, real)

    def start_at(self, mean_va: Tensor) -> None:
        """As the head itself."""
        self.head.start_at(mean_va)


def fronted(
    cls: type[Head],
    cfg: Any,
    inputs: HeadInputs,
    temporal: Mapping[str, str],
    options: TemporalOptions,
    *,
    layer_mix: bool = True,
) -> Head:
    """The head behind what its streams pass first; the head itself where they pass nothing.

    temporal: model by stream name or modality. A head that is solved in closed form gets layers side by side.
    Raises UsageError for names that are neither, and for a temporal model that nothing would train.
    """
    kinds = by_stream(temporal, inputs.streams)
    closed = issubclass(cls, ClosedForm)
    if closed and kinds:
        raise UsageError(
            f"a head solved in closed form cannot train the temporal model of {', '.join(kinds)}",
            hint="leave out --temporal, or use --head linear",
        )
    mixed = {s.name: s.layers for s in inputs.streams if s.layers > 1 and layer_mix and not closed}
    dims = {m: d // mixed.get(m, 1) for m, d in inputs.dims.items()}
    mix = nn.ModuleDict({m: LayerMix(layers) for m, layers in mixed.items()})
    models = nn.ModuleDict({m: temporal_model(kind, dims[m], options) for m, kind in kinds.items()})
    dims |= dict.fromkeys(kinds, options.width)
    told = (replace(s, dim=dims[s.name], layers=1 if s.name in {*mixed, *kinds} else s.layers) for s in inputs.streams)
    head = cls(replace(inputs, streams=tuple(told)), cfg)
    return Fronted(inputs, head, mix, models) if mixed or kinds else head


def by_stream(temporal: Mapping[str, str], streams: tuple[StreamSpec, ...]) -> dict[str, str]:
    """Model by stream name, without those that have none; a stream's own name counts before its modality.

    Raises UsageError for what is neither a stream of the run nor a modality.
    """
    names = [s.name for s in streams]
    for key in temporal:
        if key not in names and key not in MODALITIES:
            known = [*names, *MODALITIES]
            raise UsageError(
                f"--temporal names {key!r}, which is no stream of this run and no modality",
                hint=suggest(key, known) or f"there are: {', '.join(known)}",
            )
        if key not in names and key not in {s.modality for s in streams}:
            log.info("temporal model %s=%s has no effect: this run has no %s stream", key, temporal[key], key)
    chosen = {s.name: temporal.get(s.name, temporal.get(s.modality, "none")) for s in streams}
    return {m: kind for m, kind in chosen.items() if kind != "none"}
