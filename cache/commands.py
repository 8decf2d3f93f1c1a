"""``cli.py cache ...``: the commands that look after a cache."""

from pathlib import Path
from typing import Annotated

import typer

from cache.terminal import Json, Quiet, command, show

Dataset = Annotated[str | None, typer.Option(help="Corpus: see [b]list datasets[/b].", metavar="NAME")]
CacheDir = Annotated[
    Path | None, typer.Option("--cache", metavar="DIR", help="Feature cache. Default: var/cache/DATASET.")
]

cache_app = typer.Typer(help="Look after a feature cache.", no_args_is_help=True)


@command(cache_app, "info")
def info(dataset: Dataset = None, cache: CacheDir = None, json_: Json = False) -> None:
    """What a cache holds: streams with their keys, recordings, frames and bytes, and its label protocols.

    Example: python cli.py cache info --dataset demo
    """
    from cache.find import find_cache
    from cache.info import describe, info_table

    about = describe(find_cache(cache, dataset))
    show(about, json_, info_table(about))


@command(cache_app, "verify")
def verify_cache(
    dataset: Dataset = None,
    cache: CacheDir = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte, against its checksum.")] = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> int:
    """Whether a cache still is what was committed. Exit code 1: parts are damaged; [b]extract[/b] remakes just those.

    Example: python cli.py cache verify --dataset demo --deep
    """
    from cache.find import find_cache
    from cache.verify import verdict_lines, verify

    verdict = verify(find_cache(cache, dataset), deep=deep, quiet=quiet)
    show(verdict, json_, *verdict_lines(verdict))
    return 1 if verdict.damages else 0
