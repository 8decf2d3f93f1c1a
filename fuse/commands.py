"""Commands of stage two that look at finished runs."""

from pathlib import Path
from typing import Annotated

import typer

from cache.terminal import Json, command, show

Run = Annotated[Path, typer.Argument(help="A run's folder; without -seedN: all its seeds.", metavar="RUN")]


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
