"""Locks that end with their holder: at once on this machine, after a while for holders on other machines.

The kernel's lock decides between processes of one machine, and on a file system that carries such locks between all.
Where it does not (some NFS, Lustre), the lock's file decides: it says whose it is, and its holder touches it as long as
he lives; one that was not touched for ``LEASE_S`` has no holder. Ages are by the clock of the file system.

A machine that stands still for longer than that loses what it holds. Then two may do the same work; since what is
committed first stays, that costs time, never a row.
"""

import fcntl
import os
import socket
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import IO

LEASE_S = 180.0  # NFS shows others' times up to a minute late
_SETTLE_S = 2.0  # from taking over a lease to being sure that no other did at the same time
_LOOK_S = 1.0  # between looks at a lease of another machine
_held: set[int] = set()  # descriptors of what this process holds
_guard = threading.Lock()


def lease(path: Path, *, wait: bool) -> IO[str] | None:
    """The open file of a lock, which is now ours; None where another holds it and we do not wait."""
    while True:
        file, new = _opened(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            same = os.fstat(file.fileno()).st_ino == path.stat().st_ino  # else its last holder has removed it
            if same and (new or not _is_leased(path, file)) and _signed(path, file, new):
                return file
        except FileNotFoundError:
            same = False
        except BlockingIOError:
            file.close()
            return None
        file.close()
        if same and not wait:
            return None
        if same:
            time.sleep(_LOOK_S)


def release(path: Path, file: IO[str]) -> None:
    """Give a lock back; its file is removed, unless it was taken over meanwhile."""
    with _guard:
        _held.discard(file.fileno())
    try:
        if os.fstat(file.fileno()).st_ino == path.stat().st_ino and _is_ours(_owner_at(path)):
            path.unlink()
    except FileNotFoundError:
        pass
    file.close()


def is_held(path: Path) -> bool:
    """Whether someone who lives holds that lock; one that may not be looked at counts as held."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return _is_leased(path, file)
    except FileNotFoundError:
        return False
    except (BlockingIOError, PermissionError):
        return True


def _opened(path: Path) -> tuple[IO[str], bool]:
    """The lock's file, and whether it is new: of several machines just one makes it."""
    try:
        return open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), "r+", encoding="utf-8"), True
    except FileExistsError:
        return open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8", errors="replace"), False


def _is_leased(path: Path, file: IO[str]) -> bool:
    """Whether a holder on another machine, unseen by the kernel's lock, may live. An unsigned file has a moment."""
    owner = _owner(file)
    if _is_ours(owner or path.name):
        return False
    with tempfile.TemporaryFile(dir=path.parent) as now:
        age = os.fstat(now.fileno()).st_mtime - os.fstat(file.fileno()).st_mtime
    return age < (LEASE_S if owner else _SETTLE_S)


def _signed(path: Path, file: IO[str], new: bool) -> bool:
    """Make it ours. Where it was another machine's, whoever signs last has it: all wait, and look who did."""
    another = not new and not _is_ours(_owner(file) or path.name)
    mine = f"{socket.gethostname()}~{uuid.uuid4().hex}"
    file.seek(0)
    file.truncate()
    file.write(mine)
    file.flush()
    if not _is_ours(path.name):  # else nobody of another machine wants it
        os.fsync(file.fileno())  # others see it from here on
    if another:
        time.sleep(_SETTLE_S)
        if _owner_at(path) != mine:
            return False
    with _guard:
        _held.add(file.fileno())
        _renewing()
    return True


def _is_ours(name: str) -> bool:
    return name.partition("~")[0] == socket.gethostname()


def _owner(file: IO[str]) -> str:
    file.seek(0)
    return file.read(200)


def _owner_at(path: Path) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # opened anew: NFS shows what others closed
        return file.read(200)


def _renewing() -> None:
    """There is a thread that renews what this process holds; it ends with it."""
    name = f"leases of {os.getpid()}"  # a fork has none
    if not any(t.name == name for t in threading.enumerate()):
        threading.Thread(target=_renew, name=name, daemon=True).start()


def _renew() -> None:
    while True:
        time.sleep(LEASE_S / 6)
        with _guard:
            for descriptor in _held:
                os.utime(descriptor)
