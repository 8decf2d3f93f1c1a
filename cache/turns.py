"""Turns among the machines that fill one cache: a recording is in the hands of one process at a time, wherever it runs.

Locks in a mirror are seen on its own machine alone. So whoever takes up a recording of a cache at a URL also makes an
object there, ``.staging/<recording>.turn``, by a conditional put that just one can win (S3: If-None-Match), and
rewrites it as long as he lives. One that reads the same for ``LEASE_S``, by the clock of whoever looks, has no holder
any more; nor has one of this very mirror, whose own lock is taken first. Who takes it over overwrites it, waits, and
looks whose it is.

A machine that stands still for longer loses its turn, and a store without conditional puts gives it to two at once:
both make the same recording then. That costs time; where their rows differ, what is there is whole, or found damaged
when it is checked, and made anew.
"""

import contextlib
import itertools
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from cache.commit import STAGING, claim
from cache.errors import CacheError
from cache.far import Far
from cache.ids import folder_of
from cache.lease import LEASE_S
from cache.remote import Remote, remote_to_write

_SETTLE_S = 2.0  # from taking over a turn to being sure that no other did at the same time
_LOOK_S = 1.0  # between looks at the turn of another machine
_seen: dict[tuple[str, str], tuple[bytes, float]] = {}  # of others' turns: what they read, since when


@contextlib.contextmanager
def take_turn(root: Path, recording: str, *, wait: bool) -> Iterator[bool]:
    """Whether we alone now have a recording in hand; with ``wait`` we do, sooner or later.

    What other machines have made of it is in the mirror by then. Raises CacheError where the cache is out of reach.
    """
    with claim(root, folder_of(recording), wait=wait) as mine:
        remote = remote_to_write(root, root / "features") if mine else None
        if remote is None:
            yield mine
            return
        with _turn(remote, f"{STAGING}/{folder_of(recording)}.turn", wait) as mine:
            if mine:
                remote.look([root / "timelines" / folder_of(recording), *_streams(root, recording)])
            yield mine


def _streams(root: Path, recording: str) -> Iterator[Path]:
    return (about.parent / folder_of(recording) for about in root.glob("features/*/zarr.json"))


@contextlib.contextmanager
def _turn(remote: Remote, file: str, wait: bool) -> Iterator[bool]:
    mine = f"{_of_mirror(remote.root)}{uuid.uuid4().hex}".encode()
    while not _taken(remote, file, mine):
        if not wait:
            yield False
            return
        time.sleep(_LOOK_S)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(remote.far, file, mine, ended), daemon=True)
    renewing.start()
    try:
        yield True
    except CacheError:
        ended.set()  # the URL may be out of reach: our turn there ends by itself
        raise
    except BaseException:
        _give_back(remote.far, file, mine, ended, renewing)
        raise
    _give_back(remote.far, file, mine, ended, renewing)


def _taken(remote: Remote, file: str, mine: bytes) -> bool:
    far, now = remote.far, time.monotonic()
    there = far.create(file, mine)
    if there == mine:
        return True
    known, since = _seen.get((far.url, file), (b"", now))
    if known != there:
        _seen[far.url, file] = there, now
        since = now
    if now - since < LEASE_S and not there.startswith(_of_mirror(remote.root).encode()):
        return False
    far.put_bytes(file, mine)
    time.sleep(_SETTLE_S)
    return far.read(file) == mine


def _of_mirror(root: Path) -> str:
    """A name for a mirror: its machine, and when it was made."""
    return f"{socket.gethostname()}~{(root / '.mirror.lock').stat().st_mtime_ns}~"


def _renew(far: Far, file: str, mine: bytes, ended: threading.Event) -> None:
    for count in itertools.count(1):
        if ended.wait(LEASE_S / 6):
            return
        with contextlib.suppress(CacheError):  # the next time, or another one takes over
            if far.read(file).startswith(mine):
                far.put_bytes(file, mine + b"~%d" % count)


def _give_back(far: Far, file: str, mine: bytes, ended: threading.Event, renewing: threading.Thread) -> None:
    ended.set()
    renewing.join()
    if far.read(file).startswith(mine):
        far.remove([file])
