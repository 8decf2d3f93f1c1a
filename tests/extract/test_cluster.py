"""A Dask cluster of real processes on loopback: whatever of it dies, the cache is that of one process."""

import os
import signal
import subprocess
import sys

import pytest

from cache.cluster import slurm
from cache.errors import ConfigError, UsageError
from tests.conftest import SLURM

pytest.importorskip("distributed")
pytestmark = pytest.mark.slow
ONCE = {f"clip{i}": 1 for i in range(6)}


def test_a_cluster_leaves_the_cache_of_one_process(gated, cluster):
    watched, alone = gated
    with watched.start("--scheduler", cluster().address) as process:
        watched.in_hand("clip1")
        watched.open_gate()
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert "dashboard: http" in said
    assert watched.contents() == alone
    assert watched.encoded() == ONCE


def test_a_killed_worker_costs_only_its_recording_which_another_one_makes(gated, cluster):
    watched, alone = gated
    with watched.start("--scheduler", cluster().address) as process:
        os.kill(watched.in_hand("clip1"), signal.SIGKILL)
        watched.in_hand("clip1", times=2)
        watched.open_gate()
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert watched.run().made == 0, "but it sweeps up what the killed one left"
    assert watched.contents() == alone
    assert watched.encoded() == {**ONCE, "clip1": 2}


def test_when_all_workers_are_killed_the_command_waits_for_others(gated, cluster):
    watched, alone = gated
    dask = cluster()
    with watched.start("--scheduler", dask.address) as process:
        watched.in_hand("clip1")
        for worker in dask.workers:
            worker.kill()
        watched.open_gate()
        assert "no worker is there; waiting for one" in next(
            line for line in process.stderr if "worker" in line and "dashboard" not in line
        )
        dask.add(2)
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert watched.run().made == 0, "but it sweeps up what the killed ones left"
    assert watched.contents() == alone
    assert watched.encoded()["clip1"] == 2


def test_without_its_scheduler_the_command_ends_in_a_line_and_goes_on_with_another(gated, cluster):
    watched, alone = gated
    dask = cluster()
    with watched.start("--scheduler", dask.address) as process:
        watched.in_hand("clip1")
        dask.scheduler.kill()
        said = process.stderr.read()
    assert process.returncode == 1
    assert f"error: the Dask scheduler at {dask.address} is gone; what is committed is kept" in said
    assert "Traceback" not in said, said
    watched.open_gate()
    with watched.start("--scheduler", cluster(2).address) as process:
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert watched.run().made == 0
    assert watched.contents() == alone


def test_an_interrupted_command_leaves_its_workers_to_finish_what_they_have(gated, cluster):
    watched, alone = gated
    dask = cluster(1)
    with watched.start("--scheduler", dask.address) as process:
        watched.in_hand("clip1")
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
    assert process.returncode == 130
    assert "interrupted; what is committed is kept" in said
    watched.open_gate()
    with watched.start("--scheduler", dask.address) as process:
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert watched.contents() == alone
    assert watched.encoded() == ONCE


def test_a_recording_that_kills_its_workers_is_given_up_with_its_cause_and_the_rest_is_made(clips, cluster):
    watched = clips(clip2="poison")
    dask = cluster(2, "--nanny", DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="1")
    with watched.start("--scheduler", dask.address) as process:
        said = process.stderr.read()
    assert process.returncode == 3, said
    assert "clip2, worker: 2 workers died with it alone in hand" in said
    made = {path.parent.name for path in (watched.folder / "cache").glob("features/spoken-*/*/zarr.json")}
    assert made == ONCE.keys() - {"clip2"}


def test_what_is_not_there_is_said_in_a_line(clips, monkeypatch):
    watched = clips()
    monkeypatch.setattr("cache.cluster._ANSWER_S", 0.5)
    with pytest.raises(UsageError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1: .*; start one: dask sch"):
        watched.run(scheduler="tcp://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"a cluster needs Dask: .*; pip install 'affuse\[dask\]'"):
        watched.run(scheduler="tcp://127.0.0.1:1")


def test_slurm_without_its_library_or_settings_is_said_in_a_line(tmp_path, monkeypatch):
    path = tmp_path / "slurm.toml"
    path.write_text('cores = 1\nmemory = "8GB"\n')
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(UsageError, match=r"pip install 'affuse\[slurm\]'"):
        slurm(f"slurm:{path}", 2)
    for wrong in ("pbs:x.toml", "slurm", "slurm:"):
        with pytest.raises(ConfigError, match=f"there is no cluster '{wrong}'; give slurm:FILE.toml"):
            slurm(wrong, 2)


def test_slurm_jobs_are_started_for_the_run_and_gone_after_it(gated, queue):
    watched, alone = gated
    path = watched.folder / "slurm.toml"
    path.write_text(SLURM.format(python=sys.executable, folder=watched.folder))
    with watched.start("--cluster", f"slurm:{path}", "--workers", "2") as process:
        watched.in_hand("clip1")
        jobs = len([*queue.iterdir()])
        watched.open_gate()
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert jobs == 2
    assert not [*queue.iterdir()]
    assert watched.contents() == alone


ASKED = ["#SBATCH -p gpu", "#SBATCH -t 08:00:00", "#SBATCH --gres=gpu:1", "/opt/python -m distributed.cli.dask_worker"]
SCRIPT = """
import sys
from cache.cluster import slurm
from cache.errors import ConfigError
try:
    with slurm(f"slurm:{sys.argv[1]}", 1) as made:
        print(made.job_script())
except ConfigError as error:
    print(error)
"""


def test_slurm_is_asked_for_what_the_file_says(tmp_path, queue, monkeypatch):
    def told(settings):
        path = tmp_path / "slurm.toml"
        path.write_text(settings.format(python="/opt/python", folder=tmp_path))
        return subprocess.run([sys.executable, "-c", SCRIPT, path], capture_output=True, text=True, check=True).stdout

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*filter(None, sys.path)]))
    assert set(ASKED) <= {line.partition(" tcp://")[0] for line in told(SLURM).splitlines()}
    assert "wall_time" in told(SLURM.replace("walltime", "wall_time"))
