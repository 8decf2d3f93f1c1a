"""What one run of stage two is: the recipe as given, and what the head's own protocol fills in."""

import dataclasses
import hashlib
import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cache.errors import AffuseError, ConfigError, UsageError
from cache.fingerprint import fingerprint
from cache.recipe import build, find_recipe, merge, to_plain
from cache.records import Modality, StreamSpec
from cache.registry import load_plugin, suggest
from cache.store import FeatureCache
from fuse.feeding.batch import HeadInputs
from fuse.feeding.folds import FoldBy
from fuse.feeding.snapshot import Snapshot
from fuse.heads import HEADS, Head
from fuse.heads._base import Protocol
from fuse.losses import Scope
from fuse.tables.grid import AblateRecipe
from fuse.temporal import TemporalModel, TemporalOptions, fronted
from fuse.trackers import Tracker

log = logging.getLogger("affuse")
SHIPPED = Path(__file__).parent / "recipes"
TABLE_KEYS = [f.name for f in dataclasses.fields(AblateRecipe)]


@dataclass(frozen=True)
class TrainRecipe:
    """One run. What is None is taken from the head's protocol; empty ``streams`` are all that the cache holds.

    tokens, hop: in tokens; stride, smooth: in frames. labels: name of the label protocol. options: of the head.
    temporal: a model of time before the head, by stream name or modality. layer_mix: learn the weights of a stream's
    layers, where it has several; else they are side by side.
    permute_labels: the control that must score about 0, trained on labels shuffled across recordings.
    skip_incomplete: leave out recordings that lack a stream, and count them, instead of stopping.
    resident: keep all features on the device; by default where they fit into half of a GPU's free memory.
    smooth: a fixed width, or ``validation`` to choose it there; interpolate: over frames without a face, before that.
    delay_valence, delay_arousal: seconds by which the annotation lags. modality_dropout: chance that a window of
    training loses a modality. schedule: of the learning rate. amp: bfloat16 in the head's forward pass.
    compile: by torch, which pays on a GPU; it rounds and drops out otherwise.
    folds: cross-validate, of which ``fold`` is run; fold_by: whom folds may not share. checkpoint_s: seconds.
    tracker: where numbers also go as they come, beside ``log.jsonl``.
    """

    head: str
    cache: Path | str  # a folder, or a URL
    runs: Path = Path("var/runs")
    streams: tuple[str, ...] = ()
    without: tuple[Modality, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    temporal: dict[str, TemporalModel] = field(default_factory=dict)
    temporal_options: TemporalOptions = field(default_factory=TemporalOptions)
    layer_mix: bool = True
    plugins: tuple[Path, ...] = ()
    labels: str = "va"
    tokens: int | None = None
    stride: int | None = None
    hop: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    weight_decay: float | None = None
    loss: Literal["ccc", "mse", "mse+ccc"] | None = None
    ccc_scope: Scope | None = None
    optimiser: Literal["adam", "adamw"] | None = None
    epochs: int = 50
    patience: int = 10
    clip: float = 1.0
    seed: int = 0
    device: str = "auto"
    smooth: int | Literal["validation"] = 25
    interpolate: bool = False
    delay_valence: float = 0.0
    delay_arousal: float = 0.0
    modality_dropout: float = 0.0
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    amp: bool = False
    compile: bool = False
    folds: int = 0
    fold: int | None = None
    fold_by: FoldBy = "recording"
    checkpoint_s: float = 60.0
    permute_labels: bool = False
    skip_incomplete: bool = False
    resident: bool | None = None
    tracker: Tracker | None = None


def read_table(recipe: Path | None) -> dict[str, Any]:
    """Plain data of a recipe file; empty for None. Raises ConfigError for tables and heads that do not exist."""
    data = find_recipe(recipe, SHIPPED)
    for plugin in data.get("train", {}).get("plugins", []):
        load_plugin(Path(plugin))
    wrong = [(k, TABLE_KEYS) for k in data if k not in TABLE_KEYS]
    wrong += [(f"heads.{h}", HEADS.names()) for h in data.get("heads", {}) if h not in HEADS.names()]
    if wrong:
        told = [f"{k!r} ({suggest(k.removeprefix('heads.'), names) or 'there is no such key'})" for k, names in wrong]
        raise ConfigError(
            f"recipe {recipe} has unknown keys: {', '.join(told)}", hint="settings of runs go under [train]"
        )
    return data


def train_recipe(cache_root: Path | str, recipe: Path | None, given: dict[str, Any]) -> TrainRecipe:
    """The head's protocol < the recipe's ``[train]`` < its ``[heads.<head>]`` < what was given.

    Without a recipe the one shipped for the cache's corpus is taken, if there is one, and said so;
    ``--recipe none`` keeps the head's published protocol. Raises UsageError where no head is named.
    """
    for plugin in given.get("plugins") or []:
        load_plugin(plugin)
    data = read_table(chosen_recipe(cache_root, recipe))
    head = given.get("head") or data.get("train", {}).get("head")
    if not head:
        raise UsageError("no head is named", hint="give --head NAME; python cli.py list heads")
    HEADS.get(head)
    settings = [data.get("train", {}), data.get("heads", {}).get(head, {})]
    return build(TrainRecipe, merge(*settings, given, {"cache": cache_root}))


def chosen_recipe(cache_root: Path | str, recipe: Path | None) -> Path | None:
    """The recipe, or where none is given the one shipped for the cache's corpus, which is said; None for ``none``."""
    dataset = FeatureCache(cache_root).dataset
    if recipe is None and (SHIPPED / f"{dataset}.toml").is_file():
        log.info("settings of the shipped recipe %r; --recipe none is the head's published protocol", dataset)
        return Path(dataset)
    return None if recipe == Path("none") else recipe


def protocol_of(recipe: TrainRecipe) -> Protocol:
    """The head's own sampling and optimiser settings with what the recipe gives over them."""
    own = HEADS.get(recipe.head).protocol
    given = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(Protocol)}
    merged = {k: v for k, v in given.items() if v is not None}
    if "tokens" in merged and "hop" not in merged:
        merged["hop"] = min(own.hop, merged["tokens"])
    return dataclasses.replace(own, **merged)


