"""Stage two: one head trained from the cache. A plain loop that reads top to bottom."""

import dataclasses
import functools
import logging
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from cache.errors import CacheError, UsageError
from cache.progress import progress
from cache.recipe import to_plain
from cache.records import StreamSpec
from cache.registry import load_plugin
from cache.store import FeatureCache
from fuse.closed import fit_closed
from fuse.data import Corpus, has_labels, mean_label, open_partition, permuted
from fuse.evaluate import Evaluation, evaluate
from fuse.heads import Head
from fuse.heads._base import ClosedForm, Protocol
from fuse.losses import LOSSES
from fuse.predict import predict
from fuse.recipe import TrainRecipe, check, make_head, protocol_of, run_name
from fuse.resident import placed
from fuse.runs import RunFolder
from fuse.snapshot import Share, take_snapshot
from fuse.streams import choose_streams
from fuse.windows import Windows, make_windows

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


def run_train(recipe: TrainRecipe, *, quiet: bool = False) -> RunResult:
    """Train one head, keep the epoch of the best validation CCC, score it, and leave a run folder.

    Raises UsageError or ConfigError for names and options that do not exist, CacheError for what the cache lacks.
    """
    start = time.monotonic()
    protocol, cache, streams, head = prepare(recipe)
    device = torch_device(recipe.device)
    snapshot = take_snapshot(cache, streams, recipe.labels)
    opened = functools.partial(open_partition, snapshot, skip_incomplete=recipe.skip_incomplete)
    parts = {"train": opened("train")}
    parts["validation"] = opened("validation", parts["train"].stats)
    if recipe.permute_labels:
        parts = {p: permuted(corpus, recipe.seed) for p, corpus in parts.items()}
    parts = {p: placed(corpus, device, recipe.resident) for p, corpus in parts.items()}
    name = run_name(recipe, snapshot)
    folder = RunFolder(recipe.runs / (cache.dataset or cache.root.name) / name)
    folder.start(dataclasses.replace(recipe, **dataclasses.asdict(protocol)), streams, recipe.plugins)
    head.to(device).start_at(mean_label(parts["train"]).to(device))
    history = fit(head, parts, recipe, protocol, quiet=quiet)
    folder.save_history(history)
    folder.save_weights(head.state_dict(), parts["train"].stats)
    if has_labels(snapshot, "test"):  # opened only now: nothing above could look at it
        try:
            parts["test"] = placed(opened("test", parts["train"].stats), device, recipe.resident)
        except CacheError as error:
            log.warning("test is not scored: %s", error)
    evaluations = {p: score(head, parts[p], recipe, protocol, cache, folder, p) for p in parts if p != "train"}
    parameters = sum(p.numel() for p in head.parameters())
    result = RunResult(
        head=recipe.head,
        streams=[s.name for s in streams],
        seed=recipe.seed,
        parameters=parameters,
        epochs=len(history),
        seconds=round(time.monotonic() - start, 1),
        evaluations=evaluations,
        data={p: corpus.share for p, corpus in parts.items()},
        folder=str(folder.path),
    )
    folder.save_metrics(to_plain(result))
    return result


def fit(
    head: Head, parts: dict[str, Corpus], recipe: TrainRecipe, protocol: Protocol, *, quiet: bool = False
) -> list[dict[str, float]]:
    """Train to the best validation CCC and leave the head with those weights. Returns a row an epoch."""
    train, held_out = parts["train"], parts["validation"]
    windows, held_windows = (make_windows(c.lengths, *_sampling(protocol)) for c in (train, held_out))
    if isinstance(head, ClosedForm):
        return fit_closed(head, (train, windows), (held_out, held_windows), protocol.batch_size, recipe.smooth)
    optimiser = torch.optim.AdamW(head.parameters(), lr=protocol.lr, weight_decay=protocol.weight_decay)
    rng = np.random.default_rng(recipe.seed)
    history: list[dict[str, float]] = []
    best, best_epoch, weights = -np.inf, 0, _copy(head)
    with progress(f"{recipe.head} seed {recipe.seed}", recipe.epochs, quiet=quiet) as step:
        for epoch in range(recipe.epochs):
            loss = train_epoch(head, train, windows, rng.permutation(len(windows)), optimiser, recipe, protocol)
            predictions = predict(head, held_out, held_windows, protocol.batch_size)
            scores = evaluate(predictions, held_out.labels, recipe.smooth).raw
            history.append({"epoch": epoch, "loss": loss, **dataclasses.asdict(scores)})
            if scores.mean > best:
                best, best_epoch, weights = scores.mean, epoch, _copy(head)
            step()
            if epoch - best_epoch >= recipe.patience:
                break
    head.load_state_dict(weights)
    return history


def train_epoch(
    head: Head,
    corpus: Corpus,
    windows: Windows,
    order: npt.NDArray[np.int64],
    optimiser: torch.optim.Optimizer,
    recipe: TrainRecipe,
    protocol: Protocol,
) -> float:
    """One pass over the windows in that order. Returns the mean loss of its batches."""
    head.train()
    device = next(head.parameters()).device
    losses = []
    for start in range(0, len(order), protocol.batch_size):
        batch = corpus.batch(windows, order[start : start + protocol.batch_size], device)
        pred = head(batch.x, batch.present, batch.real)  # (B, L, 2)
        loss = LOSSES[protocol.loss](pred, batch.va, batch.labelled, recipe.ccc_scope)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), recipe.clip)
        optimiser.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


def score(
    head: Head,
    corpus: Corpus,
    recipe: TrainRecipe,
    protocol: Protocol,
    cache: FeatureCache,
    folder: RunFolder,
    partition: str,
) -> Evaluation:
    """Predict every frame of a partition, save the predictions, and score them."""
    predictions = predict(head, corpus, make_windows(corpus.lengths, *_sampling(protocol)), protocol.batch_size)
    for recording, pred in predictions.items():
        folder.save_predictions(partition, recording, cache.timelines.read(recording).pts, pred)
    return evaluate(predictions, corpus.labels, recipe.smooth)


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


def _sampling(protocol: Protocol) -> tuple[int, int, int]:
    return protocol.tokens, protocol.stride, protocol.hop


def _copy(head: Head) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in head.state_dict().items()}
