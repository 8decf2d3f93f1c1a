"""Files at an fsspec URL, as a cache there needs them: listed with tags, fetched and sent many at a time, removed.

There is no rename on object storage, and no lock; what holds a cache together there is told in ``cache/remote.py``.
"""

import contextlib
import errno
import functools
import math
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.errors import CacheError, UsageError
from cache.mark import is_inside

_AT_ONCE = 64  # files asked for together
_PUT_S, _SLOWEST = 900.0, 100_000  # seconds of sending anything; and bytes a second
_HERE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # while fetching, of this disk
_NO_FOLDERS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss", "memory"}
_TAKEN = re.compile("PreconditionFailed|ConditionalRequestConflict")
#: What tells one content of a file from another, by whoever is asked: the best first.
_TELLING = (
    *("ETag", "etag", "md5Hash", "md5", "checksum", "content_hash", "blob_id", "sha"),
    *("mtime", "modificationTime", "last_write_time", "LastModified", "last_modified", "modified", "modify", "updated"),
    "created",
)


@dataclass(frozen=True)
class Far:
    """The files below one URL. Names are relative to it. Every method raises CacheError where it cannot be reached."""

    url: str

    def tags(self, below: str = "") -> dict[str, str]:
        """What is there now: names with a tag, ``size:what changes with the content``, as far as that is told."""
        fs, base = _file_system(self.url)
        with self._reaching():
            fs.invalidate_cache()
            try:
                found = fs.find(f"{base}/{below}".rstrip("/"), detail=True)
            except FileNotFoundError:
                return {}
        names = {path.removeprefix(base).lstrip("/"): _tag(about) for path, about in found.items()}
        return {name: tag for name, tag in names.items() if name and is_inside(name)}

    def tag(self, name: str) -> str:
        """The tag of one file that is there."""
        fs, base = _file_system(self.url)
        with self._reaching():
            return _tag(fs.info(f"{base}/{name}"))

    def get(self, files: Mapping[str, Path]) -> None:
        """Fetch files; what is gone by now is left out. Raises OSError where this disk is full or read-only."""
        fs, base = _file_system(self.url)
        for some in _batches(files):
            with self._reaching(but=_HERE):
                _get(fs, {f"{base}/{name}": path for name, path in some.items()})

    def put(self, files: Mapping[str, Path]) -> None:
        """Send files."""
        fs, base = _file_system(self.url)
        with self._reaching():
            self._make_folders(files)
            for some in _batches(files):
                size = sum(path.stat().st_size for path in some.values())
                fs.put([str(p) for p in some.values()], [f"{base}/{name}" for name in some], **_in_time(fs, size))

    def put_bytes(self, name: str, data: bytes) -> None:
        """Send one small file."""
        fs, base = _file_system(self.url)
        with self._reaching():
            self._make_folders([name])
            fs.pipe_file(f"{base}/{name}", data, **_in_time(fs, len(data)))

    def create(self, name: str, data: bytes) -> bytes:
        """Send one small file where there is none; returns what is there then, nothing if it is gone again.

        Of those who do so at the same time just one finds his own there, where the store can decide that.
        """
        fs, base = _file_system(self.url)
        with self._reaching():
            self._make_folders([name])
            try:
                fs.pipe_file(f"{base}/{name}", data, mode="create", **_in_time(fs, len(data)))
            except Exception as error:  # a repeated request may find what it made itself
                if getattr(error, "errno", 0) == errno.ENOSYS:  # a store that knows no conditions
                    fs.pipe_file(f"{base}/{name}", data, **_in_time(fs, len(data)))
                elif not isinstance(error, FileExistsError) and not _TAKEN.search(str(error.__cause__)):
                    raise
        return self.read(name)

    def read(self, name: str) -> bytes:
        """One small file; nothing where there is none."""
        fs, base = _file_system(self.url)
        with self._reaching():
            try:
                return bytes(fs.cat_file(f"{base}/{name}"))
            except FileNotFoundError:
                return b""

    def remove(self, names: Iterable[str]) -> None:
        """Remove files one after the other; what is gone already is as good."""
        fs, base = _file_system(self.url)
        with self._reaching():
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    fs.rm_file(f"{base}/{name}")

    def age_s(self, below: str) -> float:
        """Seconds since anything below a folder was last written; 0 where the store cannot tell."""
        fs, base = _file_system(self.url)
        with self._reaching(), contextlib.suppress(NotImplementedError):
            times = [fs.modified(f"{base}/{name}") for name in self.tags(below)]
            return min((time.time() - t.timestamp() for t in times), default=math.inf)
        return 0.0

    def _make_folders(self, names: Iterable[str]) -> None:
        fs, base = _file_system(self.url)
        if not _NO_FOLDERS.isdisjoint([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol):
            return
        for folder in sorted({f"{base}/{name}".rpartition("/")[0] for name in names}):
            fs.makedirs(folder, exist_ok=True)

    @contextlib.contextmanager
    def _reaching(self, but: Collection[int | None] = ()) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # every file system behind fsspec has errors of its own
            if isinstance(error, CacheError) or (isinstance(error, OSError) and error.errno in but):
                raise
            raise CacheError(
                f"cannot reach {self.url}: {type(error).__name__}: {error}",
                hint="check the address and the credentials, and run again; what is committed is safe",
            ) from error


@functools.cache
def _file_system(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs

        fs, base = url_to_fs(url, **_patience(url))
    except ImportError as error:
        raise UsageError(f"{url} needs more than is installed: {error}", hint="pip install 'affuse[cloud]'") from error
    except ValueError as error:
        raise UsageError(f"{url}: {error}") from error
    return fs, base.rstrip("/")


def _patience(url: str) -> dict[str, Any]:
    """How often S3 is asked again, for as long as a busy or restarted server takes; the user's own settings win."""
    if not url.startswith(("s3://", "s3a://")):
        return {}
    from botocore.session import Session
    from fsspec.config import conf

    session = Session()
    profile = session.full_config["profiles"].get(session.profile or "default", {})
    told = {*conf.get("s3", {}), *conf.get("s3a", {}), *profile, *os.environ}
    if told & {"config_kwargs", "max_attempts", "retry_mode", "AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"}:
        return {}
    return {"config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": 6}}}


