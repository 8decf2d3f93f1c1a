"""What one run of stage two is: the recipe as given, and what the head's own protocol fills in."""

import dataclasses
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cache.errors import CacheError, UsageError
from cache.fingerprint import fingerprint
from cache.recipe import build, find_recipe, merge, to_plain
from cache.records import StreamSpec
from cache.registry import load_plugin
from cache.store import FeatureCache
from fuse.batch import HeadInputs
from fuse.heads import HEADS, Head
from fuse.heads._base import Protocol

log = logging.getLogger("affuse")
SHIPPED = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class TrainRecipe:
    """One run. What is None is taken from the head's protocol; empty ``streams`` are all that the cache holds.

    tokens, hop: in tokens; stride, smooth: in frames. labels: name of the label protocol. options: of the head.
    permute_labels: the control that must score about 0, trained on labels shuffled across recordings.
    """

    head: str
    cache: Path
    runs: Path = Path("var/runs")
    streams: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    plugins: tuple[Path, ...] = ()
    labels: str = "va"
    tokens: int | None = None
    stride: int | None = None
    hop: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    weight_decay: float | None = None
    loss: Literal["ccc", "mse", "mse+ccc"] | None = None
    ccc_scope: Literal["batch", "window"] = "batch"
    epochs: int = 50
    patience: int = 10
    clip: float = 1.0
    seed: int = 0
    device: str = "auto"
    smooth: int = 25
    permute_labels: bool = False


def train_recipe(cache_root: Path, recipe: Path | None, given: dict[str, Any]) -> TrainRecipe:
    """The head's protocol < the recipe's ``[train]`` < its ``[heads.<head>]`` < what was given.

    Without a recipe the one shipped for the cache's corpus is taken, if there is one, and said so;
    ``--recipe none`` keeps the head's published protocol. Raises UsageError where no head is named.
    """
    dataset = FeatureCache(cache_root).dataset
    own = recipe is None and (SHIPPED / f"{dataset}.toml").is_file()
    chosen = Path(dataset) if own else None if recipe == Path("none") else recipe
    data = find_recipe(chosen, SHIPPED)
    head = given.get("head") or data.get("train", {}).get("head")
    if not head:
        raise UsageError("no head is named", hint="give --head NAME; python cli.py list heads")
    for plugin in given.get("plugins") or []:
        load_plugin(plugin)
    HEADS.get(head)
    settings = [data.get("train", {}), data.get("heads", {}).get(head, {})]
    made = build(TrainRecipe, merge({"cache": cache_root}, *settings, given))
    if own:
        log.info("settings of the shipped recipe %r; --recipe none is the head's published protocol", dataset)
    return made


def protocol_of(recipe: TrainRecipe) -> Protocol:
    """The head's own sampling and optimiser settings with what the recipe gives over them."""
    own = HEADS.get(recipe.head).protocol
    given = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(Protocol)}
    merged = {k: v for k, v in given.items() if v is not None}
    if "tokens" in merged and "hop" not in merged:
        merged["hop"] = min(own.hop, merged["tokens"])
    return dataclasses.replace(own, **merged)


def choose_streams(cache: FeatureCache, wanted: tuple[str, ...]) -> tuple[StreamSpec, ...]:
    """Streams by name or key, or all of the cache, visual before audio before text.

    Raises CacheError where there are none, AmbiguousStream where a bare name stands for several.
    """
    names = wanted or tuple(sorted({k.rpartition("-")[0] for k in cache.stream_keys()}))
    if not names:
        raise CacheError(f"the cache at {cache.root} holds no stream yet", hint="run: python cli.py extract")
    specs = [cache.resolve(n) for n in names]
    order = ("visual", "audio", "text")
    return tuple(specs) if wanted else tuple(sorted(specs, key=lambda s: (order.index(s.modality), s.name)))


def make_head(recipe: TrainRecipe, protocol: Protocol, streams: tuple[StreamSpec, ...]) -> Head:
    """Build the head. Raises ConfigError for options it does not have, UsageError for streams it cannot take."""
    cls = HEADS.get(recipe.head)
    return cls(HeadInputs(streams, protocol.tokens), build(cls.Config, recipe.options, where=recipe.head))


def run_name(recipe: TrainRecipe, streams: tuple[StreamSpec, ...]) -> str:
    """``head-streams-hash-seed``: the same recipe on the same streams is the same folder."""
    plain = {k: v for k, v in to_plain(recipe).items() if k not in ("cache", "runs", "seed", "device", "streams")}
    digest = fingerprint([plain, [s.key for s in streams]])[:6]
    return f"{recipe.head}-{'+'.join(s.name for s in streams)}-{digest}-seed{recipe.seed}"


def check(recipe: TrainRecipe) -> None:
    """Raises UsageError for numbers that cannot train."""
    for name in ("epochs", "patience", "smooth"):
        if getattr(recipe, name) < 1:
            raise UsageError(f"{name} is {getattr(recipe, name)}; wanted at least 1")
