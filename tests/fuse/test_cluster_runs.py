"""Runs on a Dask cluster of real processes on loopback: whatever of it dies, the runs are those of one process."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import SLURM

pytest.importorskip("distributed")
pytestmark = pytest.mark.slow
PLUGIN = Path(__file__).with_name("fated_plugin.py")
CLI = Path(__file__).parents[2] / "cli.py"
TABLE = """
seeds = 2
[train]
plugins = ["{plugin}"]
tokens = 32
stride = 1
hop = 16
batch_size = 4
lr = 1e-2
epochs = 3
checkpoint_s = 0.0
device = "cpu"
[[rows]]
label = "all"
head = "concat"
[[rows]]
label = "face"
head = "unimodal"
streams = ["face"]
"""
GATE = """
[[rows]]
label = "gate"
head = "fated"
set = { tokens = 16, options = { fate = "gate" } }
"""
POISON = """
[[rows]]
label = "poison"
head = "fated"
seeds = 1
set = { options = { fate = "poison" } }
"""


def numbers_of(folder):
    """All that a run left but where and how fast it was: what it is, what it learnt, said and measured."""
    plain = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for name, apart in (
        ("recipe.json", {"runs": ""}),
        ("metrics.json", {"seconds": 0, "folder": ""}),
        ("environment.json", {"plugins": ""}),
    ):
        plain[name] = json.loads(plain[name]) | apart
    del plain["test_evaluations.csv"]  # counts who opened it, and when
    return plain


@dataclass(frozen=True)
class Table:
    """A table's command in a folder, and what it leaves there."""

    folder: Path
    cache: Path

    def start(self, rows, runs, *flags):
        (self.folder / "table.toml").write_text(TABLE.format(plugin=PLUGIN) + rows)
        where = ["--cache", self.cache, "--set", f"runs={runs}", "--out", f"{runs}.table"]
        command = [sys.executable, CLI, "ablate", "--recipe", "table.toml", "--json", "--quiet", *where, *flags]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        out = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*map(str, command)], cwd=self.folder, env=env, **out, start_new_session=True)

    def complete(self, runs):
        """Folders of the complete runs."""
        return sorted(p.parent for p in (self.folder / runs).glob("toy/*/metrics.json"))

    def left(self, runs):
        """By name of the run, what it left."""
        return {folder.name: numbers_of(folder) for folder in self.complete(runs)}

    def begun(self, fate):
        """Processes that began a run of that fate, one after the other."""
        path = self.folder / "begun"
        lines = path.read_text().splitlines() if path.exists() else []
        return [int(pid) for pid, _, text in (line.partition(" ") for line in lines) if text == fate]

    def until(self, find):
        """Wait for it. The limit only ends a test that has failed."""
        end = time.monotonic() + 120
        while not find():
            assert time.monotonic() < end, "nothing came"
            time.sleep(0.005)

    def in_hand(self, fate):
        """The first process that began one, as soon as it has."""
        self.until(lambda: self.begun(fate))
        return self.begun(fate)[0]

    def open_gate(self):
        (self.folder / "open").touch()


