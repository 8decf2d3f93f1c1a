"""Stage two: one head trained from the cache. A plain loop that reads top to bottom."""

import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from cache.errors import CacheError, UsageError
from cache.recipe import build, to_plain
from cache.records import StreamSpec
from cache.registry import load_plugin
from cache.store import FeatureCache
from fuse.checkpoint import Draws
from fuse.feeding.data import Corpus, absent_faces, mean_label, open_partition, open_test, permuted
from fuse.feeding.delay import for_training
from fuse.feeding.folds import cut
from fuse.feeding.locked import has_labels
from fuse.feeding.resident import placed
from fuse.feeding.snapshot import Share, Snapshot, digest, take_snapshot
from fuse.feeding.streams import choose_streams, describe
from fuse.feeding.traits import traits
from fuse.fit import Fitted, Training, delay_of, fit, predicted
from fuse.heads import Head
from fuse.heads._base import Protocol
from fuse.numbers.evaluate import Evaluation, Scored, evaluate
from fuse.numbers.postprocess import choose_width, postprocess
from fuse.recipe import TrainRecipe, check, make_head, protocol_of, run_name
from fuse.runs import RunFolder, held, metrics_of
from fuse.trackers import Log, logged, need

log = logging.getLogger("affuse")


@dataclass(frozen=True)
class RunResult:
    """What a run measured, and on how much. evaluations and data by partition.

    Validation chose the epoch, test was scored once, after that.
    """

    head: str
    streams: list[str]
    seed: int
    parameters: int
    epochs: int
    seconds: float
    evaluations: dict[str, Evaluation]
    data: dict[str, Share]
    folder: str


@dataclass(frozen=True)
class Prepared:
    """What a recipe asks for, before its data is touched. draws: random numbers as they stood after the weights'."""

    recipe: TrainRecipe
    protocol: Protocol
    cache: FeatureCache
    streams: tuple[StreamSpec, ...]
    head: Head
    draws: Draws


def prepare(recipe: TrainRecipe) -> Prepared:
    """All that can be wrong with a recipe before its data is touched; the head is drawn from the recipe's seed."""
    for plugin in recipe.plugins:
        load_plugin(plugin)
    protocol = protocol_of(recipe)
    check(recipe, protocol)
    need(recipe.tracker)
    device = torch_device(recipe.device)
    cache = FeatureCache(recipe.cache)
    streams = choose_streams(cache, recipe.streams, recipe.without)
    torch.manual_seed(recipe.seed)
    head = make_head(recipe, protocol, streams)
    if recipe.compile:
        head.compile()  # in place: its weights keep their names
    return Prepared(recipe, protocol, cache, streams, head.to(device), Draws(device))


def run_train(recipe: TrainRecipe, *, resume: bool = False, quiet: bool = False) -> RunResult:
    """Train one head, keep the epoch of the best validation CCC, score it, and leave a run folder.

    With ``resume``, a run that was killed goes on from its last checkpoint, and one that is complete is read.
    Raises UsageError or ConfigError for names and options that do not exist, CacheError for what the cache lacks.
    """
    return run_together([recipe], resume=resume, quiet=quiet)[0]


def run_together(recipes: list[TrainRecipe], *, resume: bool = False, quiet: bool = False) -> list[RunResult]:
    """As ``run_train``, for runs that see the same batches (``fuse.many.shared``): each is gathered once for all."""
    start = time.monotonic()
    prepared = [prepare(r) for r in recipes]
    whole = _snapshot(prepared)
    runs = [_Run(p, _of_run(whole, p)) for p in prepared]
    with held(run.folder for run in runs if not (resume and run.folder.complete)):
        done = {i: found for i, run in enumerate(runs) if resume and (found := run.complete())}
        going = [run for i, run in enumerate(runs) if i not in done]
        results = iter(_trained(going, whole, start, resume, quiet) if going else ())
        return [done[i] if i in done else next(results) for i in range(len(runs))]


class _Run:
    """One run: what it is, what it sees of the cache, its folder, and its log once it has started."""

    log: Log

    def __init__(self, prepared: Prepared, snapshot: Snapshot) -> None:
        self.prepared, self.snapshot = prepared, snapshot
        cache, recipe = prepared.cache, prepared.recipe
        self.folder = RunFolder(recipe.runs / cache.corpus / run_name(recipe, snapshot))
        self.mark = digest(snapshot)

    def complete(self) -> RunResult | None:
        """What it measured, where it is complete. Raises CacheError where it began on other data."""
        self.folder.check_data(self.mark)
        if not self.folder.complete:
            return None
        log.info("complete: %s", self.folder.path)
        return build(RunResult, metrics_of(self.folder.path))

    def start(self, train: Corpus, logs: contextlib.ExitStack, *, resume: bool) -> Training:
        """Write what it is before the first step. train: before labels are moved. logs: keeps its own open."""
        p = self.prepared
        saved = dataclasses.replace(p.recipe, **dataclasses.asdict(p.protocol))
        told = traits(train), self.mark, describe(p.cache, p.streams)
        self.folder.start(saved, p.streams, p.recipe.plugins, *told, keep_checkpoint=resume)
        self.log = logs.enter_context(logged(saved, self.folder.path, p.recipe.tracker, resume=resume))
        return Training(p.head, p.recipe, p.protocol, p.draws, self.log.epoch, self.folder.checkpoint)


