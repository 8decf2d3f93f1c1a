"""What tests share: media, a tiny cache, the command line, a cluster, object storage; ``--plugin`` and ``--kills``."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import settings
from typer.testing import CliRunner

import cli
from cache.records import Aligned, Labels, Partitions, StreamSpec, Timeline
from cache.registry import load_plugin
from cache.store import FeatureCache

settings.register_profile("affuse", deadline=None)  # how long an example takes is the machine's business
settings.load_profile("affuse")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # behind a shell that ignores it; what tests start has to hear it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--plugin", action="append", default=[], help="also run the head contract tests on this file")
    parser.addoption("--kills", type=int, default=10, help="how often tests/extract/test_kill.py kills each way")


def pytest_configure(config):
    for path in config.getoption("--plugin"):
        load_plugin(Path(path))


CLOCK = 90_000  # ticks a second of the videos made here


def write_media(
    path: Path,
    pts: np.ndarray,
    *,
    picture: Callable[[int], np.ndarray] | None = None,
    sound: np.ndarray | None = None,
    sound_start: float = 0.0,
    rate: int = 16_000,
    size: int = 64,
) -> Path:
    """An h264/aac file whose frames are shown at ``pts`` seconds; picture(i) is u8[H,W,3], sound f32[S] mono."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "bf": "0", "g": "12"})
        video.width = video.height = size
        video.pix_fmt = "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, CLOCK)
        audio = container.add_stream("aac", rate=rate, layout="mono") if sound is not None else None
        for i, time in enumerate(pts):
            grey = np.full((size, size, 3), (i * 37) % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture(i) if picture else grey, format="rgb24")
            frame.pts, frame.time_base = round(time * CLOCK), Fraction(1, CLOCK)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            _write_sound(container, audio, sound, sound_start, rate)
    return path


