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
from typing import IO

from cache.errors import CacheError
from cache.remote import remote_of

STAGING = ".staging"
_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENOENT}


@contextlib.contextmanager
def staged(root: Path, target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A fresh folder to fill; at the end of the block it becomes ``target``, in one step.

    Where ``target`` is committed already, the first one stays (what is committed never changes), or, with ``replace``,
    gives way. Raises CacheError where the disk is full or read-only; nothing is published then.
    """
    folder = root / STAGING / _unique_name()
    try:
        with writing(root):
            folder.mkdir(parents=True)
            yield folder
            _sync_folders(folder)
            if remote := remote_of(root):
                remote.put_folder(folder, target, replace=replace)
            target.parent.mkdir(parents=True, exist_ok=True)
            _publish(folder, target, replace)
            _sync(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
    draft = root / STAGING / _unique_name()
    try:
        with writing(root):
            draft.parent.mkdir(parents=True, exist_ok=True)
            with open(draft, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if remote := remote_of(root):
                remote.put_file(path, data)
            path.parent.mkdir(exist_ok=True)
            os.replace(draft, path)
            _sync(path.parent)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def withdraw(root: Path, path: Path) -> None:
    """Remove one small file, if it is there. Raises CacheError where it cannot be."""
    with writing(root):
        if (remote := remote_of(root)) and path.exists():
            remote.remove(path)
        path.unlink(missing_ok=True)


def _unique_name() -> str:
    return f"{socket.gethostname()}~{os.getpid()}~{uuid.uuid4().hex[:8]}"


def _publish(folder: Path, target: Path, replace: bool) -> None:
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if replace or not (target / "zarr.json").is_file():
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


def discard(root: Path, folder: Path) -> None:
    """Remove a folder in one step, as far as readers can see."""
    with writing(root):
        if remote := remote_of(root):
            remote.remove(folder)
        aside = root / STAGING / _unique_name()
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder, aside)
        _sync(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def claim(root: Path, name: str, *, wait: bool) -> Iterator[bool]:
    """Whether this process now holds ``name`` alone; with ``wait`` it does, sooner or later. Ends with the process."""
    path = root / STAGING / f"{name}.lock"
    with writing(root):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _locked(path, wait)
    if file is None:
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _locked(path: Path, wait: bool) -> IO[str] | None:
    """The file of that path, locked; None where another has it and we do not wait."""
    while True:
        file = open(path, "w")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                return file
        except BlockingIOError:
            file.close()
            return None
        except FileNotFoundError:
            pass
        file.close()  # its last holder has removed it: what we hold is no lock any more


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
    for lock in staging.glob("*.lock"):
        with claim(root, lock.stem, wait=False):
            pass
    for leftover in leftovers(root):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def leftovers(root: Path) -> list[Path]:
    """What writers of this machine that live no longer left in the staging folder, sorted."""
    return [f for f in _drafts(root) if _writer(f)[0] == socket.gethostname() and not _alive(_writer(f)[1])]


def in_progress(root: Path) -> list[Path]:
    """What writers that live, or are of another machine, have in the staging folder now, sorted."""
    dead = set(leftovers(root))
    return [f for f in _drafts(root) if f not in dead]


def _drafts(root: Path) -> list[Path]:
    staging = root / STAGING
    return sorted(f for f in staging.iterdir() if f.suffix != ".lock") if staging.is_dir() else []


def _writer(draft: Path) -> tuple[str, int]:
    """Machine and process of what lies in the staging folder; process 0 where its name does not say."""
    host, pid, *_ = [*draft.name.split("~"), ""]
    return host, int(pid) if pid.isdigit() else 0


def _alive(pid: int) -> bool:
    if not pid:
        return True  # not known
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
