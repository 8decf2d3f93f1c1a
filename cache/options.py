"""Options that commands of several rooms share, so that one flag means one thing everywhere."""

import re
from pathlib import Path
from typing import Annotated

import typer

Dataset = Annotated[str | None, typer.Option(help="Corpus: see [b]list datasets[/b].", metavar="NAME")]
CacheDir = Annotated[
    str | None, typer.Option("--cache", metavar="DIR|URL", help="Feature cache. Default: var/cache/DATASET.")
]
SetTrain = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, e.g. lr=1e-4, options.k=16.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the same command was killed.")]
Root = Annotated[Path | None, typer.Option(help="Where the corpus lies. Default: data/DATASET.", metavar="DIR")]
Names = list[str] | None
Visual = Annotated[
    Names, typer.Option(metavar="NAMES", help="Visual streams, comma-separated or repeated; [b]none[/b] for none.")
]
Audio = Annotated[Names, typer.Option(metavar="NAMES", help="Audio streams, likewise.")]
Text = Annotated[Names, typer.Option(metavar="NAMES", help="Text streams, likewise.")]
Fps = Annotated[
    float | None,
    typer.Option(metavar="RATE", help="Frames a second of recordings without video: crops or sound alone."),
]
Recipe = Annotated[
    Path | None, typer.Option("--recipe", help="TOML file (or a shipped name), below the flags.", metavar="FILE")
]
Set = Annotated[
    Names, typer.Option("--set", metavar="KEY=VALUE", help="An encoder's option, e.g. swin.precision=bf16.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps. Default: auto.", metavar="NAME")]
Scheduler = Annotated[
    str | None, typer.Option(help="A Dask cluster that does the work: tcp://HOST:8786.", metavar="URL")
]
Cluster = Annotated[str | None, typer.Option(help="Start --workers N of one: slurm:FILE.toml.", metavar="KIND:FILE")]
Plugin = Annotated[
    list[Path] | None, typer.Option(metavar="FILE", help="Python file that registers something of your own (it runs).")
]


def split(values: Names) -> list[str] | None:
    """``--visual a,b --visual c`` as [a, b, c]; ``none`` as []; not given as None. ``@layers=6,9`` stays whole."""
    if values is None:
        return None
    names = [n.strip() for v in values for n in re.split(r",(?!\s*-?\d+\s*(?:[,@]|$))", v)]
    return [n for n in names if n not in ("", "none")]
