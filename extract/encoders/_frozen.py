"""What the encoders with a pretrained network share: finding, hashing and freezing the weights."""

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from extract.encoders._base import Block, Encoder
from extract.encoders._fitting import Fitting
from extract.encoders._precision import halve
from extract.encoders._published import CONFIG, FILE, Found, Published
from extract.encoders._tensors import Names, announce_random, fill, seeded, tensor_hash
from extract.encoders._weights import find

if TYPE_CHECKING:
    import torch


class FrozenEncoder(Encoder[Block]):
    """An encoder around one frozen network. ``Config`` also has ``size``; the size ``base`` is the published one."""

    published: Published  # of the class, or of the one model that an encoder of any model was given
    library: ClassVar[str]  # draws random weights, besides torch
    tensor_names: ClassVar[Names] = ()  # from published to present names of tensors

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self.device: torch.device | None = None
        self.fitting = Fitting(cfg.batch_size, f"encoder {type(self).__name__.lower()}")
        self.net: Any = None

    def find(self) -> Found:
        """The weights that ``cfg.weights`` names. Raises WeightsNotFound."""
        return find(self.cfg.weights, self.published, pretrained=self.cfg.size == "base")

    def config_file(self) -> Path | None:
        """config.json of weights other than the published ones, which may have another width; read without torch."""
        plain = self.cfg.weights in ("", "hub") or self.cfg.weights.startswith("random:")
        return None if plain else self.find().files.get(CONFIG)

    def signature(self) -> list[Any]:
        """Name, size and ``Found.signature``."""
        return [self.published.name, self.cfg.size, *self.find().signature(self.library)]

    @abstractmethod
    def build(self, found: Found) -> "torch.nn.Module":
        """The network, its weights drawn from the current generator; called under a seed."""

    def adapt(self, state: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
        """Published tensors as the network has them, but for ``tensor_names``."""
        return state

    def beside(self, found: Found) -> tuple[str, ...]:
        """What else than tensors and settings decides the numbers, as text for the weights' hash."""
        return ()

    def prepare(self) -> None:
        """Last changes to ``self.net`` after it was hashed (dropping layers that are not needed)."""

    def load(self, device: "torch.device") -> None:
        """Build, fill, hash, freeze and move. Raises WeightsNotFound or DataError."""
        found = self.find()
        if found.seed is not None:
            announce_random(self.published.name, found.seed)
        self.net = seeded(lambda: self.build(found), found.seed or 0)
        if found.seed is None:
            fill(self.net, found.files[FILE], self.tensor_names, self.adapt)
        self.weights_hash = tensor_hash(self.net.state_dict(), *self.beside(found))
        self.prepare()
        if self.cfg.precision == "bf16":
            halve(self.net)
        self.device = device
        self.net.requires_grad_(False).eval().to(device)
