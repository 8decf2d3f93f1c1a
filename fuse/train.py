"""Stage two: one head trained from the cache. A plain loop that reads top to bottom."""

import dataclasses
import functools
import logging
import time
from dataclasses import dataclass

import torch

from cache.errors import CacheError, UsageError
from cache.recipe import build, to_plain
from cache.records import StreamSpec
from cache.registry import load_plugin
from cache.store import FeatureCache
from fuse.data import Corpus, absent_faces, mean_label, open_partition, open_test, permuted
from fuse.delay import for_training
from fuse.evaluate import Evaluation, Scored, evaluate
from fuse.fit import delay_of, fit, predicted
from fuse.folds import folded
from fuse.heads import Head
from fuse.heads._base import Protocol
from fuse.locked import has_labels
from fuse.postprocess import choose_width, postprocess
from fuse.recipe import TrainRecipe, check, make_head, protocol_of, run_name
from fuse.resident import placed
from fuse.runs import RunFolder
from fuse.snapshot import Share, Snapshot, digest, take_snapshot
from fuse.streams import choose_streams, describe
from fuse.traits import traits

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


def prepare(recipe: TrainRecipe) -> tuple[Protocol, FeatureCache, tuple[StreamSpec, ...], Head]:
    """All that can be wrong with a recipe before its data is touched; the head is drawn from the recipe's seed."""
    for plugin in recipe.plugins:
        load_plugin(plugin)
    protocol = protocol_of(recipe)
    check(recipe, protocol)
    cache = FeatureCache(recipe.cache)
    streams = choose_streams(cache, recipe.streams, recipe.without)
    torch.manual_seed(recipe.seed)
    return protocol, cache, streams, make_head(recipe, protocol, streams)


def run_train(recipe: TrainRecipe, *, resume: bool = False, quiet: bool = False) -> RunResult:
    """Train one head, keep the epoch of the best validation CCC, score it, and leave a run folder.

    With ``resume``, a run that was killed goes on from its last checkpoint, and one that is complete is read.
    Raises UsageError or ConfigError for names and options that do not exist, CacheError for what the cache lacks.
    """
    start = time.monotonic()
    protocol, cache, streams, head = prepare(recipe)
    device = torch_device(recipe.device)
    snapshot = _snapshot(cache, streams, recipe)
    folder = RunFolder(recipe.runs / (cache.dataset or cache.root.name) / run_name(recipe, snapshot))
    mark = digest(snapshot)
    if resume:
        folder.check_data(mark)
        if done := folder.metrics():
            log.info("complete: %s", folder.path)
            return build(RunResult, done)
    opened = functools.partial(open_partition, snapshot, skip_incomplete=recipe.skip_incomplete)
    parts = {"train": opened("train")}
    parts["validation"] = opened("validation", parts["train"].stats)
    if recipe.permute_labels:
        parts = {p: permuted(corpus, recipe.seed) for p, corpus in parts.items()}
    parts = {p: placed(corpus, device, recipe.resident) for p, corpus in parts.items()}
    saved = dataclasses.replace(recipe, **dataclasses.asdict(protocol))
    declared, on = describe(cache, streams), traits(parts["train"])
    folder.start(saved, streams, recipe.plugins, on, mark, declared, keep_checkpoint=resume)
    head.to(device).start_at(mean_label(for_training(parts["train"], delay_of(recipe))).to(device))
    opening = time.monotonic() - start
    fitted = fit(head, parts, recipe, protocol, folder.checkpoint, resume=resume, quiet=quiet)
    trained = time.monotonic()
    folder.save_history(fitted.history)
    folder.save_weights(head.state_dict(), parts["train"].stats)
    evaluations, data = _score_all(head, parts, snapshot, recipe, protocol, folder)
    result = RunResult(
        head=recipe.head,
        streams=[s.name for s in streams],
        seed=recipe.seed,
        parameters=sum(p.numel() for p in head.parameters()),
        epochs=len(fitted.history),
        seconds=round(opening + fitted.seconds + time.monotonic() - trained, 1),
        evaluations=evaluations,
        data=data,
        folder=str(folder.path),
    )
    folder.save_metrics(to_plain(result))
    return result


def _snapshot(cache: FeatureCache, streams: tuple[StreamSpec, ...], recipe: TrainRecipe) -> Snapshot:
    """The cache as it is now, cut into the recipe's folds where it has any."""
    snapshot = take_snapshot(cache, streams, recipe.labels)
    if recipe.fold is None:
        return snapshot
    split = folded(snapshot.split, recipe.folds, recipe.fold, recipe.fold_by)
    return dataclasses.replace(snapshot, split=split)


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
