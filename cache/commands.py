"""``cli.py cache ...``: the commands that look after a cache."""

from pathlib import Path
from typing import Annotated

import typer

from cache.errors import UsageError
from cache.terminal import SOME_FAILED, Json, Quiet, command, show

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


Format = Annotated[str, typer.Argument(help="hdf5, csd, muse, mmsa, merbench or video-features.", metavar="FORMAT")]


@command(cache_app, "export")
def export(
    format_: Format,
    path: Annotated[Path, typer.Argument(help="A file or folder that is not there yet.")],
    dataset: Dataset = None,
    cache: CacheDir = None,
    json_: Json = False,
) -> None:
    """A cache in another layout: [b]hdf5[/b] (one file, nothing is lost), [b]csd[/b] or [b]muse[/b] (CSV folders).

    Says what the layout has no place for.

    Example: python cli.py cache export hdf5 demo.h5 --dataset demo
    """
    from cache.find import find_cache
    from cache.interop import FORMATS
    from cache.interop._layout import export_to
    from cache.interop._report import export_lines
    from cache.store import FeatureCache

    written = export_to(FORMATS.get(format_), FeatureCache(find_cache(cache, dataset)), path)
    show(written, json_, *export_lines(written))


@command(cache_app, "import")
def import_(
    format_: Format,
    path: Annotated[Path, typer.Argument(help="What to import: a file or folder of that layout.")],
    dataset: Dataset = None,
    cache: CacheDir = None,
    stream: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=MODALITY", help="visual, audio, text or none, where the name does not tell."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Labels that are not where the layout has them.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="V,A", help="Label columns of valence and arousal, from 0.")
    ] = None,
    label_range: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="Of the source's labels, mapped to -1,1.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="Name of these labels and partitions.")] = "va",
    fps: Annotated[
        float | None, typer.Option(help="Frames a second where the cache has none. Default: the labels' rate, or 25.")
    ] = None,
    align: Annotated[str, typer.Option(help="overlap, linear or nearest.")] = "overlap",
    dtype: Annotated[str, typer.Option(help="float16 or float32.")] = "float16",
    json_: Json = False,
    quiet: Quiet = False,
) -> int:
    """Features that were made elsewhere, so that heads train on them. Files are not trusted; pickles are never run.

    Recordings keep the frames that the cache has of them; others get nominal ones. What is committed stays. Says what
    is dropped. Exit code 3: some recordings failed, the rest is done.

    Example: python cli.py cache import muse data/muse --dataset muse --stream vggface=visual
    """
    from cache.find import find_cache
    from cache.interop import FORMATS
    from cache.interop._bring import bring_in
    from cache.interop._report import import_lines
    from cache.interop._wants import wants
    from cache.store import FeatureCache

    if cache is None and dataset is None:
        raise UsageError("into which cache?", hint="give --cache DIR, or --dataset NAME for var/cache/NAME")
    wanted = wants(stream or [], labels, columns, label_range, protocol, fps, align, dtype)
    layout = FORMATS.get(format_)(path, wanted)
    with layout.opened:
        store = FeatureCache.create(find_cache(cache, dataset), dataset or layout.dataset)
        done = bring_in(layout, FORMATS.aliases.get(format_, format_), store, quiet=quiet)
    show(done, json_, *import_lines(done))
    return SOME_FAILED if done.failures else 0
