"""The demo corpus on disk, in Aff-Wild2's shape: written beside, moved in when whole, ``demo.json`` last of all."""

import json
import shutil
from pathlib import Path

from cache.errors import DataError, UsageError
from cache.progress import progress
from extract.demo.film import ANNOTATIONS, film
from extract.demo.plan import Scene, plan_scenes

VERSION = 1
FEWEST = 3  # one recording a partition
STAMP = "demo.json"
PART = ".demo-part"
ENTRIES = ("batch1", "batch2", "transcripts", "cropped_aligned", "annotations", "subjects.csv", "README.txt")
README = """Affuse demo corpus: synthetic.

Every face here was drawn, every voice synthesised and every word chosen by a program, from seed {seed} (version
{version}, {recordings} recordings). No person was filmed or recorded, and the annotations are the program's own
hidden state plus noise. Good for trying the tools; scores on it say nothing about real people.
The folders are those of Aff-Wild2, with transcripts/ and subjects.csv added.
"""


def write_demo(root: Path, seed: int = 0, recordings: int = 24, *, quiet: bool = False) -> None:
    """Write the corpus of ``seed`` below ``root``; returns at once where it already is.

    Another demo corpus at ``root`` is replaced, anything else there is kept. Raises UsageError below three
    recordings, DataError where ``root`` holds another corpus.
    """
    root = Path(root)
    if recordings < FEWEST:
        raise UsageError(f"a demo corpus of {recordings} recordings; wanted {FEWEST} or more, one a partition")
    stamp = json.dumps({"seed": seed, "version": VERSION, "recordings": recordings}, indent=2) + "\n"
    if (root / STAMP).is_file() and (root / STAMP).read_text(encoding="utf-8") == stamp:
        return
    _check_ours(root)
    part = root / PART
    shutil.rmtree(part, ignore_errors=True)
    _write_whole(part, seed, plan_scenes(seed, recordings), quiet)
    (part / "README.txt").write_text(README.format(seed=seed, version=VERSION, recordings=recordings), encoding="utf-8")
    (part / STAMP).write_text(stamp, encoding="utf-8")
    _move_in(root, part)


def _check_ours(root: Path) -> None:
    """A root that holds our entries but neither the stamp nor an unfinished part is somebody's real corpus."""
    taken = [name for name in ENTRIES if (root / name).exists()]
    if taken and not (root / STAMP).exists() and not (root / PART).exists():
        raise DataError(
            f"{root} already holds {', '.join(taken)} and no {STAMP}: it is not a demo corpus",
            hint="choose another folder for the demo",
        )


def _write_whole(part: Path, seed: int, scenes: list[Scene], quiet: bool) -> None:
    for folder in ("batch1", "batch2", "transcripts", "cropped_aligned"):
        (part / folder).mkdir(parents=True)
    for partition in ("Train_Set", "Validation_Set", "Test_Set"):
        (part / ANNOTATIONS / partition).mkdir(parents=True)
    subjects = "".join(f"{scene.id},{scene.subject}\n" for scene in scenes)
    (part / "subjects.csv").write_text("recording,subject\n" + subjects, encoding="utf-8")
    with progress("draw and speak", len(scenes), quiet=quiet) as step:
        for scene in scenes:
            film(part, seed, scene)
            step()


def _move_in(root: Path, part: Path) -> None:
    """Replace what is at ``root``. The old stamp goes first and the new one comes last."""
    (root / STAMP).unlink(missing_ok=True)
    for name in ENTRIES:
        old = root / name
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
        (part / name).rename(old)
    (part / STAMP).replace(root / STAMP)
    part.rmdir()
