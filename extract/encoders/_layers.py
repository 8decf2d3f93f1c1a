"""One hidden state of a transformer a row, or several side by side: ``layer``, or ``layers``, of an encoder's options.

Hidden state n is what transformer layer n gives, 0 what goes into the first, -1 the last (behind the norm that closes
a pre-norm stack). Several are stored layer-major: a row is ``[state of layers[0], state of layers[1], ...]``, each
``layer_dim`` wide, so that ``values.reshape(T, K, layer_dim)`` parts them; both are in the stream's settings.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cache.errors import UsageError
from extract.encoders._architecture import depth
from extract.encoders._base import Block
from extract.encoders._frozen import FrozenEncoder

if TYPE_CHECKING:
    import torch


class LayeredEncoder(FrozenEncoder[Block]):
    """An encoder around a transformer. ``Config`` also has ``layer: int = -1`` and ``layers: tuple[int, ...] = ()``."""

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        if cfg.layers and cfg.layer != -1:
            told = f"{self.published.name} was given layer = {cfg.layer} and layers = {list(cfg.layers)}"
            raise UsageError(told, hint="give one of them")
        if len(set(cfg.layers)) < len(cfg.layers):
            raise UsageError(f"{self.published.name} layers = {list(cfg.layers)} name one twice", hint="name each once")
        self.layers: tuple[int, ...] = cfg.layers or (cfg.layer,)

    @property
    @abstractmethod
    def layer_dim(self) -> int:
        """Width of one hidden state."""

    @property
    def dim(self) -> int:
        """Width of the hidden states side by side."""
        return self.layer_dim * len(self.layers)

    def settings(self) -> dict[str, Any]:
        """The config's; of ``layer`` and ``layers`` the one that counts, and each state's width beside the latter."""
        settings = super().settings()
        del settings["layer" if self.cfg.layers else "layers"]
        return {**settings, "layer_dim": self.layer_dim} if self.cfg.layers else settings

    def depths(self, layers: int) -> list[int]:
        """How many of so many layers each hidden state needs, in the order asked for. Raises UsageError."""
        return [depth(self.published.name, n, layers) for n in self.layers]


class Taps:
    """Hidden states of a stack of layers, caught as they pass; the deepest is the stack's own result."""

    def __init__(self, stack: "torch.nn.ModuleList", depths: Sequence[int]) -> None:
        self.depths = depths
        self._seen: dict[int, torch.Tensor] = {}
        for n in set(depths) - {len(stack)}:
            if n:
                stack[n - 1].register_forward_hook(lambda _, given, made, n=n: self._keep(n, made))
            else:
                stack[0].register_forward_pre_hook(lambda _, given: self._keep(0, given))

    def _keep(self, n: int, state: Any) -> None:
        self._seen[n] = state[0] if isinstance(state, tuple) else state

    def beside(self, last: "torch.Tensor") -> "torch.Tensor":
        """All states of the pass that gave ``last``: [..., D] -> [..., K * D]."""
        import torch

        states = [self._seen.get(n, last) for n in self.depths]
        self._seen.clear()
        return torch.cat(states, dim=-1) if len(states) > 1 else last
