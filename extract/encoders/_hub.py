"""Published weights from the hub: its local cache first, then the network; a repository of pickles by its conversion.

The hub's own converter opens a pull request that adds ``model.safetensors`` to a repository of pickles; that revision
is taken where it converts the newest commit, and the weights spec names it.
"""

from contextlib import suppress
from pathlib import Path

from cache.errors import WeightsNotFound
from extract.encoders._published import (
    CONVERSION_TITLE,
    DRY_RUN,
    FILE,
    Found,
    NoSafetensors,
    NoSuchFile,
    Published,
    converting,
)


def from_hub(repos: tuple[str, ...], revision: str, published: Published) -> Found:
    """Files from the hub's local cache where it has them, else downloaded into it."""
    tried = [(r, v) for r in repos for v in (revision, *(_kept_conversions(r) if revision == "main" else ()))]
    repo, revision = next((t for t in tried if _cached(t[0], FILE, t[1])), (repos[0], revision))
    weights = _cached(repo, FILE, revision)
    if weights is None:
        revision, weights = _download_weights(repo, revision, published)
    spec = f"hub:{repo}" + ("" if revision == "main" else f"@{revision}")
    return Found(spec, None, {FILE: weights, **beside_of(repo, revision, published)})


def beside_of(repo: str, revision: str, published: Published) -> dict[str, Path]:
    """The files beside the weights."""
    files = {n: _cached(repo, n, revision) or _download(repo, n, revision, published) for n in published.beside}
    for name in (n for n in published.maybe if not _known_absent(repo, n, revision)):
        with suppress(NoSuchFile):
            files[name] = _cached(repo, name, revision) or _download(repo, name, revision, published)
    return files


def _download_weights(repo: str, revision: str, published: Published) -> tuple[str, Path]:
    """The weights, and the revision that has them: for a repository that has pickles only, the hub's conversion."""
    try:
        return revision, _download(repo, FILE, revision, published)
    except NoSafetensors:
        converted = _conversion(repo) if revision == "main" else None
        if converted is None:
            raise
        return converted, _download(repo, FILE, converted, published)


def _conversion(repo: str) -> str | None:
    """Revision of the open pull request by which the hub's converter adds safetensors to the newest commit."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    api = HfApi()
    try:
        newest = api.list_repo_commits(repo)[0].commit_id
        for request in api.get_repo_discussions(repo, discussion_type="pull_request", discussion_status="open"):
            if request.title == CONVERSION_TITLE and request.git_reference:
                commits = api.list_repo_commits(repo, revision=request.git_reference)
                if len(commits) > 1 and commits[1].commit_id == newest:
                    return request.git_reference
    except (HTTPError, OSError):
        return None
    return None


def _kept_conversions(repo: str) -> list[str]:
    """Revisions of conversions that the hub's local cache has."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    refs = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model") / "refs"
    return sorted(str(p.relative_to(refs)) for p in refs.glob("refs/pr/*"))


def _cached(repo: str, name: str, revision: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, name, revision=revision)
    return Path(path) if isinstance(path, str) else None


def _known_absent(repo: str, name: str, revision: str) -> bool:
    """Whether the hub was asked before and has no such file."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    return try_to_load_from_cache(repo, name, revision=revision) is _CACHED_NO_EXIST


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
        told = f"{repo} ({revision}) on the hub has no {name} for {published.name}"
        if name != FILE:
            raise NoSuchFile(told, hint=elsewhere) from None
        convert = f"download {repo}, {converting('pytorch_model.bin')}"
        raise NoSafetensors(told, hint=f"{convert}; then pass the folder as weights") from None
    except (HTTPError, OSError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
    raise WeightsNotFound(f"{published.name} weights {repo} cannot be downloaded ({why})", hint=elsewhere)
