"""Commands of stage two that train tables or look at finished runs."""

from pathlib import Path
from typing import Annotated

import typer

from cache.commands import CacheDir, Dataset
from cache.terminal import Json, Quiet, command, show

Run = Annotated[Path, typer.Argument(help="A run's folder; without -seedN: all its seeds.", metavar="RUN")]


SetTrain = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, e.g. lr=1e-4, options.k=16.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the same command was killed.")]

fuse_app = typer.Typer()


@command(fuse_app, "compare")
def compare(
    a: Run,
    b: Run,
    partition: Annotated[str, typer.Option(help="validation or test.")] = "test",
    scored: Annotated[str, typer.Option(help="raw or smoothed.")] = "raw",
    json_: Json = False,
) -> None:
    """Whether run A beats run B: difference of their CCCs, its interval, p, effect, and the seeds it would need.

    Over recordings, paired. From what the runs left when they were scored: no label is opened.

    Example: python cli.py compare var/runs/demo/maven-...-seed0 var/runs/demo/concat-...-seed0
    """
    from fuse.compare import compare_runs, comparison_lines

    found = compare_runs(a, b, partition, scored)
    show(found, json_, *comparison_lines(found))


@command(fuse_app, "ablate")
def ablate(
    recipe: Annotated[Path, typer.Option(help="TOML with [[rows]], or a shipped name: demo.")],
    dataset: Dataset = None,
    cache: CacheDir = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds 0..N-1 of every row.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes, one thread each.")] = None,
    resume: Resume = False,
    set_: SetTrain = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """A table: every row of a recipe (head, streams, settings) over several seeds, from one cache.

    Example: python cli.py ablate --recipe demo --dataset demo --seeds 3
    """
    from cache.find import find_cache
    from cache.recipe import merge, parse_sets
    from fuse.ablate import ablate_recipe, run_ablate
    from fuse.report import ablation_table

    given = {"cache": find_cache(cache, dataset) if cache or dataset else None, "seeds": seeds, "workers": workers}
    grid = ablate_recipe(recipe, merge(given, parse_sets(set_ or [])))
    rows = run_ablate(grid, resume=resume, quiet=quiet)
    show(rows, json_, ablation_table(rows, grid.partition))
