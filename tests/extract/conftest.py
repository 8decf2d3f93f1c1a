"""Light encoders whose numbers can be read: brightness of a frame, loudness of 20 ms, length of a word."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cache.records import Track
from extract.encoders import ENCODERS, Encoder


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
