"""Workers that are cut off from their scheduler and come back: the cache is that of one process."""

import os
import shutil
import signal
import subprocess

import pytest

pytest.importorskip("distributed")
pytestmark = pytest.mark.slow
ONCE = {f"clip{i}": 1 for i in range(6)}
SHORT = {"DISTRIBUTED__SCHEDULER__WORKER_TTL": "2s"}
OTHER_MACHINE = """
import os
from types import SimpleNamespace
import cache.commit, cache.lease
host = SimpleNamespace(gethostname=lambda: f"machine{os.getpid()}")
cache.lease.fcntl = SimpleNamespace(flock=lambda file, how: None, LOCK_EX=0, LOCK_NB=0, LOCK_SH=0)
cache.lease.socket = cache.commit.socket = host
cache.lease.LEASE_S = 6.0
"""


def given_up(watched, dask):
    """Wait until the scheduler has no more hope for a worker."""
    watched.until(lambda: "failed to heartbeat" in dask.said("dask_scheduler"))


def ended(watched, dask, pid):
    watched.until(lambda: next(w for w in dask.workers if w.pid == pid).poll() is not None)


def commits(watched):
    """When what of clip1 was committed: (file, time of its making)."""
    found = (watched.folder / "cache").glob("features/*/clip1/zarr.json")
    return {(path, path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def test_a_worker_that_stands_still_until_it_is_given_up_makes_what_it_has_in_hand(gated, cluster):
    """The kernel says that it lives, so no other one begins what it holds."""
    watched, alone = gated
    dask = cluster(3, **SHORT)
    with watched.start("--scheduler", dask.address) as process:
        still = watched.in_hand("clip1")
        os.kill(still, signal.SIGSTOP)
        given_up(watched, dask)
        os.kill(still, signal.SIGCONT)
        watched.until(lambda: "Scheduler was unaware of this worker" in dask.said("dask_worker"))
        watched.open_gate()
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert watched.run().made == 0
    assert watched.contents() == alone
    assert watched.encoded() == ONCE


def test_another_machine_makes_what_one_that_stands_still_had_in_hand_and_the_first_commit_stays(gated, cluster):
    """No kernel tells between them: the lease of the one ends. It goes on when all is done, with the row half made."""
    watched, alone = gated
    (watched.folder / "other_machine.py").write_text(OTHER_MACHINE)
    dask = cluster(0, **SHORT).add(3, "--no-nanny", "--preload", watched.folder / "other_machine.py")
    with watched.start("--scheduler", dask.address) as process:
        still = watched.in_hand("clip1")
        os.kill(still, signal.SIGSTOP)
        other = watched.in_hand("clip1", times=2)
        watched.open_gate()
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert other != still
    first = commits(watched)
    assert len(first) == 2
    os.kill(still, signal.SIGCONT)
    ended(watched, dask, still)
    assert watched.run().made == 0
    assert watched.contents() == alone
    assert commits(watched) == first
    assert watched.encoded()["clip1"] == 2


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True)


@pytest.fixture
def island():
    """A network of its own with one link to here: (command that starts a process there, address here, set its link)."""
    if shutil.which("ip") is None:
        pytest.skip("a network of its own needs ip, of iproute2")
    name, here = f"affuse{os.getpid()}", f"10.213.{os.getpid() % 256}"
    made = ip("netns", "add", name)
    if made.returncode:
        pytest.skip(f"a network of its own needs more rights: {made.stderr.strip()}")
    try:
        for words in (
            ("link", "add", name, "type", "veth", "peer", "name", "shore", "netns", name),
            ("addr", "add", f"{here}.1/30", "dev", name),
            ("link", "set", name, "up"),
            ("-n", name, "addr", "add", f"{here}.2/30", "dev", "shore"),
            ("-n", name, "link", "set", "shore", "up"),
            ("-n", name, "link", "set", "lo", "up"),
        ):
            done = ip(*words)
            if done.returncode:
                pytest.skip(f"this machine does not link networks: {done.stderr.strip()}")
        yield ("ip", "netns", "exec", name), f"{here}.1", lambda state: ip("link", "set", name, state)
    finally:
        ip("link", "del", name)
        ip("netns", "del", name)


def test_a_worker_whose_network_is_cut_commits_by_itself_what_it_has_in_hand(gated, cluster, island):
    within, here, link = island
    watched, alone = gated
    dask = cluster(0, host=here, **SHORT).add(1, within=within)
    with watched.start("--scheduler", dask.address) as process:
        cut = watched.in_hand("clip1")
        assert cut == dask.workers[0].pid
        dask.add(1)
        link("down")
        given_up(watched, dask)
        watched.open_gate()
        watched.until(lambda: len(commits(watched)) == 2)
        link("up")
        said = process.stderr.read()
    assert process.returncode == 0, said
    ended(watched, dask, cut)
    assert watched.run().made == 0
    assert watched.contents() == alone
    assert watched.encoded() == ONCE
