"""Commands of stage one, and those that look at a corpus before or after it."""

from pathlib import Path
from typing import Annotated

import typer

from cache.commands import cache_app
from cache.options import (
    Audio,
    CacheDir,
    Cluster,
    Dataset,
    Device,
    Fps,
    Plugin,
    Recipe,
    Root,
    Scheduler,
    Set,
    Text,
    Visual,
    split,
)
from cache.terminal import SOME_FAILED, Json, Quiet, command, show

extract_app = typer.Typer()


@command(extract_app, "extract")
def extract(
    dataset: Dataset = None,
    root: Root = None,
    cache: CacheDir = None,
    visual: Visual = None,
    audio: Audio = None,
    text: Text = None,
    align: Annotated[str | None, typer.Option(help="overlap (default), linear or nearest.")] = None,
    fps: Fps = None,
    faces: Annotated[str | None, typer.Option(help="Crop faces of raw video: none, largest or tracked.")] = None,
    face_weights: Annotated[str | None, typer.Option(help="YuNet's ONNX file. Default: hub.", metavar="PATH")] = None,
    recogniser: Annotated[str | None, typer.Option(help="Whisper (ID or ./DIR), where no transcript is.")] = None,
    language: Annotated[str | None, typer.Option(help="What it hears, e.g. en. Default: detected.")] = None,
    device: Device = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the work. Default: 0, this one.")] = None,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    recipe: Recipe = None,
    plugin: Plugin = None,
    set_: Set = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show hours, GB and memory; extract nothing.")] = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> int:
    """Stage one: run frozen encoders once over a corpus, aligned to the video's own timestamps.

    Makes only what the cache lacks, so it resumes by itself. Exit code 3: some recordings failed, the rest is done.

    Example: python cli.py extract --dataset affwild2 --root data/affwild2 --visual swin --audio hubert --text roberta
    """
    from cache.recipe import merge, parse_sets
    from extract.forecast import plan_table, run_plan
    from extract.recipe import extract_recipe
    from extract.report import extract_lines
    from extract.run import run_extract

    given = {"dataset": dataset, "root": root, "cache": cache, "align": align, "device": device, "fps": fps}
    given |= {"visual": split(visual), "audio": split(audio), "text": split(text), "plugins": plugin}
    given |= {"faces": faces, "face_weights": face_weights, "recogniser": recogniser, "language": language}
    given |= {"workers": workers, "scheduler": scheduler, "cluster": cluster}
    wanted = extract_recipe(merge(given, parse_sets(set_ or [])), recipe)
    if plan:
        forecast = run_plan(wanted, quiet=quiet)
        show(forecast, json_, plan_table(forecast))
        return 0 if forecast.fits else 1
    result = run_extract(wanted, quiet=quiet)
    show(result, json_, *extract_lines(result))
    return SOME_FAILED if result.failures else 0


@command(extract_app, "index")
def index(
    dataset: Dataset = None,
    root: Root = None,
    cache: CacheDir = None,
    recipe: Recipe = None,
    plugin: Plugin = None,
    set_: Set = None,
    json_: Json = False,
) -> int:
    """Write a corpus's labels and partitions into its cache anew, e.g. for a new year's split. Seconds, no encoding.

    Example: python cli.py index --dataset affwild2 --root data/affwild2
    """
    from cache.find import find_cache
    from cache.recipe import merge, parse_sets
    from cache.store import FeatureCache
    from extract.datasets import open_dataset
    from extract.index import index_labels
    from extract.recipe import extract_recipe

    if not (dataset or recipe):
        cache = find_cache(cache, None)
        dataset = FeatureCache(cache).dataset or None
    given = {"dataset": dataset, "root": root, "cache": cache, "plugins": plugin}
    wanted = extract_recipe(merge(given, parse_sets(set_ or [])), recipe)
    store = FeatureCache(wanted.cache)
    store.check_dataset(wanted.dataset)
    corpus = open_dataset(wanted.dataset, wanted.root, wanted.dataset_options)
    notes, failures = index_labels(corpus, store)
    count = len(store.labels.recordings(corpus.protocol))
    told = [*notes, *map(str, failures)]
    show({"labelled": count, "notes": notes, "failures": failures}, json_, f"{count} recordings labelled", *told)
    return SOME_FAILED if failures else 0


@command(extract_app, "doctor")
def doctor(
    dataset: Dataset = None,
    root: Root = None,
    fps: Fps = None,
    recipe: Recipe = None,
    plugin: Plugin = None,
    set_: Set = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> int:
    """What is wrong with a corpus, before any GPU hour: media, sound, crops, labels, transcripts, partitions.

    Exit code 1: something would spoil numbers. Options of the corpus: --set dataset_options.label_range=[1,9].

    Example: python cli.py doctor --dataset affwild2 --root data/affwild2
    """
    from cache.recipe import merge, parse_sets
    from extract.doctor import diagnosis_table, run_doctor
    from extract.recipe import extract_recipe

    given = {"dataset": dataset, "root": root, "fps": fps, "plugins": plugin}
    found = run_doctor(extract_recipe(merge(given, parse_sets(set_ or [])), recipe), quiet=quiet)
    show(found, json_, diagnosis_table(found))
    return 1 if found.faults else 0


@command(cache_app, "inspect")
def inspect(
    recording: Annotated[str, typer.Argument(help="Its id in the corpus.")],
    dataset: Dataset = None,
    root: Annotated[Path | None, typer.Option(help="Where the corpus lies, for its media.", metavar="DIR")] = None,
    cache: CacheDir = None,
    out: Annotated[
        Path | None, typer.Option(help="The picture. Default: var/inspect/RECORDING.png.", metavar="FILE")
    ] = None,
    plugin: Plugin = None,
    set_: Set = None,
) -> None:
    """One recording as one picture on one time axis: frames, sound, words, what is cached, labels, uneven frame times.

    Example: python cli.py cache inspect demo01 --dataset demo --root var/demo/corpus
    """
    from cache.find import find_cache
    from cache.ids import folder_of
    from cache.recipe import merge, parse_sets
    from cache.store import FeatureCache
    from extract.datasets import open_dataset
    from extract.inspect import gather
    from extract.inspect_plot import plot_recording
    from extract.recipe import extract_recipe

    store, corpus = FeatureCache(find_cache(cache, dataset)), None
    if root is not None:
        given = {"dataset": dataset or store.dataset or None, "root": root, "plugins": plugin}
        wanted = extract_recipe(merge(given, parse_sets(set_ or [])))
        corpus = open_dataset(wanted.dataset, wanted.root, wanted.dataset_options)
    shown = gather(store, recording, corpus)
    path = out or Path("var/inspect") / f"{folder_of(recording)}.png"
    plot_recording(path, shown)
    show(None, False, *shown.missing, f"drawn in {path}")
