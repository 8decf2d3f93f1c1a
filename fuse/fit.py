"""Training itself: epochs of shuffled windows, the best validation CCC kept. A plain loop, to be taken up again."""

import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cache.progress import progress
from fuse.checkpoint import Loop, Scheduler, load_state, saver
from fuse.closed import solve
from fuse.data import Corpus
from fuse.delay import Delay, for_scoring
from fuse.dropout import drop_modalities
from fuse.evaluate import global_ccc
from fuse.heads import Head
from fuse.heads._base import ClosedForm, Protocol
from fuse.losses import LOSSES
from fuse.predict import Predictions, predict
from fuse.recipe import TrainRecipe
from fuse.windows import Windows, make_windows

log = logging.getLogger("affuse")
FACTOR, PATIENCE = 0.1, 5  # of ``plateau``, as in LFAN's and MAVEN's code


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A row an epoch, and the seconds of training, those before a resumption included."""

    history: list[dict[str, float]]
    seconds: float


def fit(
    head: Head,
    parts: dict[str, Corpus],
    recipe: TrainRecipe,
    protocol: Protocol,
    told: Callable[[dict[str, float]], None],
    checkpoint: Path | None = None,
    *,
    resume: bool = False,
    quiet: bool = False,
) -> Fitted:
    """Train to the best validation CCC and leave the head with those weights.

    parts: train, with its labels moved where annotation lags, and validation, as it is.
    told: gets the row of every epoch as it ends, on a resumption those of before again, first.
    checkpoint: where the state goes every ``recipe.checkpoint_s`` seconds; with ``resume`` training goes on from it.
    """
    train = parts["train"]
    windows = make_windows(train.lengths, *sampling(protocol))
    if isinstance(head, ClosedForm):
        solved = _solved(head, train, windows, parts["validation"], recipe, protocol)
        told(solved.history[0])
        return solved
    optimiser = torch.optim.AdamW(head.parameters(), lr=protocol.lr, weight_decay=protocol.weight_decay)
    rng = np.random.default_rng(recipe.seed)
    loop = Loop(head, optimiser, make_scheduler(optimiser, recipe), rng, _copy(head))
    _take_up(loop, checkpoint if resume else None)
    begun, before = time.monotonic(), loop.seconds
    save = saver(checkpoint, recipe.checkpoint_s)

    def keep(loop: Loop) -> None:
        loop.seconds = before + time.monotonic() - begun
        save(loop)

    with progress(f"{recipe.head} seed {recipe.seed}", recipe.epochs, quiet=quiet) as step:
        for row in loop.history:
            told(row)
            step()
        while not _over(loop, recipe):
            loss = train_epoch(loop, train, windows, recipe, protocol, keep)
            _end_epoch(loop, loss, parts["validation"], recipe, protocol)
            told(loop.history[-1])
            step()
            keep(loop)
    head.load_state_dict(loop.weights)
    return Fitted(loop.history, before + time.monotonic() - begun)


def _solved(
    head: ClosedForm, train: Corpus, windows: Windows, held_out: Corpus, recipe: TrainRecipe, protocol: Protocol
) -> Fitted:
    """Of a head whose weights are solved for: one row, as of a single epoch."""
    begun = time.monotonic()
    solve(head, train, windows, protocol.batch_size)
    scores = global_ccc(predicted(head, held_out, recipe, protocol), held_out.labels)
    return Fitted([{"epoch": 0, **dataclasses.asdict(scores)}], time.monotonic() - begun)


def _take_up(loop: Loop, checkpoint: Path | None) -> None:
    if checkpoint is None:
        return
    state = load_state(checkpoint)
    if state is None:
        log.info("there is no checkpoint in %s: training begins at its start", checkpoint.parent)
        return
    loop.restore(state)
    log.info("resumed in epoch %d, after %d of its batches", len(loop.history), loop.done)


def _over(loop: Loop, recipe: TrainRecipe) -> bool:
    epochs = len(loop.history)
    return epochs >= recipe.epochs or (epochs > 0 and epochs - 1 - loop.best_epoch >= recipe.patience)


def train_epoch(
    loop: Loop,
    corpus: Corpus,
    windows: Windows,
    recipe: TrainRecipe,
    protocol: Protocol,
    keep: Callable[[Loop], None],
) -> float:
    """What is left of one pass over the windows, in the loop's order. Returns the mean loss of all its batches."""
    loop.head.train()
    device = next(loop.head.parameters()).device
    if loop.order is None:
        loop.order, loop.done, loop.losses = loop.rng.permutation(len(windows)), 0, []
    streams = loop.head.inputs.streams
    for start in range(loop.done * protocol.batch_size, len(loop.order), protocol.batch_size):
        batch = corpus.batch(windows, loop.order[start : start + protocol.batch_size], device)
        if recipe.modality_dropout:
            batch = drop_modalities(batch, streams, recipe.modality_dropout, loop.rng)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.amp):
            pred = loop.head(batch.x, batch.present, batch.real)  # (B, L, 2)
        loss = LOSSES[protocol.loss](pred, batch.va, batch.labelled, recipe.ccc_scope)
        loop.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(loop.head.parameters(), recipe.clip)
        loop.optimiser.step()
        loop.losses.append(loss.detach())
        loop.done += 1
        keep(loop)
    return float(torch.stack(loop.losses).mean())


def _end_epoch(loop: Loop, loss: float, held_out: Corpus, recipe: TrainRecipe, protocol: Protocol) -> None:
    """Score on validation, keep the best weights, and let the learning rate follow."""
    scores = global_ccc(predicted(loop.head, held_out, recipe, protocol), held_out.labels)
    lr = loop.optimiser.param_groups[0]["lr"]
    loop.history.append({"epoch": len(loop.history), "loss": loss, "lr": lr, **dataclasses.asdict(scores)})
    if scores.mean > loop.best:
        loop.best, loop.best_epoch, loop.weights = scores.mean, len(loop.history) - 1, _copy(loop.head)
    if isinstance(loop.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        loop.scheduler.step(scores.mean)
    elif loop.scheduler:
        loop.scheduler.step()
    loop.order = None


def make_scheduler(optimiser: torch.optim.Optimizer, recipe: TrainRecipe) -> Scheduler | None:
    """``cosine`` falls to 0 over all epochs, an epoch a step; ``plateau`` follows the best validation CCC."""
    if recipe.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.epochs)
    if recipe.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, "max", factor=FACTOR, patience=PATIENCE)
    return None


def predicted(head: Head, corpus: Corpus, recipe: TrainRecipe, protocol: Protocol) -> Predictions:
    """Every frame of a corpus, raw, where its labels are: moved back by the delay that training took out."""
    predictions = predict(head, corpus, make_windows(corpus.lengths, *sampling(protocol)), protocol.batch_size)
    return for_scoring(predictions, corpus.pts, delay_of(recipe))


def delay_of(recipe: TrainRecipe) -> Delay:
    """The recipe's delays, in seconds."""
    return Delay(recipe.delay_valence, recipe.delay_arousal)


def sampling(protocol: Protocol) -> tuple[int, int, int]:
    """Tokens, stride and hop of windows."""
    return protocol.tokens, protocol.stride, protocol.hop


def _copy(head: Head) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in head.state_dict().items()}