def make_head(recipe: TrainRecipe, protocol: Protocol, streams: tuple[StreamSpec, ...]) -> Head:
    """Build the head, behind what its streams pass before it.

    Raises ConfigError for options it does not have, UsageError for streams it cannot take.
    """
    cls = HEADS.get(recipe.head)
    cfg = build(cls.Config, recipe.options, where=recipe.head)
    inputs = HeadInputs(streams, protocol.tokens)
    try:
        return fronted(cls, cfg, inputs, recipe.temporal, recipe.temporal_options, layer_mix=recipe.layer_mix)
    except AffuseError:
        raise
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ConfigError(f"head {recipe.head!r} cannot be built with {cfg}: {error}") from error


def run_name(recipe: TrainRecipe, snapshot: Snapshot) -> str:
    """``head-streams-hash-seed``: the same recipe, plugins, streams and recordings are the same folder."""
    elsewhere = ("cache", "runs", "seed", "device", "resident", "streams", "checkpoint_s", "tracker")
    plain = {k: v for k, v in to_plain(recipe).items() if k not in elsewhere}
    plugins = [hashlib.sha256(p.expanduser().read_bytes()).hexdigest() for p in recipe.plugins]
    keys = [s.key for s in snapshot.streams]
    digest = fingerprint([plain, plugins, keys, snapshot.split.of, snapshot.whole()])[:6]
    return f"{recipe.head}-{'+'.join(snapshot.readers)}-{digest}-seed{recipe.seed}"


def _wrong_folds(recipe: TrainRecipe) -> list[str]:
    if recipe.folds and recipe.folds < 3:
        return [f"folds is {recipe.folds}, wanted at least 3: one is scored, one chooses the epoch, the rest trains"]
    if recipe.folds and recipe.fold is None:
        return [f"fold is not said, wanted one of 0 to {recipe.folds - 1}"]
    if recipe.fold is not None and not 0 <= recipe.fold < recipe.folds:
        return [f"fold is {recipe.fold} of {recipe.folds}"]
    return []


def check(recipe: TrainRecipe, protocol: Protocol) -> None:
    """Raises ConfigError naming every number that cannot train."""
    least = {"epochs": 1, "patience": 1, "seed": 0}
    wrong = [
        f"{n} is {getattr(recipe, n)}, wanted at least {low}" for n, low in least.items() if getattr(recipe, n) < low
    ]
    if recipe.smooth != "validation" and (recipe.smooth < 1 or recipe.smooth % 2 == 0):
        wrong.append(f"smooth is {recipe.smooth}, wanted an odd number of frames, or validation")
    wrong += [
        f"{n} is {getattr(recipe, n)}, wanted at least 0 s and finite"
        for n in ("delay_valence", "delay_arousal", "checkpoint_s")
        if not 0 <= getattr(recipe, n) < math.inf
    ]
    if not 0 <= recipe.modality_dropout < 1:
        wrong.append(f"modality_dropout is {recipe.modality_dropout}, wanted from 0 to below 1")
    wrong += _wrong_folds(recipe)
    if not recipe.clip > 0:
        wrong.append(f"clip is {recipe.clip}, wanted above 0")
    if protocol.batch_size < 1:
        wrong.append(f"batch_size is {protocol.batch_size}, wanted at least 1")
    if not protocol.lr > 0 or not protocol.weight_decay >= 0:
        wrong.append(f"lr is {protocol.lr} and weight_decay {protocol.weight_decay}, wanted above 0 and at least 0")
    if wrong:
        raise ConfigError("; ".join(wrong))
