"""All or nothing on disk: a folder is written beside its place, made durable, and published by one rename.

Killed anywhere, the cache is either without the folder or with all of it. Leftovers of dead processes are removed by
the next writer.
"""

import contextlib
import ctypes
import errno
import fcntl
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
                hint="make room or make it writable, and run the same command again; what is committed is safe",
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
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if replace:
            _exchange(folder, target)


def _exchange(folder: Path, target: Path) -> None:
    """Swap two folders in one step where the system can (Linux), else in two; the old one is removed by the caller."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        if libc.renameat2(here, os.fsencode(folder), here, os.fsencode(target), both) == 0:
            return
    aside = folder.with_name(folder.name + "~old")
    os.rename(target, aside)
    os.rename(folder, target)
    shutil.rmtree(aside)


@contextlib.contextmanager
def claim(root: Path, name: str, *, wait: bool) -> Iterator[bool]:
    """Whether this process now holds ``name`` alone; with ``wait`` it does, sooner or later. Ends with the process."""
    (root / STAGING).mkdir(parents=True, exist_ok=True)
    path = root / STAGING / f"{name}.lock"
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)


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
    for lock in staging.glob("*.lock"):
        with claim(root, lock.stem, wait=False):
            pass
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
