"""A cache at an fsspec URL (object storage): a local mirror fetches what is read and uploads what is committed.

Readers and writers work on the mirror as on any cache; nothing else in the program knows of URLs. Metadata, masks,
times and labels are brought up to date when the cache is opened; features of a recording are fetched when first read,
and kept. There is no rename on object storage: a group's arrays go up first and its commit record last, so it is there
whole or not at all. Statistics are derived and stay local.
"""

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cache.errors import CacheError, UsageError

MARK = ".mirror.json"
_LOCAL = re.compile(r"\.|stats(/|$)")  # what has no counterpart at the URL
_ON_DEMAND = re.compile(r"features/[^/]+/[^/]+/values/c/")
_AT_ONCE = 256  # files asked for together


def is_url(where: Path | str) -> bool:
    """Whether that is the address of a cache elsewhere, such as s3://bucket/cache, and no folder."""
    return "://" in str(where)


def mirror(url: str, *, anew: bool = False) -> Path:
    """The local mirror of a cache, brought up to date; with ``anew`` nothing of an earlier mirror is believed.

    It lies below ``$AFFUSE_MIRRORS``, by default ``~/.cache/affuse``. Raises CacheError where it cannot be reached.
    """
    top = Path(os.environ.get("AFFUSE_MIRRORS") or Path.home() / ".cache" / "affuse")
    name = re.sub(r"[^\w.-]+", "-", url.rstrip("/").partition("://")[2]).strip("-.")
    root = top / f"{name[-80:]}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:12]}"
    remote = Remote(url.rstrip("/"), root)
    if anew:
        shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    remote.refresh()
    return root


def remote_of(root: Path) -> "Remote | None":
    """Where a mirror comes from; None for any other folder."""
    mark = root / MARK
    return Remote(json.loads(mark.read_bytes())["url"], root) if mark.is_file() else None


def fetch_missing(path: Path) -> bool:
    """Fetch a file that a mirror lacks; False where the path is in no mirror, or in no cache behind it."""
    for root in path.parents:
        remote = remote_of(root)
        if remote is not None:
            return remote.fetch(path)
    return False


@functools.cache
def _file_system(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs

        return tuple(url_to_fs(url))
    except ImportError as error:
        raise UsageError(f"{url} needs more than is installed: {error}", hint="pip install 'affuse[cloud]'") from error
    except ValueError as error:
        raise UsageError(f"{url}: {error}") from error


@dataclass(frozen=True)
class Remote:
    """One cache elsewhere (url) and its mirror here (root)."""

    url: str
    root: Path

    def refresh(self) -> None:
        """Fetch what is new or changed at the URL, but for feature values; forget what is gone."""
        there, known = self._listing(), self._tags()
        kept = {p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file()}
        for name in kept - {n for n in there if known.get(n) == there[n]}:
            if not _LOCAL.match(name):
                (self.root / name).unlink(missing_ok=True)
        wanted = [n for n in there if not _ON_DEMAND.match(n) and not (self.root / n).is_file()]
        fs, base = _file_system(self.url)
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            with self._reaching():
                found = fs.cat([f"{base}/{n}" for n in some], on_error="return")
            for name, data in zip(some, (found.get(f"{base}/{n}") for n in some), strict=True):
                if isinstance(data, bytes):
                    self._keep(name, data)
                elif not isinstance(data, FileNotFoundError):
                    raise CacheError(f"cannot read {self.url}/{name}: {data}")
        self._forget_half_uploaded(there)
        self._keep(MARK, json.dumps({"url": self.url, "tags": there}).encode())

    def _listing(self) -> dict[str, str]:
        """What is at the URL: names inside the cache, with a tag that changes when the content does."""
        fs, base = _file_system(self.url)
        with self._reaching():
            fs.invalidate_cache()
            try:
                found = fs.find(base, detail=True)
            except FileNotFoundError:
                return {}
        names = {path.removeprefix(base).lstrip("/"): about for path, about in found.items()}
        return {n: _tag(about) for n, about in names.items() if n and _inside(n) and not _LOCAL.match(n)}

    def _tags(self) -> dict[str, str]:
        mark = self.root / MARK
        return dict(json.loads(mark.read_bytes())["tags"]) if mark.is_file() else {}

    def _forget_half_uploaded(self, there: dict[str, str]) -> None:
        """A listing takes time: a commit record whose arrays were not listed yet is looked at next time."""
        for name in [n for n in there if n.endswith("/zarr.json") and n.count("/") > 1]:
            path = self.root / name
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                arrays = json.loads(path.read_bytes())["attributes"]["affuse"].get("arrays", {})
                if any(f"{name.removesuffix('zarr.json')}{a}/zarr.json" not in there for a in arrays):
                    path.unlink()

    def fetch(self, path: Path) -> bool:
        """Fetch one file of the mirror; False where it is not at the URL."""
        fs, base = _file_system(self.url)
        name = path.relative_to(self.root).as_posix()
        with self._reaching():
            try:
                self._keep(name, fs.cat_file(f"{base}/{name}"))
            except FileNotFoundError:
                return False
        return True

    def put_folder(self, folder: Path, target: Path, *, replace: bool) -> None:
        """Upload a finished folder to where ``target`` is: its own ``zarr.json`` last. The first one stays."""
        fs, base = _file_system(self.url)
        place = f"{base}/{target.relative_to(self.root).as_posix()}"
        if _LOCAL.match(target.relative_to(self.root).as_posix()):
            return
        with self._reaching():
            fs.invalidate_cache()
            if fs.exists(f"{place}/zarr.json"):
                if not replace:
                    return
                fs.rm_file(f"{place}/zarr.json")
            files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
            stale = [p for p in self._files_in(place) if p.removeprefix(place).lstrip("/") not in files]
            for path in stale:
                fs.rm_file(path)
            for name in sorted(files, key=lambda n: n == "zarr.json"):
                fs.pipe_file(f"{place}/{name}", (folder / name).read_bytes())

    def put_file(self, path: Path, data: bytes) -> None:
        """Upload one small file, in one step."""
        fs, base = _file_system(self.url)
        name = path.relative_to(self.root).as_posix()
        if not _LOCAL.match(name):
            with self._reaching():
                fs.pipe_file(f"{base}/{name}", data)

    def remove(self, path: Path) -> None:
        """Remove a file or a folder at the URL, the commit record first."""
        fs, base = _file_system(self.url)
        place = f"{base}/{path.relative_to(self.root).as_posix()}"
        with self._reaching():
            fs.invalidate_cache()
            for found in sorted(self._files_in(place), key=lambda p: p != f"{place}/zarr.json"):
                fs.rm_file(found)

    def _files_in(self, place: str) -> list[str]:
        fs, _ = _file_system(self.url)
        try:
            return list(fs.find(place))
        except FileNotFoundError:
            return []

    def _keep(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{uuid.uuid4().hex}")
        draft.write_bytes(data)
        os.replace(draft, path)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:  # every file system behind fsspec has errors of its own
            raise CacheError(
                f"cannot reach {self.url}: {type(error).__name__}: {error}",
                hint="check the address and the credentials, and run again; what is committed is safe",
            ) from error


def _tag(about: dict[str, Any]) -> str:
    found = next((about[k] for k in ("ETag", "etag", "md5Hash", "checksum", "mtime", "created") if k in about), "")
    return f"{about.get('size')}:{found}"


def _inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return ".." not in parts and not name.startswith("/") and "\\" not in name
