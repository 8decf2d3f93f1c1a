"""Where an encoder's weights come from: the hub, a folder or file, or a seed. Safetensors only, never a pickle.

A *weights spec* is one string: ``""`` or ``hub`` (the published weights), ``hub:<org/name>[@revision]``, the path of a
local folder or ``.safetensors`` file, or ``random:<seed>``. Nothing here imports torch, so asking for the identity
of weights (``signature``) is cheap; ``_tensors`` does the reading.
"""

import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cache.errors import UsageError, WeightsNotFound

FILE = "model.safetensors"
CONFIG = "config.json"
PICKLES = ("pytorch_model.bin", "*.pt", "*.pth", "*.ckpt")
DRY_RUN = "or use weights = random:0 for a dry run"


@dataclass(frozen=True)
class Published:
    """How a model is published: repo ids (the current one first, or none) and the files beside that it needs."""

    name: str
    repos: tuple[str, ...]
    beside: tuple[str, ...] = ()
    either: tuple[str, ...] = ()  # older spellings of files beside, read from local folders only
    pickle: str = ""  # where the weights are published as a pickle, if no repository has them


@dataclass(frozen=True)
class Found:
    """Weights that can be had now: a seed, or files by their published name (the weights under ``FILE``)."""

    spec: str
    seed: int | None
    files: dict[str, Path]

    def signature(self, *libraries: str) -> list[Any]:
        """``[spec, [name, size, mtime_ns], ...]``; for a seed the versions of the libraries that draw the numbers."""
        if self.seed is not None:
            return [self.spec, *([name, version(name)] for name in ("torch", *libraries))]
        stats = [(name, path.stat()) for name, path in sorted(self.files.items())]
        return [self.spec, *([name, s.st_size, s.st_mtime_ns] for name, s in stats)]


def converting(pickle: str) -> str:
    """What to run once, in the folder of a pickle (given by name, path or address), to get ``FILE`` beside it."""
    return (
        'convert it once: python -c "import torch, safetensors.torch as s; s.save_file({k: v.clone().contiguous() for '
        f"k, v in torch.load('{pickle.rpartition('/')[2]}', weights_only=True).items()}}, '{FILE}')\""
    )


def find(spec: str, published: Published, *, pretrained: bool = True) -> Found:
    """Resolve a weights spec. ``pretrained``: whether the chosen size has published weights.

    Raises WeightsNotFound (not there, pickle only, or not reachable) and UsageError (a malformed seed).
    """
    kind, _, rest = spec.partition(":")
    if kind == "random":
        if not re.fullmatch(r"\d{1,18}", rest):
            raise UsageError(f"{published.name} weights {spec!r} name no seed", hint="write random:0, random:1, ...")
        return Found(f"random:{int(rest)}", int(rest), {})
    if spec in ("", "hub") and not (pretrained and (published.repos or published.pickle)):
        raise WeightsNotFound(
            f"this size of {published.name} has no published weights", hint="set weights = random:0 or a folder"
        )
    if spec in ("", "hub") and not published.repos:
        convert = f"download {published.pickle}, {converting(published.pickle)}"
        raise WeightsNotFound(
            f"{published.name} weights are on no hub as safetensors",
            hint=f"{convert}; then pass its folder as weights, {DRY_RUN}",
        )
    if spec in ("", "hub"):
        return _from_hub(published.repos, "main", published)
    if kind == "hub":
        repo, _, revision = rest.partition("@")
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repo):
            raise UsageError(f"{published.name} weights {spec!r} name no repository", hint="write hub:<org/name>")
        return _from_hub((repo,), revision or "main", published)
    return _from_disk(Path(spec).expanduser(), published)


def _from_disk(path: Path, published: Published) -> Found:
    folder = path.parent if path.is_file() else path
    if path.is_file() and path.suffix == ".safetensors":
        weights = path
    elif path.is_file():
        raise WeightsNotFound(f"{published.name} weights {path} are not safetensors", hint=converting(path.name))
    elif not path.is_dir():
        raise WeightsNotFound(
            f"{published.name} weights {str(path)!r} are no folder, file, hub id or seed",
            hint="give a folder with model.safetensors, hub:<org/name> or random:0",
        )
    else:
        weights = _in_folder(folder, published)
    beside = (folder / name for name in (*published.beside, *published.either))
    return Found(str(path.resolve()), None, {FILE: weights, **{p.name: p for p in beside if p.is_file()}})


def _in_folder(folder: Path, published: Published) -> Path:
    """``model.safetensors``, or the only ``.safetensors`` file of the folder."""
    files = sorted(folder.glob("*.safetensors"))
    if folder / FILE in files:
        return folder / FILE
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(f.name for f in files[:3])
        raise WeightsNotFound(f"{folder} has {len(files)} safetensors files: {names}", hint="name one of them")
    pickles = [p.name for pattern in PICKLES for p in sorted(folder.glob(pattern))]
    if pickles:
        found = f"{published.name} weights in {folder} are pickles ({pickles[0]})"
        raise WeightsNotFound(found, hint=converting(pickles[0]))
    raise WeightsNotFound(f"{folder} has no {FILE} for {published.name}", hint=f"put it there, {DRY_RUN}")


def _from_hub(repos: tuple[str, ...], revision: str, published: Published) -> Found:
    """Files from the hub's local cache where it has them, else downloaded into it."""
    repo = next((r for r in repos if _cached(r, FILE, revision)), repos[0])
    spec = f"hub:{repo}" + ("" if revision == "main" else f"@{revision}")
    weights = _cached(repo, FILE, revision) or _download(repo, FILE, revision, published)
    files = {FILE: weights}
    for name in published.beside:
        files[name] = _cached(repo, name, revision) or _download(repo, name, revision, published)
    return Found(spec, None, files)


def _cached(repo: str, name: str, revision: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, name, revision=revision)
    return Path(path) if isinstance(path, str) else None


def _download(repo: str, name: str, revision: str, published: Published) -> Path:
    """One file of a repository. A probe comes first: without a network the client would retry for half a minute."""
    from huggingface_hub import constants, get_session, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HTTPError, LocalEntryNotFoundError

    elsewhere = f"download {repo} elsewhere and pass its folder as weights, {DRY_RUN}"
    try:
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        get_session().head(constants.ENDPOINT, timeout=5)
        return Path(hf_hub_download(repo, name, revision=revision))
    except LocalEntryNotFoundError:
        why = "the hub is not reachable"
    except EntryNotFoundError:
        convert = f"download {repo}, {converting('pytorch_model.bin')}"
        raise WeightsNotFound(
            f"{repo} ({revision}) on the hub has no {name} for {published.name}",
            hint=f"{convert}; then pass the folder as weights" if name == FILE else elsewhere,
        ) from None
    except (HTTPError, OSError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
    raise WeightsNotFound(f"{published.name} weights {repo} cannot be downloaded ({why})", hint=elsewhere)