@pytest.fixture
def table(toy_cache, tmp_path, monkeypatch):
    monkeypatch.setenv("AFFUSE_TEST_FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(CLI.parent), os.environ.get("PYTHONPATH", "")]))
    return Table(tmp_path, toy_cache.root)


@pytest.fixture(scope="module")
def alone(toy_cache, tmp_path_factory):
    """What one process leaves of the table with a gate: (its rows, its runs by name)."""
    folder = tmp_path_factory.mktemp("alone")
    table = Table(folder, toy_cache.root)
    table.open_gate()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFFUSE_TEST_FOLDER", str(folder))
        said, errors = table.start(GATE, "here").communicate()
    assert errors.count("\n") == 0, errors
    left = table.left("here")
    assert len(left) == 6
    return rows_of(said), left


def rows_of(said):
    """The printed rows, but for where they are and how long they took."""
    return [{k: v for k, v in row.items() if k not in ("folders", "seconds")} for row in json.loads(said)["rows"]]


def test_a_cluster_leaves_the_runs_of_one_process(table, alone, cluster):
    table.open_gate()
    process = table.start(GATE, "there", "--scheduler", cluster(2).address)
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "2 workers at" in errors
    assert (rows_of(said), table.left("there")) == alone


def test_a_killed_worker_costs_only_its_runs_which_another_one_trains(table, alone, cluster):
    process = table.start(GATE, "there", "--scheduler", cluster(2).address)
    os.kill(table.in_hand("gate"), signal.SIGKILL)
    table.open_gate()
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert (rows_of(said), table.left("there")) == alone
    assert len(table.begun("gate")) == 3, "two, and one of them once more"


def test_an_interrupted_command_leaves_what_is_complete_and_goes_on(table, alone, cluster):
    address = cluster(1).address
    process = table.start(GATE, "there", "--scheduler", address)
    table.in_hand("gate")
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[1].endswith("what is trained is kept: run the same command with --resume to go on\n")
    assert process.returncode == 130
    done = {p: (p / "metrics.json").stat().st_mtime_ns for p in table.complete("there")}
    assert len(done) == 4
    process = table.start(GATE, "there", "--scheduler", address, "--resume")
    table.open_gate()
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert (rows_of(said), table.left("there")) == alone
    assert {p: (p / "metrics.json").stat().st_mtime_ns for p in done} == done
    assert len(table.begun("gate")) == 2, "what the worker had in hand it has finished"


def test_without_its_scheduler_the_command_ends_in_a_line_and_goes_on_here(table, alone, cluster):
    dask = cluster(1)
    process = table.start(GATE, "there", "--scheduler", dask.address)
    table.in_hand("gate")
    dask.scheduler.kill()
    errors = process.communicate()[1]
    assert process.returncode == 1
    assert f"error: the Dask scheduler at {dask.address} is gone; what is trained is kept: start it" in errors
    assert "Traceback" not in errors
    table.open_gate()
    process = table.start(GATE, "there", "--resume")
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert (rows_of(said), table.left("there")) == alone


def test_a_run_that_kills_its_workers_is_given_up_with_its_cause_and_the_rest_is_trained(table, alone, cluster):
    dask = cluster(2, "--nanny", DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="1")
    process = table.start(POISON, "there", "--scheduler", dask.address)
    errors = process.communicate()[1]
    assert process.returncode == 1
    last = errors.splitlines()[-1]
    assert last.startswith("error: fated seed 0: 2 workers died with it alone in hand, the last one tcp://127.0.0.1:")
    assert "run the same command with --resume" in last
    assert "Traceback" not in errors
    left = table.left("there")
    assert len(left) == 4
    assert left.items() <= alone[1].items()


def test_a_worker_that_stands_still_until_it_is_given_up_and_goes_on_spoils_nothing(table, alone, cluster):
    """Two at work on one run folder would spoil it."""
    dask = cluster(2, DISTRIBUTED__SCHEDULER__WORKER_TTL="2s")
    process = table.start(GATE, "there", "--scheduler", dask.address)
    still = table.in_hand("gate")
    os.kill(still, signal.SIGSTOP)
    table.until(lambda: "failed to heartbeat" in dask.said("dask_scheduler"))
    table.open_gate()
    os.kill(still, signal.SIGCONT)
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert (rows_of(said), table.left("there")) == alone
    assert len(table.begun("gate")) == 3, "two, and one of them once more"


def test_slurm_jobs_are_started_for_the_table_and_gone_after_it(table, alone, queue):
    table.open_gate()
    path = table.folder / "slurm.toml"
    path.write_text(SLURM.format(python=sys.executable, folder=table.folder))
    process = table.start(GATE, "there", "--cluster", f"slurm:{path}", "--workers", 2)
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert (rows_of(said), table.left("there")) == alone
    assert not [*queue.iterdir()]
