"""Commands of stage two: one head, a table of them, and what finished runs are worth."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cache.errors import UsageError
from cache.options import (
    Audio,
    CacheDir,
    Cluster,
    Dataset,
    Device,
    Names,
    Plugin,
    Recipe,
    Resume,
    Scheduler,
    SetTrain,
    Text,
    Visual,
    split,
)
from cache.terminal import Json, Quiet, columns, command, show

Run = Annotated[Path, typer.Argument(help="A run's folder; without -seedN: all its seeds.", metavar="RUN")]
Workers = Annotated[int | None, typer.Option(help="Processes that share the runs, one thread each. Default: 1.")]

fuse_app = typer.Typer()


@command(fuse_app, "train-fusion")
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
    tracker: Annotated[
        str | None, typer.Option(help="tensorboard, mlflow or wandb, offline; log.jsonl is always there.")
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
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
    from fuse.curve import curve_lines, read_history
    from fuse.feeding.streams import named_streams
    from fuse.many import run_many
    from fuse.recipe import train_recipe
    from fuse.tables.report import run_table
    from fuse.train import run_train

    root = find_cache(cache, dataset)
    given: dict[str, Any] = {
        "head": head,
        "seed": seed,
        "epochs": epochs,
        "tokens": tokens,
        "stride": stride,
        "loss": loss,
    }
    given |= {"device": device, "plugins": plugin, "folds": folds, "fold_by": fold_by, "tracker": tracker}
    given |= {"temporal": parse_sets(temporal or [], "--temporal") or None}
    given |= named_streams(FeatureCache(root), {"visual": split(visual), "audio": split(audio), "text": split(text)})
    resolved = train_recipe(root, recipe, merge(given, parse_sets(set_ or [])))
    scheduler, cluster = scheduler or "", cluster or ""
    if resolved.folds and resolved.fold is None:
        crossed = run_folds(resolved, workers or 1, scheduler=scheduler, cluster=cluster, resume=resume, quiet=quiet)
        show(crossed, json_, *fold_lines(crossed))
        return
    if workers and workers > 1:
        raise UsageError(
            f"one run is not shared by {workers} workers", hint="give --folds N, or see: cli.py ablate --help"
        )
    if scheduler or cluster:
        result = run_many([resolved], scheduler=scheduler, cluster=cluster, resume=resume)[0]
    else:
        result = run_train(resolved, resume=resume, quiet=quiet)
    width = 0 if quiet or json_ else columns()
    curves = curve_lines(read_history(Path(result.folder)), width) if width else []
    show(result, json_, run_table(result), *curves, f"saved in {result.folder}")


@command(fuse_app, "compare")
def compare(
    a: Run,
    b: Run,
    partition: Annotated[str, typer.Option(help="validation or test.")] = "test",
    scored: Annotated[str, typer.Option(help="raw or smoothed.")] = "raw",
    json_: Json = False,
) -> None:
    """Whether run A beats run B: difference of their CCCs, its interval, p, effect, and the seeds it would need.

    Over recordings, paired. From what the runs left when they were scored: no label is opened.

    Example: python cli.py compare var/runs/demo/maven-...-seed0 var/runs/demo/concat-...-seed0
    """
    from fuse.numbers.compare import compare_runs, comparison_lines

    found = compare_runs(a, b, partition, scored)
    show(found, json_, *comparison_lines(found))


@command(fuse_app, "ensemble")
def ensemble(
    runs: Annotated[list[Path], typer.Argument(help="Runs; without -seedN all seeds.", metavar="RUN")],
    dataset: Dataset = None,
    cache: CacheDir = None,
    partition: Annotated[str, typer.Option(help="validation, or test, which is counted.")] = "validation",
    centre: Annotated[bool, typer.Option("--centre", help="CCC-centring, fitted on each run's validation.")] = False,
    json_: Json = False,
) -> None:
    """Score the mean of what several runs predicted: seeds, heads or streams; what is left can be compared.

    The folder of a cross-validation stands for its folds: each recording is predicted by the run that held it out
    (--partition test). On another corpus, first [b]evaluate[/b] each run there.

    Example: python cli.py ensemble var/runs/demo/maven-... var/runs/demo/concat-... --partition test
    """
    from cache.find import find_cache
    from cache.store import FeatureCache
    from fuse.ensemble import ensemble_lines, run_ensemble

    store = FeatureCache(find_cache(cache, dataset)) if cache or dataset else None
    found = run_ensemble(runs, store, partition, centre=centre)
    show(found, json_, *ensemble_lines(found))


@command(fuse_app, "ablate")
def ablate(
    recipe: Annotated[
        Path | None, typer.Option(help="TOML with rows, or shipped: demo, jca-table, maven-table1, maven-table2.")
    ] = None,
    heads: Annotated[Names, typer.Option(metavar="NAMES", help="A grid in place of the recipe's rows.")] = None,
    dataset: Dataset = None,
    cache: CacheDir = None,
    visual: Visual = None,
    audio: Audio = None,
    text: Text = None,
    subsets: Annotated[bool, typer.Option("--subsets", help="Each head on every choice of the streams.")] = False,
    seeds: Annotated[int | None, typer.Option(help="Seeds 0..N-1 of every row. Default: 3.")] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out rows whose streams are not there.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For table.csv, .tex, .md and .json. Default: below var/tables.")
    ] = None,
    resume: Resume = False,
    set_: SetTrain = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """A table from one cache, over several seeds: the rows of a recipe, or a grid of heads and streams.

    Settings: --set train.epochs=5 of all rows, --set heads.jca.lr=1e-4 of those of a head.
    Streams of a published table are roles: --set streams.i3d=swin says who plays one.

    Example: python cli.py ablate --heads concat,jca,maven --visual swin --audio hubert --subsets --seeds 5
    """
    from cache.find import find_cache
    from cache.recipe import merge, parse_sets
    from fuse.tables.ablate import ablate_recipe, run_ablate
    from fuse.tables.grid import make_grid
    from fuse.tables.ranked import conclude
    from fuse.tables.report import ablation_table
    from fuse.tables.table_files import save_tables, tables_folder

    given = {"cache": find_cache(cache, dataset) if cache or dataset else None, "seeds": seeds}
    given |= {"workers": workers, "scheduler": scheduler, "cluster": cluster, "skip_missing": skip_missing or None}
    grid = make_grid(split(heads), {"visual": split(visual), "audio": split(audio), "text": split(text)}, subsets)
    table = ablate_recipe(recipe, merge(given, parse_sets(set_ or [])), grid)
    rows = run_ablate(table, resume=resume, quiet=quiet)
    made = conclude(rows, table.partition, title=table.title, paper=table.paper, notes=table.notes)
    folder = out or tables_folder(table.cache, recipe if grid is None else None)
    show(made, json_, ablation_table(made), save_tables(folder, made))


@command(fuse_app, "robustness")
def robustness(
    runs: Annotated[list[Path], typer.Argument(help="Runs, those of single modalities too: the floor.", metavar="RUN")],
    dataset: Dataset = None,
    cache: CacheDir = None,
    partition: Annotated[str, typer.Option(help="validation, or test, which is counted.")] = "validation",
    kind: Annotated[list[str] | None, typer.Option(help="drop, zero, noise or shift. Default: all.")] = None,
    modality: Annotated[list[str] | None, typer.Option(help="visual, audio or text. Default: all of a run.")] = None,
    pattern: Annotated[str, typer.Option(help="block (32 frames) or iid.")] = "block",
    seeds: Annotated[int, typer.Option(help="Patterns of each level.")] = 5,
    out: Annotated[Path, typer.Option(metavar="DIR", help="For curves.csv, areas.csv and curves.png.")] = Path(
        "var/robustness"
    ),
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """What runs lose where a modality is missing, noisy or late: the same frames for all, curves and their areas.

    Example: python cli.py robustness var/runs/demo/concat-...-seed0 var/runs/demo/unimodal-...-seed0 --dataset demo
    """
    from cache.find import find_cache
    from cache.recipe import build
    from cache.store import FeatureCache
    from fuse.numbers.plot_robustness import plot_robustness
    from fuse.numbers.robustness import Plan, run_robustness, save_robustness
    from fuse.tables.report import area_table

    given = {"kinds": kind, "modalities": modality, "pattern": pattern, "seeds": seeds}
    plan = build(Plan, {k: v for k, v in given.items() if v is not None}, where="robustness")
    found = run_robustness(runs, FeatureCache(find_cache(cache, dataset)), partition, plan, device, quiet=quiet)
    save_robustness(out, found)
    plot_robustness(out / "curves.png", found)
    show(found, json_, area_table(found), f"curves in {out}/")


@command(fuse_app, "report")
def report(
    paths: Annotated[
        list[Path], typer.Argument(help="Runs, ensembles, cross-validations; or a table's folder.", metavar="RUN")
    ],
    out: Annotated[Path, typer.Option(help="The one file.", metavar="FILE")] = Path("report.html"),
    partition: Annotated[str, typer.Option(help="validation, or test, which is counted.")] = "validation",
    robustness: Annotated[
        Path | None, typer.Option(help="Curves too: the folder that robustness wrote.", metavar="DIR")
    ] = None,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Recordings by numbers, not by their ids.")] = False,
    json_: Json = False,
) -> None:
    """One HTML file that needs nothing else: tables with intervals, the verdict, traces, errors, settings, receipts.

    A run without -seedN is all its seeds; an ensemble is a row, and so is a cross-validation (--partition test), each
    with what its runs are worth alone. Print it from a browser for a PDF. No frame, word or sound is in it; traces
    of annotations are pictures. Without the cache the parts that need labels are left out, and it says so.

    Example: python cli.py report var/runs/demo/maven-... var/runs/demo/concat-... --out report.html
    """
    from fuse.page.write import report_lines, write_report

    made = write_report(paths, out, partition, robustness, anonymous=anonymous)
    show(made, json_, *report_lines(made))


@command(fuse_app, "submit")
def submit(
    source: Annotated[Path, typer.Argument(help="A folder that predict wrote, or a run's.", metavar="PATH")],
    template: Annotated[
        Path | None, typer.Option(help="The organisers' sample; with --per-video their list.", metavar="FILE")
    ] = None,
    out: Annotated[Path, typer.Option(help="The one file.", metavar="FILE")] = Path("submission.txt"),
    per_video: Annotated[
        Path | None, typer.Option(help="Instead a file a video in this folder.", metavar="DIR")
    ] = None,
    tolerance: Annotated[int, typer.Option(help="Rows beyond a video's last frame that may hold its value.")] = 2,
    json_: Json = False,
) -> None:
    """A challenge's file from predictions: ABAW's template row for row, clipped to [-1, 1], read back and compared.

    Files of a folder are taken as they are; a run's own, of test, are smoothed as it was scored.

    Example: python cli.py submit var/predict/affwild2/maven-...-seed0/test --template sample.txt --out submission.txt
    """
    from fuse.submission import submission_lines, submit_one, submit_per_video

    if per_video:
        made = submit_per_video(source, template, per_video)
    elif template:
        made = submit_one(source, template, out, tolerance)
    else:
        raise UsageError("no template is given", hint="give --template FILE, or --per-video DIR")
    show(made, json_, *submission_lines(made))