def _trained(runs: list[_Run], whole: Snapshot, start: float, resume: bool, quiet: bool) -> Iterator[RunResult]:
    """Train runs on one opening of what they share, then score one after the other."""
    recipe, device = runs[0].prepared.recipe, next(runs[0].prepared.head.parameters()).device
    opened = functools.partial(open_partition, whole, skip_incomplete=recipe.skip_incomplete)
    parts = {"train": opened("train")}
    parts["validation"] = opened("validation", parts["train"].stats)
    if recipe.permute_labels:
        parts = {p: permuted(corpus, recipe.seed) for p, corpus in parts.items()}
    with contextlib.ExitStack() as logs:
        trainings = [run.start(parts["train"], logs, resume=resume) for run in runs]
        parts["train"] = for_training(parts["train"], delay_of(recipe))
        for training in trainings:
            training.head.start_at(mean_label(parts["train"]).to(device))
        parts = {p: placed(corpus, device, recipe.resident) for p, corpus in parts.items()}
        opening = (time.monotonic() - start) / len(runs)
        fitted = fit(trainings, parts, resume=resume, quiet=quiet)
        for run, found in zip(runs, fitted, strict=True):
            own = {p: corpus.narrowed(run.prepared.streams) for p, corpus in parts.items()}
            yield _finish(run, own, found, opening + found.seconds)


def _finish(run: _Run, parts: dict[str, Corpus], fitted: Fitted, seconds: float) -> RunResult:
    """Save the weights, score, and leave the numbers."""
    start, head, recipe = time.monotonic(), run.prepared.head, run.prepared.recipe
    run.folder.save_history(fitted.history)
    run.folder.save_weights(head.state_dict(), parts["train"].stats)
    evaluations, data = _score_all(head, parts, run.snapshot, recipe, run.prepared.protocol, run.folder)
    run.log.final(evaluations)
    result = RunResult(
        head=recipe.head,
        streams=[s.name for s in run.prepared.streams],
        seed=recipe.seed,
        parameters=sum(p.numel() for p in head.parameters()),
        epochs=len(fitted.history),
        seconds=round(seconds + time.monotonic() - start, 1),
        evaluations=evaluations,
        data=data,
        folder=str(run.folder.path),
    )
    run.folder.save_metrics(to_plain(result))
    return result


def _snapshot(prepared: list[Prepared]) -> Snapshot:
    """The cache as it is now, cut into the fold where there is one; all runs' streams, by key."""
    recipe = prepared[0].recipe
    streams = {s.key: dataclasses.replace(s, name=s.key) for p in prepared for s in p.streams}
    snapshot = take_snapshot(prepared[0].cache, tuple(streams.values()), recipe.labels)
    return cut(snapshot, recipe.folds, recipe.fold, recipe.fold_by)


def _of_run(whole: Snapshot, prepared: Prepared) -> Snapshot:
    """What one run sees of it: its streams, by name."""
    readers = {s.name: whole.readers[s.key] for s in prepared.streams}
    return dataclasses.replace(whole, streams=prepared.streams, readers=readers)


def _score_all(
    head: Head,
    parts: dict[str, Corpus],
    snapshot: Snapshot,
    recipe: TrainRecipe,
    protocol: Protocol,
    folder: RunFolder,
) -> tuple[dict[str, Evaluation], dict[str, Share]]:
    """Validation, then test, which is opened only now: nothing before could look at it. Leaves both on disk."""
    evaluations, data = {}, {"train": parts["train"].share}
    width = None if recipe.smooth == "validation" else recipe.smooth
    for partition in ("validation", "test"):
        corpus = parts["validation"] if partition == "validation" else _test(head, parts, snapshot, recipe, folder)
        if corpus is None:
            continue
        scored = score(head, corpus, recipe, protocol, width)
        width = scored.width  # from here on it is fixed
        folder.save_scored(partition, corpus.pts, scored)
        evaluations[partition], data[partition] = scored.evaluation, corpus.share
    return evaluations, data


def _test(
    head: Head, parts: dict[str, Corpus], snapshot: Snapshot, recipe: TrainRecipe, folder: RunFolder
) -> Corpus | None:
    if not has_labels(snapshot, "test"):
        return None
    what = "train-fusion"
    if recipe.fold is not None:
        what += f", fold {recipe.fold} of {recipe.folds} by {recipe.fold_by}"
    stats = parts["train"].stats
    try:
        corpus = open_test(snapshot, folder.path, what, stats, skip_incomplete=recipe.skip_incomplete)
    except CacheError as error:
        log.warning("test is not scored: %s", error)
        return None
    return placed(corpus, next(head.parameters()).device, recipe.resident)


def score(head: Head, corpus: Corpus, recipe: TrainRecipe, protocol: Protocol, width: int | None) -> Scored:
    """Predict every frame of a partition and score it; without a ``width`` of smoothing this partition chooses it."""
    predictions = predicted(head, corpus, recipe, protocol)
    absent = absent_faces(corpus, head.inputs.streams) if recipe.interpolate else None
    width = width or choose_width(predictions, corpus.labels, absent)
    evaluation, kinds = evaluate(predictions, postprocess(predictions, width, absent), corpus.labels, width)
    return Scored(evaluation, kinds, predictions, width)


def torch_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("device cuda was asked for, but torch sees no CUDA device", hint="use --device auto")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"{name!r} is no device", hint="use auto, cpu, cuda, cuda:1 or mps") from error
