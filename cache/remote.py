"""A cache at an fsspec URL (object storage): a local mirror fetches what is read and uploads what is committed.

Readers and writers work on the mirror as on any cache; nothing else in the program knows of URLs. Metadata, masks,
times and labels are brought up to date when the cache is opened; feature values are fetched when a stream is read, and
kept. There is no rename on object storage: a group's arrays go up first and its commit record last, so it is there
whole or not at all. Statistics are derived and stay local.
"""

import contextlib
import functools
import hashlib
import json
import logging
import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cache.errors import CacheError, UsageError

log = logging.getLogger("affuse")
MARK = ".mirror.jsonl"  # one line says whose mirror it is; the others, which content of which file it holds
_LOCAL = re.compile(r"\.|stats(/|$)")  # what has no counterpart at the URL
_ON_DEMAND = re.compile(r"features/[^/]+/[^/]+/values/c/")
_AT_ONCE = 64  # files asked for together


def is_url(where: Path | str) -> bool:
    """Whether that is the address of a cache elsewhere, such as s3://bucket/cache, and no folder."""
    return "://" in str(where)


def mirror(url: str, *, anew: bool = False) -> Path:
    """The local mirror of a cache, brought up to date; with ``anew`` nothing of an earlier mirror is believed.

    It lies below ``$AFFUSE_MIRRORS``, by default ``~/.cache/affuse``. Raises CacheError where it cannot be reached.
    """
    url = url.rstrip("/")
    top = Path(os.environ.get("AFFUSE_MIRRORS") or Path.home() / ".cache" / "affuse")
    name = re.sub(r"[^\w.-]+", "-", url.partition("://")[2]).strip("-.")
    remote = Remote(url, top / f"{name[-80:]}-{hashlib.sha256(url.encode()).hexdigest()[:12]}")
    if anew:
        shutil.rmtree(remote.root, ignore_errors=True)
    remote.root.mkdir(parents=True, exist_ok=True)
    remote.refresh()
    return remote.root


def local_root(where: Path | str) -> Path:
    """The folder that stands for a cache here: its mirror where ``where`` is a URL."""
    return mirror(str(where)) if is_url(where) else Path(where)


def remote_of(root: Path) -> "Remote | None":
    """Where a mirror comes from; None for any other folder."""
    lines = _lines(root / MARK)
    return Remote(lines[0]["url"], root) if lines else None


def remote_behind(path: Path) -> "Remote | None":
    """Where the mirror that a path lies in comes from; None for a path in no mirror."""
    return next((found for root in path.parents if (found := remote_of(root))), None)


