"""Light encoders for other processes: a transcript's words name its recording and say what befalls who encodes it."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.records import Track
from extract.encoders import ENCODERS, Encoder

FOLDER = Path(os.environ["AFFUSE_TEST_FOLDER"])


def note(kind, text=""):
    """A line, whole whoever else writes."""
    with open(FOLDER / kind, "a") as file:
        file.write(f"{os.getpid()} {text}\n")


@dataclass(frozen=True)
class LightConfig:
    weights: str = "none"
    batch_size: int = 8


class Light(Encoder):
    Config = LightConfig
    dim = 1

    def __init__(self, cfg):
        super().__init__(cfg)
        self.weights_hash = "light"
        note("built")

    def signature(self):
        return ["light"]

    def load(self, device):
        """There is nothing to load."""


@ENCODERS.register("grey")
class Grey(Light):
    modality = "visual"

    def push(self, block):
        return Track(block.spans, np.array([[frame.mean() / 255] for frame in block.rgb], np.float32))


@ENCODERS.register("spoken")
class Spoken(Light):
    modality = "text"

    def push(self, block):
        words = [unit.text for unit in block]
        note("encoded", words[0])
        if "poison" in words:
            os._exit(7)
        if "broken" in words:
            raise ValueError("it is broken")
        if "gate" in words:
            while not (FOLDER / "open").exists():
                time.sleep(0.005)
        spans = [(unit.start, unit.end) for unit in block]
        return Track(np.array(spans), np.array([[len(word)] for word in words], np.float32))
