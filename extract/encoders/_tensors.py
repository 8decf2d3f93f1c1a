"""Tensors of frozen networks: drawn from a seed or read from safetensors, checked name by name, hashed."""

import hashlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cache.errors import DataError

if TYPE_CHECKING:
    import torch

    Net = TypeVar("Net", bound=torch.nn.Module)
    State = dict[str, torch.Tensor]

#: Rewrites of tensor names, in order: (pattern, replacement), or (pattern, None) to leave the tensor out.
Names = Sequence[tuple[str, str | None]]


def seeded(build: "Callable[[], Net]", seed: int) -> "Net":
    """``build()`` under a seed of its own; the global generators, CUDA's included, stay as they were."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build()


def announce_random(name: str, seed: int) -> None:
    """Say once, on load, that features will mean nothing beyond a dry run."""
    logging.getLogger("affuse").warning(
        "%s: random weights (seed %d), not pretrained: a dry run of the pipeline, not features", name, seed
    )


def fill(net: "torch.nn.Module", path: Path, names: Names, adapted: "Callable[[State], State]" = dict) -> None:
    """Read a safetensors file into ``net``, its tensors ``adapted`` and then renamed.

    Raises DataError on missing, unexpected or misshapen tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is no readable safetensors file ({error})", hint="download it again") from None
    state = {new: t for old, t in adapted(state).items() if (new := _renamed(old, names)) is not None}
    wanted = net.state_dict()
    counters = {k: t for k, t in wanted.items() if k.endswith("num_batches_tracked")}  # absent before torch 0.4, unused
    state = {**counters, **state}
    _check(state, wanted, path)
    net.load_state_dict(state)


def _renamed(name: str, names: Names) -> str | None:
    for pattern, replacement in names:
        if re.search(pattern, name):
            if replacement is None:
                return None
            name = re.sub(pattern, replacement, name)
    return name


def _check(given: "Mapping[str, torch.Tensor]", wanted: "Mapping[str, torch.Tensor]", path: Path) -> None:
    faults = []
    for kind, keys in (("lacks", wanted.keys() - given.keys()), ("has unexpected", given.keys() - wanted.keys())):
        if keys:
            faults.append(f"{kind} {len(keys)} tensors ({', '.join(sorted(keys)[:3])}{', ...' * (len(keys) > 3)})")
    both = sorted(wanted.keys() & given.keys())
    for key in [k for k in both if given[k].shape != wanted[k].shape][:1]:
        faults.append(f"has {key} of shape {tuple(given[key].shape)}, wanted {tuple(wanted[key].shape)}")
    if faults:
        raise DataError(f"{path} {' and '.join(faults)}", hint="these are weights of another model or size")


def tensor_hash(state: "Mapping[str, torch.Tensor]", *beside: str) -> str:
    """sha256 over sorted names, dtypes, shapes and bytes, then over ``beside`` (a tokenizer, an architecture)."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    for text in beside:
        digest.update(f"\0{len(text)}\0{text}".encode())
    return digest.hexdigest()