@dataclass(frozen=True)
class Remote:
    """One cache elsewhere (url) and its mirror here (root)."""

    url: str
    root: Path

    def refresh(self) -> None:
        """Fetch what is new or changed at the URL, but for feature values; forget what is gone."""
        there, known = self._listing(), self._tags()
        here = {p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file()}
        for name in here - {n for n in there if known.get(n) == there[n]}:
            if not _LOCAL.match(name):
                (self.root / name).unlink(missing_ok=True)
        self._download(n for n in there if not _ON_DEMAND.match(n) and not (self.root / n).is_file())
        self._forget_half_uploaded(there)
        lines = [{"url": self.url}, *({n: tag} for n, tag in there.items())]
        draft = self.root / f".{uuid.uuid4().hex}"
        draft.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        os.replace(draft, self.root / MARK)

    def fetch_values(self, folder: str = "features/") -> None:
        """Fetch the feature values below a folder that are not here yet."""
        wanted = [n for n in self._tags() if n.startswith(folder) and not (self.root / n).is_file()]
        if wanted:
            log.info("%d files of %s are fetched from %s", len(wanted), folder.strip("/"), self.url)
        self._download(wanted)

    def fetch(self, path: Path) -> bool:
        """Fetch one file of the mirror; False where it is not at the URL."""
        self._download([path.relative_to(self.root).as_posix()])
        return path.is_file()

    def size(self, path: Path) -> int:
        """Bytes of a file at the URL. Raises FileNotFoundError where it was not there when last looked."""
        try:
            return self.sizes(path)[path]
        except KeyError:
            raise FileNotFoundError(f"{path} is not at {self.url} either") from None

    def sizes(self, folder: Path) -> dict[Path, int]:
        """Bytes of the files at the URL that stand below a folder, as far as known here."""
        files = ((self.root / name, int(tag.partition(":")[0])) for name, tag in self._tags().items())
        return {path: size for path, size in files if path.is_relative_to(folder)}

    def put_folder(self, folder: Path, target: Path, *, replace: bool) -> None:
        """Upload a finished folder to where ``target`` is: its own ``zarr.json`` last. The first one stays."""
        fs, base = _file_system(self.url)
        inside = target.relative_to(self.root).as_posix()
        place = f"{base}/{inside}"
        if _LOCAL.match(inside):
            return
        with self._reaching():
            fs.invalidate_cache()
            if fs.exists(f"{place}/zarr.json"):
                if not replace:
                    return
                fs.rm_file(f"{place}/zarr.json")
            files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
            for path in self._files_in(place):
                if path.removeprefix(place).lstrip("/") not in files:
                    fs.rm_file(path)
            for name in sorted(files, key=lambda n: n == "zarr.json"):
                fs.makedirs(f"{place}/{name}".rpartition("/")[0], exist_ok=True)
                fs.put_file(str(folder / name), f"{place}/{name}")
        self._remember(f"{inside}/{name}" for name in files)

    def put_file(self, path: Path, data: bytes) -> None:
        """Upload one small file, in one step."""
        fs, base = _file_system(self.url)
        name = path.relative_to(self.root).as_posix()
        if not _LOCAL.match(name):
            with self._reaching():
                fs.makedirs(f"{base}/{name}".rpartition("/")[0], exist_ok=True)
                fs.pipe_file(f"{base}/{name}", data)
            self._remember([name])

    def remove(self, path: Path) -> None:
        """Remove a file or a folder at the URL, the commit record first."""
        fs, base = _file_system(self.url)
        place = f"{base}/{path.relative_to(self.root).as_posix()}"
        with self._reaching():
            fs.invalidate_cache()
            for found in sorted(self._files_in(place), key=lambda p: p != f"{place}/zarr.json"):
                fs.rm_file(found)

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
        """What the mirror knows of the files at the URL."""
        return {name: tag for line in _lines(self.root / MARK)[1:] for name, tag in line.items()}

    def _remember(self, names: Iterable[str]) -> None:
        """Note that these files, uploaded from here, need not be fetched."""
        fs, base = _file_system(self.url)
        with self._reaching():
            lines = [json.dumps({name: _tag(fs.info(f"{base}/{name}"))}) + "\n" for name in names]
        with open(self.root / MARK, "a", encoding="utf-8") as file:
            file.write("".join(lines))

    def _download(self, names: Iterable[str]) -> None:
        """Fetch files; what is gone by now is left out."""
        fs, base = _file_system(self.url)
        wanted = list(names)
        drafts = self.root / f".fetched-{uuid.uuid4().hex}"
        try:
            drafts.mkdir()
            for start in range(0, len(wanted), _AT_ONCE):
                some = wanted[start : start + _AT_ONCE]
                with self._reaching():
                    _get(fs, {f"{base}/{n}": drafts / str(i) for i, n in enumerate(some)})
                for i, name in enumerate(some):
                    if (drafts / str(i)).is_file():
                        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                        os.replace(drafts / str(i), self.root / name)
        finally:
            shutil.rmtree(drafts, ignore_errors=True)

    def _forget_half_uploaded(self, there: dict[str, str]) -> None:
        """A listing takes time: a commit record whose arrays were not listed yet is looked at next time."""
        for name in [n for n in there if n.endswith("/zarr.json") and n.count("/") > 1]:
            path = self.root / name
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                arrays = json.loads(path.read_bytes())["attributes"]["affuse"].get("arrays", {})
                if any(f"{name.removesuffix('zarr.json')}{a}/zarr.json" not in there for a in arrays):
                    path.unlink()

    def _files_in(self, place: str) -> list[str]:
        fs, _ = _file_system(self.url)
        try:
            return list(fs.find(place))
        except FileNotFoundError:
            return []

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # every file system behind fsspec has errors of its own
            raise CacheError(
                f"cannot reach {self.url}: {type(error).__name__}: {error}",
                hint="check the address and the credentials, and run again; what is committed is safe",
            ) from error


def age_s(remote: Remote, folder: Path) -> float:
    """Seconds since anything below a folder of a mirror was last written at its URL; 0 where the store cannot tell."""
    fs, base = _file_system(remote.url)
    with remote._reaching(), contextlib.suppress(NotImplementedError):
        fs.invalidate_cache()
        times = [fs.modified(p) for p in remote._files_in(f"{base}/{folder.relative_to(remote.root).as_posix()}")]
        return min((time.time() - t.timestamp() for t in times), default=math.inf)
    return 0.0


@functools.cache
def _file_system(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs

        fs, base = url_to_fs(url)
    except ImportError as error:
        raise UsageError(f"{url} needs more than is installed: {error}", hint="pip install 'affuse[cloud]'") from error
    except ValueError as error:
        raise UsageError(f"{url}: {error}") from error
    return fs, base.rstrip("/")


def _get(fs: Any, files: dict[str, Path]) -> None:
    """Download files; where one of them is gone, all others, one at a time."""
    try:
        fs.get([*files], [str(path) for path in files.values()])
    except FileNotFoundError:
        for name, path in files.items():
            with contextlib.suppress(FileNotFoundError):
                fs.get_file(name, str(path))


def _lines(path: Path) -> list[dict[str, str]]:
    """The lines of a mirror's mark; none where there is no mark. A line that a kill cut short is left out."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def _tag(about: dict[str, Any]) -> str:
    found = next((about[k] for k in ("ETag", "etag", "md5Hash", "checksum", "mtime", "created") if k in about), "")
    return f"{about.get('size')}:{found}"


def _inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return ".." not in parts and not name.startswith("/") and "\\" not in name
