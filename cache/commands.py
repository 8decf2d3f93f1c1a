"""``cli.py cache ...``: the commands that look after a cache."""

from pathlib import Path
from typing import Annotated

import typer

from cache.terminal import Json, Quiet, command, show

Dataset = Annotated[str | None, typer.Option(help="Corpus: see [b]list datasets[/b].", metavar="NAME")]
CacheDir = Annotated[
    str | None, typer.Option("--cache", metavar="DIR|URL", help="Feature cache. Default: var/cache/DATASET.")
]

cache_app = typer.Typer(help="Look after a feature cache.", no_args_is_help=True)


@command(cache_app, "info")
def info(dataset: Dataset = None, cache: CacheDir = None, json_: Json = False) -> None:
    """What a cache holds: streams with their keys, recordings, frames and bytes, and its label protocols.

    Example: python cli.py cache info --dataset demo
    """
    from cache.find import find_cache
    from cache.info import describe, info_lines

    about = describe(find_cache(cache, dataset))
    show(about, json_, *info_lines(about))


@command(cache_app, "why")
def why(
    key: Annotated[str, typer.Argument(help="A stream's key, or its bare name where that is one.")],
    dataset: Dataset = None,
    cache: CacheDir = None,
    json_: Json = False,
) -> None:
    """What a stream's key stands for: every setting in its fingerprint, and what sets it apart from its namesakes.

    Example: python cli.py cache why swin --dataset demo
    """
    from cache.find import find_cache
    from cache.why import explain, why_lines

    found = explain(find_cache(cache, dataset), key)
    show(found, json_, *why_lines(found))


@command(cache_app, "diff")
def diff(
    a: Annotated[str, typer.Argument(help="A stream's key, or its bare name where that is one.")],
    b: Annotated[str, typer.Argument(help="Another's.")],
    dataset: Dataset = None,
    cache: CacheDir = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """How far two streams are apart: the settings that differ, and the numbers of the recordings that both hold.

    Example: python cli.py cache diff swin-e9741fb4cfbd swin-3b17ab02cd9e --dataset demo
    """
    from cache.diff import compare_streams, diff_lines
    from cache.find import find_cache

    found = compare_streams(find_cache(cache, dataset), a, b, quiet=quiet)
    show(found, json_, *diff_lines(found))


@command(cache_app, "prune")
def prune_cache(
    dataset: Dataset = None,
    cache: CacheDir = None,
    partial: Annotated[bool, typer.Option("--partial", help="What dead writers left, folders without record.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Derived statistics; made anew when needed.")] = False,
    unused: Annotated[bool, typer.Option("--unused", help="Streams that no run below --runs used.")] = False,
    stream: Annotated[list[str] | None, typer.Option(metavar="KEY", help="This stream, by its full key.")] = None,
    keep: Annotated[list[str] | None, typer.Option(metavar="KEY", help="A stream that --unused leaves alone.")] = None,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Training runs that say what they used.")] = Path(
        "var/runs"
    ),
    yes: Annotated[bool, typer.Option("--yes", help="Remove it. Without: only list it.")] = False,
    json_: Json = False,
) -> None:
    """What of a cache may go, in bytes; with [b]--yes[/b] and a class it goes. Without a class all classes are listed.

    Example: python cli.py cache prune --dataset demo --stats --yes
    """
    from cache.errors import UsageError
    from cache.find import find_cache
    from cache.prune import Choice, plan_prune, prune, prune_lines

    root = find_cache(cache, dataset)
    choice = Choice(partial, stats, unused, tuple(stream or ()), tuple(keep or ()))
    if yes and choice.all:
        raise UsageError("--yes without a class", hint="say what goes: --partial, --stats, --unused or --stream KEY")
    found = plan_prune(root, runs, choice)
    found = prune(root, found) if yes else found
    show(found, json_, *prune_lines(found))


@command(cache_app, "verify")
def verify_cache(
    dataset: Dataset = None,
    cache: CacheDir = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte, against its checksum.")] = False,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Compare with another lab's receipt instead.")
    ] = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> int:
    """Whether a cache still is what was committed. Exit code 1: parts are damaged; [b]extract[/b] remakes just those.

    With --against: whether it is what a receipt says; exit code 1: something differs.

    Example: python cli.py cache verify --dataset demo --deep
    """
    from cache.against import against_lines, compare
    from cache.find import find_cache
    from cache.receipt import read_receipt
    from cache.verify import verdict_lines, verify

    if against is not None:
        found = compare(find_cache(cache, dataset), read_receipt(against), quiet=quiet)
        show(found, json_, *against_lines(found))
        return 1 if found.differences else 0
    verdict = verify(find_cache(cache, dataset), deep=deep, quiet=quiet)
    show(verdict, json_, *verdict_lines(verdict))
    return 1 if verdict.damages else 0


@command(cache_app, "receipt")
def receipt(
    dataset: Dataset = None,
    cache: CacheDir = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where it goes. Default: stdout.")] = None,
    quiet: Quiet = False,
) -> None:
    """A small JSON that can be published: hashes of times and labels, settings, eight numbers of every recording.

    Another lab holds its cache against it with [b]cache verify --against[/b]; no feature can be worked out from it.

    Example: python cli.py cache receipt --dataset demo --out receipt.json
    """
    from cache.find import find_cache
    from cache.receipt import make_receipt, receipt_text

    text = receipt_text(make_receipt(find_cache(cache, dataset), quiet=quiet))
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")
        print(f"{len(text.encode()):,} bytes in {out}")
