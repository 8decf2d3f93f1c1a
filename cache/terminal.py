"""What every command shares: how it is registered, how its errors end, and how its result is printed."""

import functools
import json
import logging
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cache.errors import AffuseError
from cache.recipe import to_plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

INTERRUPTED = 130
SOME_FAILED = 3
KEPT = {
    "extract": "what is committed is kept: run the same command to go on",
    "predict": "what is extracted is kept: run the same command to go on",
    "demo": "what is extracted is kept: run the same command to go on",
    "convert": "what is converted is kept: run the same command to go on",
    "train-encoder": "the weights are not kept: run the same command to start anew",
    "train-fusion": "run the same command with --resume to go on from the last checkpoint",
    "import": "what is imported is kept: run the same command to go on",
    "ablate": "what is trained is kept: run the same command with --resume to go on",
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
                print(visible(f"error: {error}"), file=sys.stderr)
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Visible("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("affuse").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def show(value: Any, as_json: bool, *tables: Any) -> None:
    """Print a result: as one JSON document, or as tables and lines. All of them may quote strangers: they are plain."""
    if as_json:
        print(json.dumps(to_plain(value), indent=2))
        return
    console = _console()
    for table in tables:
        console.print(table, soft_wrap=isinstance(table, str))


def _console() -> "Console":
    """A terminal that takes no text for markup or emoji: not of lines, nor of a table's title, heads and cells."""
    from rich.console import Console

    class Plain(Console):
        def render_str(self, text: str, *args: Any, **kwargs: Any) -> "Text":
            return super().render_str(visible(text), *args, **kwargs)

    width = None if sys.stdout.isatty() else 80
    return Plain(width=width, highlight=False, markup=False, emoji=False)


def visible(text: str) -> str:
    """The text with its control characters, and what is no character at all, as escapes: a terminal obeys none."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


class _Visible(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))
