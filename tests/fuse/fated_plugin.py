"""A head for other processes: ``concat``, and an option says what befalls who trains it."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from fuse.heads import HEADS
from fuse.heads.concat import Concat

FOLDER = Path(os.environ["AFFUSE_TEST_FOLDER"])


@HEADS.register("fated")
class Fated(Concat):
    steps = 0

    @dataclass(frozen=True)
    class Config(Concat.Config):
        fate: str = ""

    def forward(self, x, present, real):
        self.steps += self.training
        if self.training and self.steps == 5:  # well inside the run
            with open(FOLDER / "begun", "a") as file:
                file.write(f"{os.getpid()} {self.cfg.fate}\n")
            if self.cfg.fate == "poison":
                os._exit(7)
            while self.cfg.fate == "gate" and not (FOLDER / "open").exists():
                time.sleep(0.005)
        return super().forward(x, present, real)
