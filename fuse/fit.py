"""Training itself: epochs of shuffled windows, the best validation CCC kept. A plain loop, to be taken up again.

Several heads may go through it side by side, so that each batch is gathered once: every one of them draws its own
random numbers and ends with the bits it would have alone.
"""

import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cache.progress import progress
from fuse.checkpoint import Draws, Loop, Scheduler, load_state, saver
from fuse.closed import solve
from fuse.curve import spark
from fuse.feeding.batch import Batch, narrowed
from fuse.feeding.data import Corpus
from fuse.feeding.delay import Delay, for_scoring
from fuse.feeding.dropout import drop_modalities
from fuse.feeding.feed import batches
from fuse.feeding.windows import Windows, make_windows
from fuse.heads import Head
from fuse.heads._base import ClosedForm, Protocol
from fuse.losses import LOSSES
from fuse.numbers.evaluate import global_ccc
from fuse.numbers.metrics import Scores
from fuse.predict import Predictions, predict, predict_together
from fuse.recipe import TrainRecipe

log = logging.getLogger("affuse")
OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
FACTOR, PATIENCE = 0.1, 5  # of ``plateau``, as in LFAN's and MAVEN's code


@dataclasses.dataclass(frozen=True)
class Training:
    """A head to train. draws: torch's random numbers as they stood when its weights were drawn.
    told: gets the row of every epoch as it ends, on a resumption those of before, first.
    checkpoint: where the state goes every ``recipe.checkpoint_s`` seconds.
    """

    head: Head
    recipe: TrainRecipe
    protocol: Protocol
    draws: Draws
    told: Callable[[dict[str, float]], None]
    checkpoint: Path | None = None


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A row an epoch, and the seconds of training, those before a resumption included."""

    history: list[dict[str, float]]
    seconds: float


def fit(
    trainings: list[Training], parts: dict[str, Corpus], *, resume: bool = False, quiet: bool = False
) -> list[Fitted]:
    """Train each head to its best validation CCC and leave it with those weights.

    trainings: of one seed, device, window sampling and batch size. parts: train, with its labels moved where annotation
    lags, and validation, as it is; their streams go by key. With ``resume`` training goes on from the checkpoints.
    """
    windows = make_windows(parts["train"].lengths, *sampling(trainings[0].protocol))
    solved = {id(t): _solved(t, h, windows, parts) for t in trainings if isinstance(h := t.head, ClosedForm)}
    members = {id(t): _Member(t, resume) for t in trainings if id(t) not in solved}
    title = f"{', '.join(dict.fromkeys(t.recipe.head for t in trainings))} seed {trainings[0].recipe.seed}"
    shown: list[float] = []  # of the head that ended an epoch last
    epochs = sum(m.training.recipe.epochs for m in members.values())
    with progress(title, epochs, quiet=quiet, below=lambda width: _standing_line(shown, width)) as step:
        for member, row in [(m, row) for m in members.values() for row in m.loop.history]:
            member.training.told(row)
            step(member.standing())
            shown[:] = member.curve
        while going := [m for m in members.values() if not m.over]:
            epoch = min(m.epoch for m in going)
            now = [m for m in going if m.epoch == epoch]  # those that were resumed later wait for the others
            _train_epoch(now, parts["train"], windows, epoch)
            _end_epoch(now, parts["validation"])
            for member in now:
                member.training.told(member.loop.history[-1])
                step(member.standing())
                shown[:] = member.curve
    return [solved[id(t)] if id(t) in solved else members[id(t)].finished() for t in trainings]


def _standing_line(curve: list[float], width: int) -> list[str]:
    return [f"  {spark(curve.copy(), width - 2)}"] if curve else []


class _Member:
    """One head on its way."""

    def __init__(self, training: Training, resume: bool) -> None:
        recipe, protocol, head = training.recipe, training.protocol, training.head
        optimiser = OPTIMISERS[protocol.optimiser](
            head.parameters(), lr=protocol.lr, weight_decay=protocol.weight_decay
        )
        rng = np.random.default_rng(recipe.seed)
        self.training = training
        self.loop = Loop(head, optimiser, make_scheduler(optimiser, recipe), rng, training.draws, _copy(head))
        if resume and training.checkpoint:
            _take_up(self.loop, training.checkpoint)
        self._save = saver(training.checkpoint, recipe.checkpoint_s)

    @property
    def epoch(self) -> int:
        return len(self.loop.history)

    @property
    def over(self) -> bool:
        recipe, loop = self.training.recipe, self.loop
        return self.epoch >= recipe.epochs or (self.epoch > 0 and self.epoch - 1 - loop.best_epoch >= recipe.patience)

    def step(self, batch: Batch) -> None:
        """One step of the optimiser. batch: with this head's streams alone, by name."""
        recipe, loop = self.training.recipe, self.loop
        if recipe.modality_dropout:
            batch = drop_modalities(batch, loop.head.inputs.streams, recipe.modality_dropout, loop.rng)
        with loop.draws.going_on(), torch.autocast(batch.real.device.type, torch.bfloat16, enabled=recipe.amp):
            pred = loop.head(batch.x, batch.present, batch.real)  # (B, L, 2)
        protocol = self.training.protocol
        loss = LOSSES[protocol.loss](pred, batch.va, batch.labelled, protocol.ccc_scope)
        loop.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(loop.head.parameters(), recipe.clip)
        loop.optimiser.step()
        loop.losses.append(loss.detach())
        loop.done += 1

    def end_epoch(self, scores: Scores) -> None:
        """Keep the best weights, and let the learning rate follow."""
        loop = self.loop
        loss, lr = float(torch.stack(loop.losses).mean()), loop.optimiser.param_groups[0]["lr"]
        loop.history.append({"epoch": self.epoch, "loss": loss, "lr": lr, **dataclasses.asdict(scores)})
        if scores.mean > loop.best:
            loop.best, loop.best_epoch, loop.weights = scores.mean, self.epoch - 1, _copy(loop.head)
        if isinstance(loop.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            loop.scheduler.step(scores.mean)
        elif loop.scheduler:
            loop.scheduler.step()
        loop.done, loop.losses = 0, []

    @property
    def curve(self) -> list[float]:
        """Validation CCC by epoch."""
        return [row["mean"] for row in self.loop.history]

    def standing(self) -> str:
        """For whoever watches: validation CCC of the last epoch, the best so far and when that was, from 1 on."""
        loop = self.loop
        return f"CCC {loop.history[-1]['mean']:.3f}, best {loop.best:.3f} in epoch {loop.best_epoch + 1}"

    def keep(self, seconds: float) -> None:
        """Where it stands, to disk when it is time; after so many seconds more."""
        self.loop.seconds += seconds
        self._save(self.loop)

    def finished(self) -> Fitted:
        """The head gets its best weights."""
        self.loop.head.load_state_dict(self.loop.weights)
        return Fitted(self.loop.history, self.loop.seconds)


def _train_epoch(members: list[_Member], corpus: Corpus, windows: Windows, epoch: int) -> None:
    """What is left of one pass over the windows, in an order that seed and epoch decide."""
    training = members[0].training
    size, device = training.protocol.batch_size, next(training.head.parameters()).device
    order = np.random.default_rng([training.recipe.seed, epoch]).permutation(len(windows))
    for member in members:
        member.loop.head.train()
    done, begun = min(m.loop.done for m in members), time.monotonic()
    for number, batch in enumerate(batches(corpus, windows, order[done * size :], size, device), done):
        share, begun = (time.monotonic() - begun) / len(members), time.monotonic()
        for member in [m for m in members if m.loop.done == number]:
            member.step(narrowed(batch, member.loop.head.inputs.streams))
            spent, begun = time.monotonic() - begun, time.monotonic()
            member.keep(share + spent)


def _end_epoch(members: list[_Member], held_out: Corpus) -> None:
    """Score all of them on validation, in one pass."""
    begun = time.monotonic()
    for member, scores in zip(members, _validated([m.training for m in members], held_out), strict=True):
        member.end_epoch(scores)
    for member in members:
        member.keep((time.monotonic() - begun) / len(members))


def _solved(training: Training, head: ClosedForm, windows: Windows, parts: dict[str, Corpus]) -> Fitted:
    """Of a head whose weights are solved for: one row, as of a single epoch."""
    begun = time.monotonic()
    solve(head, parts["train"], windows, training.protocol.batch_size)
    row = {"epoch": 0, **dataclasses.asdict(_validated([training], parts["validation"])[0])}
    training.told(row)
    return Fitted([row], time.monotonic() - begun)


def _validated(trainings: list[Training], held_out: Corpus) -> list[Scores]:
    """Raw scores of their heads as they are, all predicting in one pass."""
    windows = make_windows(held_out.lengths, *sampling(trainings[0].protocol))
    predicted = predict_together([t.head for t in trainings], held_out, windows, trainings[0].protocol.batch_size)
    moved = [for_scoring(p, held_out.pts, delay_of(t.recipe)) for p, t in zip(predicted, trainings, strict=True)]
    return [global_ccc(p, held_out.labels) for p in moved]


def _take_up(loop: Loop, checkpoint: Path) -> None:
    state = load_state(checkpoint)
    if state is None:
        log.info("there is no checkpoint in %s: training begins at its start", checkpoint.parent)
        return
    loop.restore(state)
    log.info("resumed in epoch %d, after %d of its batches", len(loop.history), loop.done)


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
