"""What every command shares: how it is registered, how its errors end, and how its result is printed."""

import codecs
import functools
import io
import json
import logging
import shutil
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

WIDTH = 80  # of tables at the least: where a terminal has less it wraps their lines, and no number is cut
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
    "robustness": "no curve is kept: run the same command to start anew",
    "view": "nothing was changed: run the same command to look again",
}

_PLAIN = dict(zip("▁▂▃▄▅▆▇█│└─━±…\u2800", "_.,-=+*#|`-=~. ", strict=True))

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
    handler = _Stderr()
    handler.setFormatter(_Visible("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("affuse").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def write_any_text() -> None:
    """From now on a character that a terminal's or a pipe's encoding lacks is written as the nearest that it has."""
    codecs.register_error("affuse-plain", _plainer)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="affuse-plain")


def show(value: Any, as_json: bool, *tables: Any) -> None:
    """Print a result: as one JSON document, or as tables and lines. All of them may quote strangers: they are plain."""
    if as_json:
        print(json.dumps(to_plain(value), indent=2))
        return
    console = _console()
    for table in tables:
        console.print(table, soft_wrap=isinstance(table, str))


def columns() -> int:
    """Of the terminal that stdout is; 0 where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def _console() -> "Console":
    """A terminal that takes no text for markup or emoji: not of lines, nor of a table's title, heads and cells."""
    from rich.console import Console

    class Plain(Console):
        def render_str(self, text: str, *args: Any, **kwargs: Any) -> "Text":
            return super().render_str(visible(text), *args, **kwargs)

    return Plain(width=max(columns(), WIDTH), highlight=False, markup=False, emoji=False)


def visible(text: str) -> str:
    """The text with its control characters, and what is no character at all, as escapes: a terminal obeys none."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """For a terminal or a pipe that is not UTF-8: what it lacks, each as one character that it has."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join("*" if "\u2800" < c <= "\u28ff" else _PLAIN.get(c, "?") for c in lacking), error.end


class _Stderr(logging.StreamHandler[Any]):
    """Writes to what is stderr at the time: under a live bar that is what keeps lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _Visible(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))
