"""Two worker processes against one, with an encoder of one thread each: what the second one adds."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from stage_one import write_film

from cache.records import Recording
from extract.bench import Order
from extract.plan import Job
from extract.recipe import ExtractRecipe, extract_recipe
from extract.run import run_extract
from extract.workers import Run, local_workers

RECORDINGS, SECONDS = 4, 2
Paired = Callable[[Callable[[], object], Callable[[], object], int], float]
Work = Callable[[], None]


def workers(folder: Path, paired: Paired) -> dict[str, float]:
    """Wall-clock of the same recordings by one and by two loaded workers; and the processor time that each took.

    On a machine whose cores others use too the first figure says little. The second one does: with two free cores two
    workers are faster by 2 over it, where both are busy throughout.
    """
    folder = folder / "workers"
    folder.mkdir()
    film, names = write_film(folder / "film.mkv", SECONDS, (320, 240), noise=1.0), count()
    (folder / "manifest.csv").write_text(f"id,video\nfirst,{film}\n")
    given = {"dataset": "manifest", "root": folder / "manifest.csv", "cache": folder / "cache", "device": "cpu"}
    given |= {"visual": ["resnet18"], "audio": [], "text": [], "resnet18": {"weights": "random:0"}}
    recipe = extract_recipe(given)
    keys = tuple(run_extract(recipe, quiet=True).streams)
    used: dict[int, list[float]] = {1: [], 2: []}

    def by(number: int, run: Run) -> Work:
        def all_of_them() -> None:
            before = _processor_s()
            jobs = [Job(Recording(f"r{next(names)}", video=film), keys) for _ in range(RECORDINGS)]
            made = [outcome.made for _, outcome in run(jobs)]
            assert made == [[*keys]] * RECORDINGS, made
            used[number].append(_processor_s() - before)

        return all_of_them

    with _one_thread_each(recipe, keys, 1) as one, _one_thread_each(recipe, keys, 2) as two:
        ratio = paired(by(1, one), by(2, two), 3)
    spent = sum(used[2][1:]) / sum(used[1][1:])  # the first of each loads
    return {"1 worker / 2 workers": ratio, "processor time of 2 workers / of 1": spent}


@contextmanager
def _one_thread_each(recipe: ExtractRecipe, keys: tuple[str, ...], number: int) -> Iterator[Run]:
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        with local_workers(number, Order.of(recipe, keys), "cpu") as run:
            yield run
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        os.environ.update({"OMP_NUM_THREADS": before} if before else {})


def _processor_s() -> float:
    """What all children have used so far."""
    used = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        used += int(fields[11]) + int(fields[12])
    return used / os.sysconf("SC_CLK_TCK")
