"""The command line of Affuse. A command parses, resolves its recipe, calls one run function and prints."""

import re
from pathlib import Path
from typing import Annotated

import typer

from cache.commands import CacheDir, Dataset, cache_app
from cache.errors import UsageError
from cache.terminal import SOME_FAILED, Json, Quiet, command, show
from fuse.commands import Resume, SetTrain, fuse_app

app = typer.Typer(
    help="Extract once, fuse many: an aligned feature cache and fusion heads for valence-arousal from video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cache_app, name="cache")
app.add_typer(fuse_app)

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
Plugin = Annotated[
    list[Path] | None, typer.Option(metavar="FILE", help="Python file that registers something of your own (it runs).")
]


def _split(values: Names) -> list[str] | None:
    """``--visual a,b --visual c`` as [a, b, c]; ``none`` as []; not given as None. ``@layers=6,9`` stays whole."""
    if values is None:
        return None
    names = [n.strip() for v in values for n in re.split(r",(?!\s*-?\d+\s*(?:[,@]|$))", v)]
    return [n for n in names if n not in ("", "none")]


@command(app, "extract")
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
    given |= {"visual": _split(visual), "audio": _split(audio), "text": _split(text), "plugins": plugin}
    given |= {"faces": faces, "face_weights": face_weights, "recogniser": recogniser, "language": language}
    wanted = extract_recipe(merge(given, parse_sets(set_ or [])), recipe)
    if plan:
        forecast = run_plan(wanted, quiet=quiet)
        show(forecast, json_, plan_table(forecast))
        return 0 if forecast.fits else 1
    result = run_extract(wanted, quiet=quiet)
    show(result, json_, *extract_lines(result))
    return SOME_FAILED if result.failures else 0


@command(app, "index")
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


@command(app, "doctor")
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


@command(app, "train-encoder")
def train_encoder(
    encoder: Annotated[str | None, typer.Option(help="What to fit, e.g. spectrogram or resnet18.")] = None,
    dataset: Dataset = None,
    root: Root = None,
    seed: Annotated[int | None, typer.Option(help="Default: 0.")] = None,
    epochs: Annotated[int | None, typer.Option(help="At most so many. Default: 30.")] = None,
    fps: Fps = None,
    plugin: Plugin = None,
    device: Device = None,
    recipe: Recipe = None,
    set_: SetTrain = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit an encoder to a corpus's labels with the CCC loss; what is left is a folder of weights for [b]extract[/b].

    From scratch, unless --set options.weights=hub (or a folder). The epoch is chosen on validation; test is never read.

    Example: python cli.py train-encoder --encoder spectrogram --dataset affwild2 --root data/affwild2
    """
    from cache.recipe import merge, parse_sets
    from extract.finetune import run_train_encoder
    from extract.finetune_recipe import train_encoder_recipe
    from extract.report import trained_lines
    from fuse.losses import ccc
    from fuse.metrics import ccc_va

    given = {"encoder": encoder, "dataset": dataset, "root": root, "seed": seed, "epochs": epochs, "device": device}
    given |= {"fps": fps, "plugins": plugin}
    wanted = train_encoder_recipe(merge(given, parse_sets(set_ or [])), recipe)
    made = run_train_encoder(wanted, ccc, ccc_va, quiet=quiet)
    show(made, json_, *trained_lines(made))


@command(app, "train-fusion")
def train_fusion(
    head: Annotated[str | None, typer.Option(help="Fusion head: see [b]list heads[/b].")] = None,
    dataset: Dataset = None,
    cache: CacheDir = None,
    visual: Visual = None,
    audio: Audio = None,
    text: Text = None,
    seed: Annotated[int | None, typer.Option(help="Default: 0.")] = None,
    epochs: Annotated[int | None, typer.Option(help="At most so many. Default: 50.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Window length L. Default: the head's own.")] = None,
    stride: Annotated[int | None, typer.Option(help="Frames between tokens. Default: the head's own.")] = None,
    temporal: Annotated[
        Names, typer.Option(metavar="STREAM=MODEL", help="Before the head: tcn, gru, lstm, transformer. Repeatable.")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="ccc, mse or mse+ccc. Default: the head's own.")] = None,
    folds: Annotated[int | None, typer.Option(help="Cross-validate over train and validation instead.")] = None,
    fold_by: Annotated[str | None, typer.Option(help="recording (default) or subject.")] = None,
    resume: Resume = False,
    plugin: Plugin = None,
    device: Device = None,
    recipe: Recipe = None,
    set_: SetTrain = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Stage two: train one fusion head from the cache; the epoch is chosen on validation, then test is scored once.

    Uses all streams of the cache unless --visual, --audio or --text name some. Head options: --set options.k=16.
    A model of time per stream or modality: --temporal visual=tcn, causal unless --set temporal_options.causal=false.

    Example: python cli.py train-fusion --head maven --visual swin --audio hubert --seed 1
    """
    from cache.find import find_cache
    from cache.recipe import merge, parse_sets
    from cache.store import FeatureCache
    from fuse.crossval import fold_lines, run_folds
    from fuse.recipe import train_recipe
    from fuse.report import run_table
    from fuse.streams import named_streams
    from fuse.train import run_train

    root = find_cache(cache, dataset)
    given = {"head": head, "seed": seed, "epochs": epochs, "tokens": tokens, "stride": stride, "loss": loss}
    given |= {"device": device, "plugins": plugin, "folds": folds, "fold_by": fold_by}
    given |= {"temporal": parse_sets(temporal or [], "--temporal") or None}
    given |= named_streams(FeatureCache(root), {"visual": _split(visual), "audio": _split(audio), "text": _split(text)})
    resolved = train_recipe(root, recipe, merge(given, parse_sets(set_ or [])))
    if resolved.folds and resolved.fold is None:
        crossed = run_folds(resolved, resume=resume, quiet=quiet)
        show(crossed, json_, *fold_lines(crossed))
        return
    result = run_train(resolved, resume=resume, quiet=quiet)
    show(result, json_, run_table(result), f"saved in {result.folder}")


@command(app, "evaluate")
def evaluate(
    source: Annotated[Path, typer.Argument(help="A run's folder, or a folder of prediction files.", metavar="PATH")],
    dataset: Dataset = None,
    root: Annotated[Path | None, typer.Option(help="Files against the labels of this corpus.", metavar="DIR")] = None,
    cache: CacheDir = None,
    partition: Annotated[str, typer.Option(help="train, validation or test, which is counted.")] = "validation",
    plugin: Plugin = None,
    device: Device = None,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Score without training: a run on any cache that has its streams, or files of frame,time_s,valence,arousal.

    Example: python cli.py evaluate var/runs/demo/maven-...-seed0 --dataset demo --partition validation
    """
    from cache.find import find_cache
    from cache.recipe import merge, parse_sets
    from cache.store import FeatureCache
    from extract.recipe import extract_recipe
    from extract.truth import corpus_truth
    from fuse.elsewhere import cache_truth, count_corpus, evaluate_files, evaluate_run
    from fuse.report import elsewhere_table

    if root is not None:
        given = {"dataset": dataset, "root": root, "plugins": plugin}
        split, truth = corpus_truth(extract_recipe(merge(given, parse_sets(set_ or []))))
        wanted = count_corpus(split, partition, source)
        found = evaluate_files(source, wanted, truth, str(dataset), partition)
    else:
        store = FeatureCache(find_cache(cache, dataset))
        if (source / "recipe.json").is_file():
            found = evaluate_run(source, store, partition, device or "auto")
        else:
            wanted, truth = cache_truth(store, "va", partition, source)
            found = evaluate_files(source, wanted, truth, store.dataset, partition)
    show(found, json_, elsewhere_table(found))


@command(app, "demo")
def demo(
    root: Annotated[Path, typer.Option(help="Where the corpus, the plots and the table go.")] = Path("var/demo"),
    seeds: Annotated[int | None, typer.Option(help="Seeds of every row. Default: 3.")] = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> int:
    """The whole idea on real files, in minutes: write a small corpus, extract, train a table of heads.

    Example: python cli.py demo
    """
    from cache.find import CACHES
    from extract.demo.write import write_demo
    from extract.recipe import extract_recipe
    from extract.report import extract_lines
    from extract.run import run_extract
    from fuse.ablate import ablate_recipe, run_ablate
    from fuse.demo import save_demo
    from fuse.report import ablation_table

    name, cache = Path("demo"), CACHES / "demo"
    write_demo(root / "corpus", quiet=quiet)
    extracted = run_extract(extract_recipe({"root": root / "corpus", "cache": cache}, name), quiet=quiet)
    if not json_:
        show(extracted, False, *extract_lines(extracted))
    grid = ablate_recipe(name, {"cache": cache, "seeds": seeds})
    rows = run_ablate(grid, quiet=quiet)
    show(rows, json_, ablation_table(rows, grid.partition), *save_demo(root, cache, rows))
    return SOME_FAILED if extracted.failures else 0


@command(app, "list")
def list_names(kind: Annotated[str, typer.Argument(help="heads, encoders or datasets.")], json_: Json = False) -> None:
    """Names that other commands take.

    Example: python cli.py list heads
    """
    from cache.registry import names_of
    from extract.naming import forms

    packages = {"heads": "fuse.heads", "encoders": "extract.encoders", "datasets": "extract.datasets"}
    if kind not in packages:
        raise UsageError(f"{kind!r} is none of {', '.join(packages)}")
    names = (forms if kind == "encoders" else list)(names_of(packages[kind]))
    show(names, json_, *names)


def main() -> None:
    """Entry point of the ``affuse`` script."""
    app()


if __name__ == "__main__":
    main()
