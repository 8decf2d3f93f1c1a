"""Which device networks run on."""

from typing import TYPE_CHECKING

from cache.errors import UsageError

if TYPE_CHECKING:
    import torch


def torch_device(name: str) -> "torch.device":
    """``auto`` is CUDA where there is one, then Apple's MPS, else the CPU; ``auto:5`` for the sixth of several workers.

    Workers take the GPUs in turn.
    """
    import torch

    name, _, worker = name.partition(":") if name.startswith("auto:") else (name, "", "")
    if worker and torch.cuda.device_count() > 1:
        name = f"cuda:{int(worker) % torch.cuda.device_count()}"
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("--device cuda was asked for, but torch sees no CUDA device", hint="use --device auto")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"{name!r} is no device", hint="use auto, cpu, cuda, cuda:1 or mps") from error
