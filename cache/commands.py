"""``cli.py cache ...``: the commands that look after a cache."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cache.errors import UsageError
from cache.options import CacheDir, Dataset
from cache.terminal import SOME_FAILED, Json, Quiet, command, show

Dtype = Literal["float32", "float16", "bfloat16"]
Codec = Literal["none", "zstd", "gzip", "blosc"]

cache_app = typer.Typer(help="Look after a feature cache.", no_args_is_help=True)


@command(cache_app, "info")
def info(dataset: Dataset = None, cache: CacheDir = None, json_: Json = False) -> None:
    """What a cache holds: streams with their keys, recordings, frames and bytes, and its label protocols.

    Example: python cli.py cache info --dataset demo
    """
    from cache.care.info import describe, info_lines
    from cache.find import find_cache

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
    from cache.care.why import explain, why_lines
    from cache.find import find_cache

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
    from cache.care.diff import compare_streams, diff_lines
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
    from cache.care.prune import Choice, plan_prune, prune, prune_lines
    from cache.find import find_cache

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
    from cache.care.against import against_lines, compare
    from cache.care.receipt import read_receipt
    from cache.care.verify import verdict_lines, verify
    from cache.find import find_cache

    if against is not None:
        found = compare(find_cache(cache, dataset), read_receipt(against), quiet=quiet)
        show(found, json_, *against_lines(found))
        return 1 if found.differences else 0
    verdict = verify(find_cache(cache, dataset), deep=deep, quiet=quiet)
    show(verdict, json_, *verdict_lines(verdict))
    return 1 if verdict.damages else 0


@command(cache_app, "convert")
def convert_cache(
    dataset: Dataset = None,
    cache: CacheDir = None,
    out: Annotated[str | None, typer.Option(metavar="DIR|URL", help="Cache to fill. Default: the same one.")] = None,
    dtype: Annotated[Dtype | None, typer.Option(help="Another dtype, as streams of their own.")] = None,
    codec: Annotated[Codec | None, typer.Option(help="Packed; our own layout without it and --chunk.")] = None,
    chunk: Annotated[int | None, typer.Option(metavar="FRAMES", help="Frames in a chunk; 4096 if packed.")] = None,
    stream: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this stream; may be repeated.")] = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """The same features in another dtype, in other chunks or packed; what is there already is kept.

    Another dtype is added to the same cache unless --out is given (a bare name then stands for two streams: use keys).
    Other chunks and codecs alone need --out.

    Example: python cli.py cache convert --dataset demo --dtype bfloat16
    """
    from cache.care.convert import convert, convert_lines
    from cache.find import find_cache
    from cache.packed import CHUNK, Packing

    own = chunk is None and codec in (None, "none")
    packing = None if own else Packing(codec or "none", CHUNK if chunk is None else chunk)
    root, names = find_cache(cache, dataset), tuple(stream or ())
    found = convert(root, out, dtype=dtype, packing=packing, streams=names, quiet=quiet)
    show(found, json_, *convert_lines(found))


Foreign = Annotated[
    str, typer.Argument(help="csv, hdf5, csd, muse, mmsa, merbench or video-features.", metavar="FORMAT")
]


@command(cache_app, "export")
def export(
    format_: Annotated[str, typer.Argument(help="hdf5, csd or muse.", metavar="FORMAT")],
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
    format_: Foreign,
    path: Annotated[Path, typer.Argument(help="What to import: a file or folder of that layout.")],
    dataset: Dataset = None,
    cache: CacheDir = None,
    stream: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=MODALITY", help="visual, audio, text or none, where the name does not tell."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Labels the layout lacks: a .csv of name,valence,arousal,partition,subject[,time_s]."
        ),
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
    dtype: Annotated[str, typer.Option(help="float32, or float16 in half the bytes.")] = "float32",
    json_: Json = False,
    quiet: Quiet = False,
) -> int:
    """Features that were made elsewhere, so that heads train on them. Files are not trusted; pickles are never run.

    Recordings keep the frames that the cache has of them; others get nominal ones.
    What is committed stays. Says what is dropped. Exit code 3: some recordings failed, the rest is done.

    Your own: [b]csv[/b] is features/STREAM/RECORDING.csv and labels/RECORDING.csv with times, and recordings.csv.

    Example: python cli.py cache import csv data/lab --dataset lab --stream gaze=visual
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
    from cache.care.receipt import check_out, make_receipt, receipt_text, save_receipt
    from cache.find import find_cache

    if out is not None:
        check_out(out)
    text = receipt_text(make_receipt(find_cache(cache, dataset), quiet=quiet))
    if out is None:
        print(text, end="")
    else:
        show(None, False, f"{save_receipt(out, text):,} bytes in {out}")


@command(cache_app, "pca")
def pca(
    stream: Annotated[str, typer.Argument(help="A stream's key, or its bare name where that is one.")],
    components: Annotated[int, typer.Option(help="How many.")] = 128,
    partition: Annotated[str, typer.Option(help="That it is fitted on.")] = "train",
    protocol: Annotated[str, typer.Option(help="Of the labels whose partitions these are.")] = "va",
    dataset: Dataset = None,
    cache: CacheDir = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Principal components of a stream as a stream STREAM-pcaN, fitted on one partition alone.

    Example: python cli.py cache pca swin --components 64 --dataset demo
    """
    from cache.find import find_cache
    from cache.store import FeatureCache
    from cache.whole.project import project, project_lines

    store = FeatureCache(find_cache(cache, dataset))
    found = project(store, stream, components, partition=partition, protocol=protocol, quiet=quiet)
    show(found, json_, *project_lines(found))


@command(cache_app, "duplicates")
def duplicates(
    stream: Annotated[str, typer.Argument(help="A stream's key, or its bare name where that is one.")],
    least: Annotated[float, typer.Option(help="Share of frames from which a pair is told.")] = 0.2,
    protocol: Annotated[str, typer.Option(help="Of the labels whose partitions are looked at.")] = "va",
    dataset: Dataset = None,
    cache: CacheDir = None,
    json_: Json = False,
) -> int:
    """Recordings that share frames, by one stream. Exit code 1: two of them are on two sides of the split.

    Example: python cli.py cache duplicates swin --dataset demo
    """
    from cache.find import find_cache
    from cache.store import FeatureCache
    from cache.whole.duplicates import duplicate_lines, find_duplicates

    found = find_duplicates(FeatureCache(find_cache(cache, dataset)), stream, least=least, protocol=protocol)
    show(found, json_, *duplicate_lines(found))
    return 1 if found.leaks else 0
