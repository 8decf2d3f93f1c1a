"""Light encoders whose numbers can be read: brightness of a frame, loudness of 20 ms, length of a word.

And what runs in several processes are watched with, by the notes of the encoders in ``light_plugin.py``.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cache.records import Track
from extract.encoders import ENCODERS, Encoder
from extract.recipe import extract_recipe
from extract.run import run_extract

PLUGIN = Path(__file__).with_name("light_plugin.py")
CLI = Path(__file__).parents[2] / "cli.py"
CLIPS = [f"clip{i}" for i in range(6)]


@dataclass(frozen=True)
class LightConfig:
    gain: float = 1.0
    weights: str = "none"
    batch_size: int = 8


class Light(Encoder):
    """Shared by the light encoders: nothing to load, a count of what was encoded."""

    Config = LightConfig
    pushed = 0
    dim = 2

    def signature(self):
        return ["light"]

    def load(self, device):
        self.weights_hash = "light"

    def row(self, values, spans):
        values = np.asarray(values, np.float32).reshape(-1, 1) * self.cfg.gain
        return Track(np.asarray(spans), np.concatenate([values, np.ones_like(values)], axis=1))


class Brightness(Light):
    modality = "visual"

    def push(self, block):
        type(self).pushed += len(block.rgb)
        return self.row([frame.mean() / 255 for frame in block.rgb], block.spans)


class Loudness(Light):
    modality = "audio"

    def push(self, block):
        type(self).pushed += 1
        rows = np.arange(max(0, (len(block.samples) - 400) // 320 + 1))
        energy = [np.abs(block.samples[r * 320 : r * 320 + 400]).mean() for r in rows]
        return self.row(energy, block.start + rows[:, None] * 0.02 + np.array([0, 0.025]))


class Length(Light):
    modality = "text"

    def push(self, block):
        type(self).pushed += 1
        return self.row([len(u.text) for u in block], [(u.start, u.end) for u in block])


LIGHT = {"brightness": Brightness, "loudness": Loudness, "length": Length}


@pytest.fixture
def light_encoders(monkeypatch):
    """The light encoders by name, registered for one test, their counters at zero."""
    for name, cls in LIGHT.items():
        monkeypatch.setitem(ENCODERS._classes, name, cls)
    for cls in LIGHT.values():
        cls.pushed = 0
    return LIGHT


@pytest.fixture
def manifest(tmp_path):
    """Writes a manifest CSV: manifest(a={"video": path}, ...) returns its path."""

    def write(**rows: dict[str, object]) -> Path:
        columns = ["id", "video", "audio", "transcript", "crops", "labels", "subject", "partition"]
        columns += ["labels_valence", "labels_arousal"]
        lines = [",".join(columns)]
        lines += [",".join([name, *(str(row.get(c) or "") for c in columns[1:])]) for name, row in rows.items()]
        path = tmp_path / "manifest.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def wait_for(find):
    """What ``find`` finds, as soon as it does. The limit only ends a test that has failed."""
    end = time.monotonic() + 120
    while not (found := find()):
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.005)
    return found


@dataclass(frozen=True)
class Watched:
    """Runs over six clips, and what the encoders noted in the folder."""

    folder: Path
    until = staticmethod(wait_for)

    @property
    def root(self):
        return self.folder / "manifest.csv"

    def recipe(self, cache="cache", **given):
        streams = {"visual": ["grey"], "audio": [], "text": ["spoken"], "plugins": [PLUGIN]}
        where = {"dataset": "manifest", "root": self.root, "cache": self.folder / cache}
        return extract_recipe({**where, **streams, **given})

    def run(self, cache="cache", **given):
        return run_extract(self.recipe(cache, **given), quiet=True)

    def start(self, *flags):
        """The command as a process of its own, in a group of its own."""
        where = ["--dataset", "manifest", "--root", self.root, "--cache", self.folder / "cache"]
        streams = ["--visual", "grey", "--audio", "none", "--text", "spoken", "--plugin", PLUGIN]
        command = [sys.executable, CLI, "extract", "--quiet", *where, *streams, *flags]
        out = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, **out, start_new_session=True)

    def open_gate(self):
        (self.folder / "open").touch()

    def noted(self, kind):
        """(process id, text) of each line that the encoders noted."""
        path = self.folder / kind
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(pid), text) for pid, _, text in (line.partition(" ") for line in lines)]

    def encoded(self):
        """How often each clip was begun."""
        return Counter(text for _, text in self.noted("encoded"))

    def in_hand(self, name, times=1):
        """The process that has a clip in hand, as soon as it was begun so many times."""
        return self.until(lambda: (pids := [p for p, t in self.noted("encoded") if t == name])[times - 1 :] and pids)[
            -1
        ]

    def forget(self):
        for name in ("open", "built", "encoded"):
            (self.folder / name).unlink(missing_ok=True)

    def contents(self, cache="cache"):
        top = self.folder / cache
        return {str(p.relative_to(top)): p.read_bytes() for p in sorted(top.rglob("*")) if p.is_file()}


@pytest.fixture
def clips(media, manifest, tmp_path, monkeypatch):
    """Writes six clips, whose transcripts are their names and what ``words`` has for them; returns them ``Watched``."""
    monkeypatch.setenv("AFFUSE_TEST_FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(CLI.parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(ENCODERS, "_classes", dict(ENCODERS._classes))
    sys.modules.pop(f"affuse_plugin_{PLUGIN.stem}", None)

    def write(**words):
        rows = {}
        for name in CLIPS:
            film = media(tmp_path / f"{name}.mp4", np.arange(12) / 25)
            units = [name, *words.get(name, "").split()]
            cues = [f"{k + 1}\n00:00:00,{k}00 --> 00:00:00,{k}90\n{unit}\n" for k, unit in enumerate(units)]
            (tmp_path / f"{name}.srt").write_text("\n".join(cues))
            rows[name] = {"video": film, "transcript": f"{name}.srt", "partition": "train"}
        manifest(**rows)
        return Watched(tmp_path)

    return write


@pytest.fixture
def gated(clips):
    """Six clips with a gate in clip1, and the contents of the cache that one process makes of them."""
    watched = clips(clip1="gate")
    watched.open_gate()
    assert watched.run("alone").made == len(CLIPS) * 2
    watched.forget()
    return watched, watched.contents("alone")
