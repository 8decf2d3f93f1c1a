"""Where an encoder's weights come from: the hub, a folder or file, or a seed. Safetensors only, never a pickle.

A *weights spec* is one string: ``""`` or ``hub`` (the published weights), ``hub:<org/name>[@revision]``, the path of a
local folder or ``.safetensors`` file, or ``random:<seed>``. Nothing here imports torch, so asking for the identity
of weights (``signature``) is cheap; ``_tensors`` does the reading.
"""

import re
from pathlib import Path

from cache.errors import UsageError, WeightsNotFound
from extract.encoders._hub import beside_of, from_hub
from extract.encoders._published import DRY_RUN, FILE, PICKLES, Found, Published, converting


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
        return from_hub(published.repos, "main", published)
    if kind == "hub":
        repo, revision = _repository(spec, published)
        return from_hub((repo,), revision, published)
    return _from_disk(Path(spec).expanduser(), published)


def find_beside(spec: str, published: Published) -> dict[str, Path]:
    """The files beside the weights of ``hub:<org/name>`` or a folder, whose weights are not wanted themselves."""
    if spec.startswith("hub:"):
        return beside_of(*_repository(spec, published), published)
    folder = Path(spec).expanduser()
    if not folder.is_dir():
        raise WeightsNotFound(f"{published.name} has no folder {spec!r}", hint="give a folder or a hub id <org/name>")
    return _beside(folder, published)


def _repository(spec: str, published: Published) -> tuple[str, str]:
    repo, _, revision = spec.removeprefix("hub:").partition("@")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repo):
        raise UsageError(f"{published.name} weights {spec!r} name no repository", hint="write hub:<org/name>")
    return repo, revision or "main"


def _beside(folder: Path, published: Published) -> dict[str, Path]:
    paths = (folder / name for name in (*published.beside, *published.either, *published.maybe))
    return {p.name: p for p in paths if p.is_file()}


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
    return Found(str(path.resolve()), None, {FILE: weights, **_beside(folder, published)})


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
