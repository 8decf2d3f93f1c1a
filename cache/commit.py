"""All or nothing on disk: a folder is written beside its place, made durable, and published by one rename.

Killed anywhere, the cache is either without the folder or with all of it. Whoever writes holds a lock on his draft, so
leftovers are those that nobody holds; the next writer removes them. (Process numbers would not tell: those of another
container mean nothing here.)
"""

import contextlib
import ctypes
import errno
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

from cache.errors import CacheError
from cache.lease import is_held, lease, release
from cache.remote import remote_to_write

STAGING = ".staging"
_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENOENT}


@contextlib.contextmanager
def staged(root: Path, target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A fresh folder to fill; at the end of the block it becomes ``target``, in one step.

    Where ``target`` is committed already, the first one stays (what is committed never changes), or, with ``replace``,
    gives way. Raises CacheError where the disk is full or read-only; nothing is published then.
    """
    with _draft(root) as folder:
        folder.mkdir()
        remote = remote_to_write(root, target)
        yield folder
        _sync_folders(folder)
        with remote.uploading(folder, target, replace=replace) if remote else contextlib.nullcontext():
            target.parent.mkdir(parents=True, exist_ok=True)
            _publish(root, folder, target, replace)
            _sync(target.parent)


@contextlib.contextmanager
def at_work(root: Path) -> Iterator[str]:
    """A fresh name in the staging folder, held by us for the block: others see in it that the cache is being written.

    Raises CacheError where it cannot be written.
    """
    name = f"{socket.gethostname()}~{os.getpid()}~{uuid.uuid4().hex[:8]}"
    with claim(root, name, wait=True):
        yield name


@contextlib.contextmanager
def _draft(root: Path) -> Iterator[Path]:
    """A fresh path in the staging folder, ours for the block; what is there at its end is removed."""
    with writing(root), at_work(root) as name:
        draft = root / STAGING / name
        try:
            yield draft
        finally:
            _remove(draft)


def _remove(draft: Path) -> None:
    shutil.rmtree(draft, ignore_errors=True)
    with contextlib.suppress(OSError):
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(root: Path) -> Iterator[None]:
    """Says in one line that the cache cannot be written, where that is what an OSError means."""
    try:
        yield
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        raise CacheError(
            f"cannot write to the cache at {root}: {error.strerror}",
            hint="make room or make it writable, and run the same command again; what is committed is safe",
        ) from error


def publish_file(root: Path, path: Path, data: bytes) -> None:
    """Write one small file in one step, replacing what is there. Raises CacheError as ``staged`` does."""
    with _draft(root) as draft:
        with open(draft, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        remote = remote_to_write(root, path)
        with remote.uploading_file(path, data) if remote else contextlib.nullcontext():
            path.parent.mkdir(exist_ok=True)
            os.replace(draft, path)
            _sync(path.parent)


def withdraw(root: Path, path: Path) -> None:
    """Remove one small file, if it is there. Raises CacheError where it cannot be."""
    with writing(root):
        remote = remote_to_write(root, path)
        with remote.removing(path) if remote and path.exists() else contextlib.nullcontext():
            path.unlink(missing_ok=True)


def _publish(root: Path, folder: Path, target: Path, replace: bool) -> None:
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if replace or not (target / "zarr.json").is_file():
            _exchange(root, folder, target)


def _exchange(root: Path, folder: Path, target: Path) -> None:
    """Swap two folders in one step where the system can (Linux), else in two; the old one is removed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        if libc.renameat2(here, os.fsencode(folder), here, os.fsencode(target), both) == 0:
            return
    with _draft(root) as aside:
        os.rename(target, aside)
        os.rename(folder, target)


def discard(root: Path, folder: Path) -> None:
    """Remove a folder in one step, as far as readers can see."""
    with _draft(root) as aside:
        remote = remote_to_write(root, folder)
        with remote.removing(folder) if remote else contextlib.nullcontext():
            os.rename(folder, aside)
            _sync(folder.parent)


@contextlib.contextmanager
def claim(root: Path, name: str, *, wait: bool) -> Iterator[bool]:
    """Whether this process now holds ``name`` alone; with ``wait`` it does, sooner or later. Ends with the process."""
    path = root / STAGING / f"{name}.lock"
    with writing(root):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = lease(path, wait=wait)
    if file is None:
        yield False
        return
    try:
        yield True
    finally:
        release(path, file)


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
    """Remove what writers of this machine that live no longer left behind."""
    for lock in (root / STAGING).glob("*.lock"):
        with claim(root, lock.stem, wait=False):
            pass
    for leftover in leftovers(root):
        _remove(leftover)


def leftovers(root: Path) -> list[Path]:
    """What nobody holds in the staging folder, sorted. What other machines have there may be held unseen: not that."""
    ours = [f for f in _drafts(root) if f.name.split("~")[0] == socket.gethostname()]
    return [f for f in ours if not is_held(f.with_name(f"{f.name}.lock"))]


def in_progress(root: Path) -> list[str]:
    """Names of what is being written or worked on now, as far as can be seen here, sorted."""
    dead = set(leftovers(root))
    held = {lock.stem for lock in (root / STAGING).glob("*.lock") if is_held(lock)}
    return sorted({f.name for f in _drafts(root) if f not in dead} | held)


def _drafts(root: Path) -> list[Path]:
    staging = root / STAGING
    return sorted(f for f in staging.iterdir() if f.suffix != ".lock") if staging.is_dir() else []
