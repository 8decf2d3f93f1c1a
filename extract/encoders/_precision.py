"""Arithmetic of a forward pass, set for that pass only: ``float32`` is exact, ``tf32`` and ``bf16`` are asked for."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "tf32", "bf16"]


@contextmanager
def computing(precision: Precision, device: "torch.device") -> Iterator[None]:
    """Inference mode at a precision. tf32 changes numbers on CUDA only; float32 there means IEEE, also in cuDNN."""
    import torch

    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if device.type == "cuda":
            stack.enter_context(_float32_as("tf32" if precision == "tf32" else "ieee"))
        if precision == "bf16":
            stack.enter_context(torch.autocast(device.type, torch.bfloat16))
        yield


@contextmanager
def _float32_as(mode: str) -> Iterator[None]:
    import torch

    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [b.fp32_precision for b in backends]
    try:
        for backend in backends:
            backend.fp32_precision = mode
        yield
    finally:
        for backend, old in zip(backends, before, strict=True):
            backend.fp32_precision = old


def halve(net: "torch.nn.Module") -> None:
    """Store the weights that bf16 autocast would cast at every pass as bf16 at once: the same numbers, less work."""
    import torch

    nn = torch.nn
    passes = {c.forward for c in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)}
    for module in net.modules():  # one with a pass of its own may use its weights in float32, too
        if type(module).forward in passes and not nn.utils.parametrize.is_parametrized(module):
            module.to(torch.bfloat16)
