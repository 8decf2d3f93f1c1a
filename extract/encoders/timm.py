"""Any image model of timm over video frames: one row a frame, the features in front of its classifier.

``timm:convnext_tiny.fb_in22k``, ``timm:vit_small_patch14_dinov2.lvd142m``: Wightman, "PyTorch Image Models"
(Apache-2.0; https://github.com/huggingface/pytorch-image-models); each model's paper and the licence of its weights
are on its page ``timm/<name>`` of the hub. Features are pooled as the model pools them; pictures are resized, cropped
and normalised as its pretrained_cfg says: that belongs to the weights, like a name's tag (``.fb_in22k``), and is in
the fingerprint.
"""

import difflib
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from cache.errors import DataError, UnknownName, UsageError, WeightsNotFound
from extract.encoders import ENCODERS
from extract.encoders._architecture import read_json
from extract.encoders._base import Encoder
from extract.encoders._image import FrameEncoder
from extract.encoders._pixels import Preprocess, Squashed
from extract.encoders._precision import Precision
from extract.encoders._published import CONFIG, Found, Published
from extract.encoders._weights import find

if TYPE_CHECKING:
    import torch

#: Buffers that older files have and newer models compute.
COMPUTED = r"(relative_position_index|attn_mask)$"


@ENCODERS.register("timm")
class Timm(FrameEncoder):
    """Frames of any size in, one row a frame out; a row holds as long as its frame is shown."""

    @dataclass(frozen=True)
    class Config:
        """model: timm's name, with the tag of its weights. crop_pct: the model's own where it is not given."""

        model: str = ""
        weights: str = "hub"
        precision: Precision = "float32"
        batch_size: int = 16
        crop_pct: float | None = None

    NO_EFFECT = frozenset({"batch_size", "weights", "model"})

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.published = Published("timm", (f"timm/{cfg.model}",), either=(CONFIG,))  # the hub's is timm's

    @cached_property
    def dim(self) -> int:
        """Width of the model's pooled features, see ``width``; imports timm."""
        return width(self.cfg.model)

    def find(self) -> Found:
        """The weights. Raises UnknownName for a model that timm has not, WeightsNotFound, UsageError without a tag."""
        hub = self.cfg.weights in ("", "hub")
        if hub and "." not in self.cfg.model:
            tags = pretrained(self.cfg.model)
            hint = f"name one: {', '.join(tags[:5])}" if tags else "set weights to a folder or random:0"
            raise UsageError(f"timm:{self.cfg.model} names no pretrained weights", hint=hint)
        try:
            return find(self.cfg.weights, self.published)
        except WeightsNotFound:
            check_known(self.cfg.model)  # the likelier cause
            if hub:
                check_published(self.cfg.model)
            raise

    def signature(self) -> list[Any]:
        """Name, ``Found.signature``, and timm's version, which decides preprocessing too."""
        return ["timm", *self.find().signature(), ["timm", version("timm")]]

    def settings(self) -> dict[str, Any]:
        """The config's; the preprocessing is among what only the loaded model knows."""
        return Encoder.settings(self)

    def model_settings(self) -> dict[str, Any]:
        """The preprocessing."""
        return {"preprocess": asdict(self.preprocess)}

    def build(self, found: Found) -> "torch.nn.Module":
        """timm's model without its classifier."""
        import timm

        width(self.cfg.model)  # raises for what gives no rows, before memory is taken
        net = timm.create_model(self.cfg.model, pretrained=False, num_classes=0)
        config = read_json(found.files[CONFIG]) if CONFIG in found.files else {}
        name = self.cfg.model.partition(".")[0]
        if config.get("architecture", name) != name:
            told = f"{found.files[CONFIG]} is of {config['architecture']}, wanted {name}"
            raise DataError(told, hint=f"ask for timm:{config['architecture']}")
        self.preprocess = preprocessing({**net.pretrained_cfg, **config.get("pretrained_cfg", {})}, self.cfg)
        return net

    def adapt(self, state: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
        """Without the classifier: what timm calls so, and what a model with one has more."""
        inside = self.net.state_dict().keys()
        named = self.net.pretrained_cfg.get("classifier") or ()
        prefixes = tuple(f"{n}." for n in ([named] if isinstance(named, str) else named))
        outside = bare(self.cfg.model, None).state_dict().keys() - inside

        def left_out(key: str) -> bool:
            return key in outside or key.startswith(prefixes) or re.search(COMPUTED, key) is not None

        return {k: t for k, t in state.items() if k in inside or not left_out(k)}

    def prepare(self) -> None:
        """Channels last: the same numbers up to rounding, less work."""
        import torch

        self.net.to(memory_format=torch.channels_last)


def bare(model: str, classes: int | None) -> Any:
    """A model without memory for its tensors; 0 classes for no classifier, None for its own. Raises UnknownName."""
    import timm
    import torch

    check_known(model)
    with torch.device("meta"):
        return timm.create_model(model, pretrained=False, num_classes=classes)


def width(model: str) -> int:
    """D of the rows f32[B,D] that a model gives without its classifier; what it says of itself may be another number.

    Raises UnknownName, and DataError for a model that gives tokens or feature maps instead of a row a picture.
    """
    import torch

    net = bare(model, 0).eval()
    rows = net(torch.empty(1, *net.pretrained_cfg["input_size"], device="meta"))
    shape = list(getattr(rows, "shape", ()))
    if len(shape) != 2:
        given = " x ".join(map(str, shape[1:])) if shape else f"a {type(rows).__name__}"
        told = f"timm:{model} gives {given} a picture, wanted one row of features"
        raise DataError(told, hint="take a model that pools its features")
    return int(shape[1])


def pretrained(model: str) -> list[str]:
    """Names with tags that timm has of a model, the default first. Raises UnknownName."""
    import timm

    name = model.partition(".")[0]
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.6)
        hint = f"did you mean {', '.join(close)}?" if close else "see timm.list_pretrained()"
        raise UnknownName(f"timm {version('timm')} has no model {name!r}", hint=hint)
    default = timm.get_pretrained_cfg(name)
    tagged = timm.list_pretrained(f"{name}.*")
    return sorted(tagged, key=lambda n: default is None or n != f"{name}.{default.tag}")


