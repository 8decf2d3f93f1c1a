"""What one training of an encoder is: the recipe as given, over a file's, over the defaults."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cache.errors import ConfigError, UsageError
from cache.recipe import build, find_recipe, merge
from cache.registry import load_plugin
from extract.clock import check_fps
from extract.encoders import ENCODERS
from extract.encoders._trainable import TrainableEncoder
from extract.naming import forms, parse
from extract.recipe import SHIPPED


@dataclass(frozen=True)
class TrainEncoderRecipe:
    """One training. options: of the encoder; its weights default to ``random:<seed>``, that is from scratch.

    every: one labelled frame in so many is an example. 1,000 examples take 150 MB of scratch space beside ``out`` as
    pictures of 224 pixels, 27 MB as spectrograms. patience: epochs without a better validation CCC before it stops.
    flip: mirror half of the pictures of each batch. fps: of recordings without video, as in ``extract``. plugins:
    Python files that register a corpus or an encoder of the user's own.
    """

    encoder: str
    dataset: str
    root: Path
    out: Path = Path("var/encoders")
    options: dict[str, Any] = field(default_factory=dict)
    dataset_options: dict[str, Any] = field(default_factory=dict)
    fps: float | None = None
    every: int = 5
    epochs: int = 30
    patience: int = 8
    batch_size: int = 64
    lr: float = 3e-4
    weight_decay: float = 1e-2
    flip: bool = True
    seed: int = 0
    device: str = "auto"
    plugins: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        check_fps(self.fps)
        for name, least in (("every", 1), ("epochs", 1), ("batch_size", 2)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} = {getattr(self, name)}; wanted {least} or more")


def train_encoder_recipe(given: dict[str, Any], recipe: Path | None = None) -> TrainEncoderRecipe:
    """Defaults < the recipe file < what was given. Raises UsageError without encoder or dataset, or for a wrong one."""
    data = merge(find_recipe(recipe, SHIPPED), given)
    for key in ("encoder", "dataset"):
        if not data.get(key):
            raise UsageError(f"no {key} is named", hint=f"give --{key} NAME; python cli.py list {key}s")
    data = merge({"root": Path("data") / str(data["dataset"])}, data)
    for plugin in data.get("plugins", ()):
        load_plugin(Path(plugin))
    made = build(TrainEncoderRecipe, data)
    return replace(made, options={"weights": f"random:{made.seed}", **made.options})


def make_encoder(recipe: TrainEncoderRecipe) -> TrainableEncoder[Any]:
    """The encoder of a recipe, in float32. Raises UsageError where it cannot be trained."""
    asked = parse(recipe.encoder)
    cls = ENCODERS.get(asked.encoder)
    if not issubclass(cls, TrainableEncoder):
        able = forms(n for n in ENCODERS.names() if issubclass(ENCODERS.get(n), TrainableEncoder))
        raise UsageError(f"encoder {recipe.encoder!r} cannot be trained here", hint=f"these can: {', '.join(able)}")
    options = merge(recipe.options, asked.options, {"precision": "float32", "model": asked.model or None})
    return cls(build(cls.Config, options, where=asked.stream))