def _in_time(fs: Any, size: int) -> dict[str, float]:
    """A limit on sending so many bytes, retries included.

    A server that says that it listens to a body, and then nothing, is waited for without end otherwise: aiohttp's limit
    on reading is dropped with that first answer.
    """
    return {"timeout": _PUT_S + size / _SLOWEST} if fs.async_impl else {}


def _batches(files: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    items = list(files.items())
    for start in range(0, len(items), _AT_ONCE):
        yield dict(items[start : start + _AT_ONCE])


def _get(fs: Any, files: dict[str, Path]) -> None:
    """Download files; where one of them is gone, or came damaged, one at a time."""
    try:
        fs.get([*files], [str(path) for path in files.values()])
    except Exception as error:
        if not isinstance(error, FileNotFoundError) and not _came_damaged(error):
            raise
        for name, path in files.items():
            with contextlib.suppress(FileNotFoundError):
                _get_one(fs, name, path)


def _get_one(fs: Any, name: str, path: Path) -> None:
    try:
        fs.get_file(name, str(path))
    except Exception as error:
        if not _came_damaged(error):
            raise
        fs.get_file(name, str(path))


def _came_damaged(error: Exception) -> bool:
    """Of S3: what came has not the checksum that was told with it. Nobody but us asks again."""
    return type(error).__name__ == "FlexibleChecksumError"


def _tag(about: dict[str, Any]) -> str:
    told = next((about[k] for k in _TELLING if about.get(k) not in (None, "")), "")
    return f"{about.get('size')}:{told}"