def check_known(model: str) -> None:
    """Raises UnknownName where timm has no such model, or no such tag of it."""
    tags = pretrained(model)
    if "." in model and model not in tags:
        name, _, tag = model.partition(".")
        hint = f"there are: {', '.join(tags)}" if tags else f"ask for timm:{name} and set weights"
        raise UnknownName(f"timm {version('timm')} has no weights {tag!r} of {name}", hint=hint)


def check_published(model: str) -> None:
    """Raises WeightsNotFound where timm knows that the weights are not at ``timm/<name>`` of the hub."""
    import timm

    repo = timm.get_pretrained_cfg(model).hf_hub_id
    if repo not in ("timm/", f"timm/{model}"):
        hint = f"set weights = hub:{repo}, or a folder" if repo else "set weights to a folder"
        raise WeightsNotFound(f"the weights of timm:{model} are not at timm/{model} on the hub", hint=hint)


def preprocessing(pretrained_cfg: dict[str, Any], cfg: "Timm.Config") -> Preprocess:
    """What a model wants of pictures. Raises DataError for what is not a square crop of three channels."""
    from timm.data import resolve_data_config

    data = resolve_data_config({}, pretrained_cfg=pretrained_cfg)
    channels, height, width = data["input_size"]
    if channels != 3 or height != width or data["crop_mode"] not in ("center", "squash"):
        told = f"timm:{cfg.model} wants pictures of {channels} x {height} x {width}, crop_mode {data['crop_mode']!r}"
        raise DataError(told, hint="take a model that wants a square crop of three channels")
    kind = Squashed if data["crop_mode"] == "squash" else Preprocess
    crop_pct = data["crop_pct"] if cfg.crop_pct is None else cfg.crop_pct
    return kind(height, crop_pct, tuple(data["mean"]), tuple(data["std"]), data["interpolation"])
