"""The command line of Affuse. A command parses, resolves its recipe, calls one run function and prints."""

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from cache.commands import cache_app
from cache.errors import UsageError
from cache.options import CacheDir, Dataset, Device, Fps, Plugin, Recipe, Root, Set, SetTrain
from cache.terminal import SOME_FAILED, Json, Quiet, command, show, write_any_text
from extract.commands import extract_app
from fuse.commands import fuse_app

ORDER = ("demo", "doctor", "extract", "index", "train-encoder", "train-fusion", "ablate", "compare", "robustness")
ORDER += ("ensemble", "evaluate", "predict", "submit", "view", "report", "list", "cache")


class Ordered(TyperGroup):
    """Commands in the order they are met in a project, whichever room they come from."""

    def list_commands(self, ctx: typer.Context) -> list[str]:
        """Those of ``ORDER`` first."""
        return sorted(super().list_commands(ctx), key=lambda n: ORDER.index(n) if n in ORDER else len(ORDER))


app = typer.Typer(
    cls=Ordered,
    help="Extract once, fuse many: an aligned feature cache and fusion heads for valence-arousal from video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(extract_app)
app.add_typer(fuse_app)
app.add_typer(cache_app, name="cache")


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
    from fuse.numbers.metrics import ccc_va

    given = {"encoder": encoder, "dataset": dataset, "root": root, "seed": seed, "epochs": epochs, "device": device}
    given |= {"fps": fps, "plugins": plugin}
    wanted = train_encoder_recipe(merge(given, parse_sets(set_ or [])), recipe)
    made = run_train_encoder(wanted, ccc, ccc_va, quiet=quiet)
    show(made, json_, *trained_lines(made))


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
    from fuse.tables.report import elsewhere_table

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


@command(app, "predict")
def predict(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.", metavar="RUN")],
    media: Annotated[
        list[Path] | None, typer.Argument(help="Videos, sound, folders of face crops.", metavar="MEDIA")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Default: var/predict/DATASET/RUN.", metavar="DIR")] = None,
    cache: Annotated[
        str | None, typer.Option(help="Where features go (var/predict/cache); with --partition, are.", metavar="DIR")
    ] = None,
    partition: Annotated[
        str | None, typer.Option(help="Of the run's cache, or --cache, instead of media.", metavar="NAME")
    ] = None,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also draw a film of each video and its traces.")] = False,
    transcript: Annotated[
        Path | None, typer.Option(help="A transcript, or a folder of them. Default: beside the media.", metavar="PATH")
    ] = None,
    faces: Annotated[str | None, typer.Option(help="For a run on a corpus's crops: largest or tracked.")] = None,
    face_weights: Annotated[str | None, typer.Option(help="YuNet's ONNX file, if it moved.", metavar="PATH")] = None,
    recogniser: Annotated[str | None, typer.Option(help="The run's Whisper, if it moved.", metavar="DIR")] = None,
    fps: Fps = None,
    plugin: Plugin = None,
    device: Device = None,
    set_: Set = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> int:
    """Valence and arousal of every frame of new videos, by a finished run, from exactly the features it was trained on.

    Writes NAME.csv (frame,time_s,valence,arousal), smoothed as the run was scored, and raw/NAME.csv. No label is
    opened. Weights that have moved: --set STREAM.weights=DIR. Exit code 3: some recordings failed, the rest is done.

    Example: python cli.py predict var/runs/demo/concat-...-seed0 video.mp4 --overlay
    """
    from cache.recipe import build, merge, parse_sets
    from cache.registry import load_plugin
    from cache.store import FeatureCache
    from extract.again import Again, run_again
    from extract.overlay import draw_overlays
    from fuse.finished import declared, load_run
    from fuse.prediction import PREDICTED, in_partition, out_folder, predict_all, prediction_lines, prediction_of

    if partition and (media or overlay):
        raise UsageError("--partition predicts what a cache has, without media", hint="leave media and --overlay out")
    for path in plugin or []:
        load_plugin(path)
    trained = load_run(run)
    folder = out_folder(trained, out, partition)
    new = None
    if partition:
        store = FeatureCache(cache or trained.recipe.cache)
        wanted = in_partition(trained, store, partition)
    else:
        given = {"cache": cache or PREDICTED / "cache", "faces": faces, "face_weights": face_weights, "fps": fps}
        given |= {"recogniser": recogniser, "device": device, "options": parse_sets(set_ or [])}
        new = run_again(media or [], declared(trained), build(Again, merge(given)), transcript, quiet=quiet)
        store, wanted = FeatureCache(new.cache), new.recordings
    keys = new.keys if new else None
    made, failed = predict_all(trained, store, wanted, folder, keys=keys, device=device or "auto", quiet=quiet)
    films = {n: (new.films[n], p.times, p.smoothed) for n, p in made.items() if new and n in new.films}
    drawn, spoilt = draw_overlays(films, folder, quiet=quiet) if overlay else ([], {})
    notes, failures = (new.notes, new.failures) if new else ([], {})
    result = prediction_of(trained, folder, made, notes, {**failures, **failed, **spoilt}, drawn)
    show(result, json_, *prediction_lines(result))
    return SOME_FAILED if result.failures else 0


@command(app, "view")
def view(
    runs: Annotated[list[Path], typer.Argument(help="Runs, or folders that predict wrote.", metavar="RUN")],
    cache: CacheDir = None,
    dataset: Dataset = None,
    root: Annotated[
        Path | None, typer.Option(help="Where media lie. Default: data/DATASET; they may be missing.", metavar="DIR")
    ] = None,
    partition: Annotated[
        str | None, typer.Option(help="One alone; test is counted. Default: train and validation.")
    ] = None,
    port: Annotated[int, typer.Option(help="0: any that is free.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    plugin: Plugin = None,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Watch recordings in a browser beside what runs predict: film, traces, annotation, words, attention.

    On this machine alone; works without media too. New films that predict was given: --cache var/predict/cache --root
    THEIR_FOLDER.

    Example: python cli.py view var/runs/demo/concat-...-seed0 var/runs/demo/jca-...-seed0 --dataset demo
    """
    from cache.recipe import parse_sets
    from cache.registry import load_plugin
    from cache.store import FeatureCache
    from extract.shown import shown, usual_root
    from fuse.view.data import cache_of, open_shelf, view_lines
    from fuse.view.server import address, listen, make_app, new_token, serve
    from fuse.view.sources import open_sources

    for path in plugin or []:
        load_plugin(path)
    sources = open_sources(runs)
    store = FeatureCache(cache_of([s.folder for s in sources], cache, dataset))
    name = dataset or store.dataset
    sets = parse_sets(set_ or [])
    options = sets.pop("dataset_options", {})
    if sets:
        raise UsageError(f"view has no settings {', '.join(sets)}", hint="only --set dataset_options.NAME=VALUE")
    found = shown(store, name, root or usual_root(name), options)
    shelf = open_shelf(sources, store, partition, found.media, found.sound, found.words)
    token = new_token()
    page, sock = make_app(shelf, token), listen(port)
    url = address(sock, token)
    show({"url": url, "notes": found.notes}, json_, *found.notes, *view_lines(shelf, partition, url))
    serve(page, sock, url, browser=not no_browser)


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
    from fuse.demo import save_demo
    from fuse.tables.ablate import ablate_recipe, run_ablate
    from fuse.tables.ranked import conclude
    from fuse.tables.report import ablation_table

    name, cache = Path("demo"), CACHES / "demo"
    write_demo(root / "corpus", quiet=quiet)
    extracted = run_extract(extract_recipe({"root": root / "corpus", "cache": cache}, name), quiet=quiet)
    if not json_:
        show(extracted, False, *extract_lines(extracted))
    grid = ablate_recipe(name, {"cache": cache, "seeds": seeds})
    table = conclude(run_ablate(grid, quiet=quiet), grid.partition)
    show(table, json_, ablation_table(table), *save_demo(root, cache, table))
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
    write_any_text()
    app()


if __name__ == "__main__":
    main()
