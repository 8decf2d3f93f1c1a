"""What every command shares: how it is registered, how its errors end, and how its result is printed."""

import functools
import json
import logging
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from cache.errors import AffuseError
from cache.recipe import to_plain

INTERRUPTED = 130
SOME_FAILED = 3
KEPT = {
    "extract": "what is committed is kept: run the same command to go on",
    "demo": "what is extracted is kept: run the same command to go on",
    "convert": "what is converted is kept: run the same command to go on",
    "train-encoder": "the weights are not kept: run the same command to start anew",
    "train-fusion": "the run is not kept: run the same command to start it anew",
    "import": "what is imported is kept: run the same command to go on",
    "ablate": "finished runs stay in their folders, the table is made anew by the same command",
}

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, everything else on stderr.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


def command(group: typer.Typer, name: str) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Register a command whose errors end in one line and the right exit code."""

    def add(function: Callable[..., int | None]) -> Callable[..., None]:
        @group.command(name)
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            _prepare()
            try:
                code = function(*args, **kwargs)
            except AffuseError as error:
                print(f"error: {error}", file=sys.stderr)
                code = error.exit_code
            except KeyboardInterrupt:
                print(f"interrupted; {KEPT.get(name, 'nothing was changed')}", file=sys.stderr)
                code = INTERRUPTED
            raise typer.Exit(code or 0)

        return guarded

    return add


def _prepare() -> None:
    logging.addLevelName(logging.INFO, "note")
    logging.addLevelName(logging.WARNING, "warning")
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr, level=logging.WARNING, force=True)
    logging.getLogger("affuse").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def show(value: Any, as_json: bool, *tables: Any) -> None:
    """Print a result: as one JSON document, or as tables and lines. Lines may quote strangers: they are plain."""
    if as_json:
        print(json.dumps(to_plain(value), indent=2))
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 80, highlight=False)
    for table in tables:
        if isinstance(table, str):
            plain = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in table)
            console.print(plain, soft_wrap=True, markup=False, emoji=False)
        else:
            console.print(table)
