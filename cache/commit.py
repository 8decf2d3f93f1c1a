"""All or nothing on disk: a folder is written beside its place, made durable, and published by one rename.

Killed anywhere, the cache is either without the folder or with all of it. Leftovers of dead processes are removed by
the next writer.
"""

import contextlib
import errno
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

from cache.errors import CacheError

STAGING = ".staging"


@contextlib.contextmanager
def staged(root: Path, target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A fresh folder to fill; at the end of the block it becomes ``target``, in one step.

    Where ``target`` exists already, the first one stays (what is committed never changes), or, with ``replace``,
    gives way. Raises CacheError where the disk is full or read-only; nothing is published then.
    """
    folder = root / STAGING / _unique_name()
    try:
        folder.mkdir(parents=True)
        yield folder
        _sync_folders(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        _publish(folder, target, replace)
        _sync(target.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise CacheError(
                f"cannot write to the cache at {root}: {error.strerror}",
                hint="free or enlarge that disk and run the same command again; what is committed is safe",
            ) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish_file(root: Path, path: Path, data: bytes) -> None:
    """Write one small file in one step, replacing what is there."""
    (root / STAGING).mkdir(parents=True, exist_ok=True)
    draft = root / STAGING / _unique_name()
    with open(draft, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    path.parent.mkdir(exist_ok=True)
    os.replace(draft, path)
    _sync(path.parent)


def _unique_name() -> str:
    return f"{socket.gethostname()}~{os.getpid()}~{uuid.uuid4().hex[:8]}"


def _publish(folder: Path, target: Path, replace: bool) -> None:
    while True:
        try:
            os.rename(folder, target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if not replace:
            return
        old = folder.with_name(folder.name + "~old")
        with contextlib.suppress(FileNotFoundError):  # another writer may have moved it away just now
            os.rename(target, old)
            shutil.rmtree(old)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_folders(top: Path) -> None:
    for folder, _, _ in os.walk(top, topdown=False):
        _sync(Path(folder))


def sweep(root: Path) -> None:
    """Remove what writers that no longer live on this machine left behind."""
    staging = root / STAGING
    if not staging.is_dir():
        return
    for leftover in staging.iterdir():
        host, pid, *_ = [*leftover.name.split("~"), ""]
        if host == socket.gethostname() and pid.isdigit() and not _alive(int(pid)):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