def _write_sound(container, audio, sound, start, rate):
    for at in range(0, len(sound), 1024):
        block = np.ascontiguousarray(sound[None, at : at + 1024], dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = round(start * rate) + at
        container.mux(audio.encode(frame))
    container.mux(audio.encode(None))


@pytest.fixture(scope="session")
def media():
    """The function that writes media files; see ``write_media``."""
    return write_media


def write_cache(root: Path, *, recordings: int = 9, frames: int = 90, seed: int = 0) -> FeatureCache:
    """A cache whose labels can be learnt: valence from 'face' and 'words', arousal from 'voice', each in part."""
    rng = np.random.default_rng(seed)
    cache = FeatureCache.create(root, "toy")
    specs = [
        cache.declare(name, modality, dim, {"encoder": name}, {})
        for name, modality, dim in (("face", "visual", 6), ("voice", "audio", 5), ("words", "text", 4))
    ]
    names = [f"rec{i}" for i in range(recordings)]
    labels, split = {}, {}
    for i, name in enumerate(names):
        count = frames + 7 * i
        timeline = Timeline(np.arange(count) / 25, count / 25)
        cache.timelines.write(name, timeline)
        latent = np.stack([np.convolve(rng.normal(size=count + 20), np.ones(21) / 5, "valid") for _ in range(2)], 1)
        va = np.clip(latent * 0.4, -1, 1).astype(np.float32)
        labelled = rng.random(count) > 0.05
        labels[name] = Labels(np.where(labelled[:, None], va, 0).astype(np.float32), labelled)
        split[name] = "train" if i < recordings - 4 else "validation" if i < recordings - 2 else "test"
        _write_streams(cache, specs, name, va, rng)
    cache.labels.write("va", labels, Partitions(split, {n: n for n in names}))
    return cache


def _write_streams(cache: FeatureCache, specs: list[StreamSpec], name: str, va: np.ndarray, rng) -> None:
    for spec in specs:
        mix = np.random.default_rng(spec.dim).normal(size=(2, spec.dim))
        mix[1 if spec.name == "words" else 0] *= 0.2 if spec.name != "face" else 1.0
        values = (va @ mix + rng.normal(size=(len(va), spec.dim)) * 0.3).astype(np.float32)
        present = np.ones(len(va), bool)
        present[10:20] = False
        cache.write(spec.key, name, Aligned(values, present), {"rows": len(va), "absent_frames": 10})


@pytest.fixture(scope="session")
def toy_cache(tmp_path_factory) -> FeatureCache:
    """One shared, read-only cache of three small streams with learnable labels."""
    return write_cache(tmp_path_factory.mktemp("toy") / "cache")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs a command in an empty folder; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        result = CliRunner().invoke(cli.app, [str(a) for a in args])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return call


class Cluster:
    """A scheduler and workers, each a process that can be killed. host: where the scheduler listens."""

    def __init__(self, folder, host="127.0.0.1", **settings):
        self.folder, self.host, self.settings, self.workers = folder, host, settings, []
        self.address = self.scheduler = None

    def start(self, module, *flags, within=()):
        told = {f"DASK_{name}": value for name, value in self.settings.items()}
        command = [*within, sys.executable, "-m", f"distributed.cli.{module}", "--no-dashboard", *flags]
        with open(self.folder / f"{module}.log", "ab") as log:
            env = {**os.environ, **told}
            return subprocess.Popen(command, cwd=self.folder, env=env, stdout=log, stderr=log, start_new_session=True)

    def open(self, workers):
        about = self.folder / f"{uuid.uuid4().hex}.json"
        self.scheduler = self.start("dask_scheduler", "--host", self.host, "--port", "0", "--scheduler-file", about)
        while self.address is None:
            self.address = _address(about)
        return self.add(workers)

    def add(self, count, nanny="--no-nanny", *flags, within=()):
        """So many workers more. flags: of each; within: a command that starts them."""
        flags = ["--nthreads", "1", nanny, "--local-directory", self.folder / "scratch", *flags]
        self.workers += [self.start("dask_worker", self.address, *flags, within=within) for _ in range(count)]
        return self

    def said(self, module):
        """All that the scheduler, or its workers, have logged so far."""
        return (self.folder / f"{module}.log").read_text()

    def close(self):
        for process in [self.scheduler, *self.workers]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a nanny and its worker
            process.wait()


def _address(about):
    with contextlib.suppress(FileNotFoundError, ValueError):
        return json.loads(about.read_text())["address"]


@pytest.fixture
def cluster(tmp_path):
    """Starts a cluster; all of it is gone at the end."""
    started = []

    def start(workers=3, nanny="--no-nanny", **settings):
        made = Cluster(tmp_path, **settings)
        started.append(made)
        return made.open(0).add(workers, nanny)

    yield start
    for one in started:
        one.close()


SLURM = """
cores = 1
memory = "2GB"
queue = "gpu"
walltime = "08:00:00"
job_extra_directives = ["--gres=gpu:1"]
python = "{python}"
local_directory = "{folder}/scratch"
log_directory = "{folder}/logs"

[scheduler_options]
host = "127.0.0.1"
dashboard_address = "127.0.0.1:0"
"""
SBATCH = """#!/bin/sh
cp "$1" "$1.copy"
setsid sh "$1.copy" > {folder}/job.log 2>&1 &
echo $! > {folder}/jobs/$!
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for job in "$@"; do kill -KILL -$job; rm {folder}/jobs/$job; done
"""


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """``sbatch`` and ``scancel`` that start and end jobs on this machine; the folder that has a file of each job."""
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "jobs").mkdir()
    for name, script in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(script.format(folder=tmp_path))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    yield tmp_path / "jobs"
    for job in (tmp_path / "jobs").iterdir():
        os.killpg(int(job.name), signal.SIGKILL)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """machine(name): from now on we are that machine, which has mirrors of its own."""

    def become(name):
        monkeypatch.setenv("AFFUSE_MIRRORS", str(tmp_path / name))

    become("here")
    return become


@pytest.fixture(scope="module")
def server():
    """An S3 server on loopback, which misbehaves when it is told to."""
    from tests.faulty_s3 import FaultyS3

    server = FaultyS3()
    yield server
    server.stop()


@pytest.fixture
def s3(server, machine, monkeypatch, tmp_path):
    """The URL of a cache to be, in a bucket of its own."""
    import fsspec

    from tests.faulty_s3 import forget_connections

    signed = {"AWS_ACCESS_KEY_ID": "us", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    for key, value in {"AWS_ENDPOINT_URL": server.url, **signed}.items():
        monkeypatch.setenv(key, value)
    server.behave()
    forget_connections()
    bucket = f"bucket-{abs(hash(str(tmp_path))):x}"
    fsspec.filesystem("s3").mkdir(bucket)
    yield f"s3://{bucket}/lab/cache"
    server.behave()
    forget_connections()
