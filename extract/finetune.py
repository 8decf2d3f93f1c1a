"""An encoder fitted to valence and arousal, so that its features know the task: "V network, A network, then fusion".

As in Praveen et al., "A Joint Cross-Attention Model for Audio-Visual Fusion in Dimensional Emotion Recognition", CVPRW
2022 (https://arxiv.org/abs/2203.14779), whose audio ResNet18 is trained from scratch: the encoder and one linear layer
to (valence, arousal), trained with the CCC loss on the train partition, the epoch chosen on validation. The test
partition is never read. What is left is a folder of weights like any other, for ``extract``.
"""

import contextlib
import csv
import json
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from cache.fingerprint import canonical, fingerprint
from cache.progress import progress
from cache.recipe import to_json, to_plain
from extract.datasets import open_dataset
from extract.encoders._published import FILE
from extract.encoders._trainable import TRAINED, TrainableEncoder
from extract.examples import Examples, Sampling, collect
from extract.finetune_recipe import TrainEncoderRecipe, make_encoder
from extract.naming import parse
from extract.streams import torch_device

if TYPE_CHECKING:
    import torch

#: loss(pred f32[1,B,2], va f32[1,B,2], labelled bool[1,B]) -> scalar
Loss = Callable[["torch.Tensor", "torch.Tensor", "torch.Tensor"], "torch.Tensor"]


class Scores(Protocol):
    """CCC of valence, of arousal, and their mean."""

    valence: float
    arousal: float
    mean: float


#: score(pred f32[N,2], va f32[N,2], labelled bool[N])
Score = Callable[[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_]], Scores]


@dataclass(frozen=True)
class TrainedEncoder:
    """What was trained. valence, arousal: CCC on the validation examples at the best epoch; folder: its weights.

    left_out: recordings of each partition that gave no example. use: how ``extract`` is asked for it, as flags.
    """

    encoder: str
    epoch: int
    valence: float
    arousal: float
    mean: float
    examples: dict[str, int]
    left_out: dict[str, list[str]]
    seconds: float
    folder: str
    use: str = ""


def run_train_encoder(recipe: TrainEncoderRecipe, loss: Loss, score: Score, *, quiet: bool = False) -> TrainedEncoder:
    """Train, keep the epoch of the best validation CCC, leave a folder of weights."""
    import torch

    start = time.monotonic()
    encoder, device = make_encoder(recipe), torch_device(recipe.device)
    dataset = open_dataset(recipe.dataset, recipe.root, recipe.dataset_options)
    encoder.load(device)
    with _scratch(recipe.out) as scratch, torch.random.fork_rng(), contextlib.ExitStack() as stack:
        sampling, read = Sampling(recipe.every, recipe.fps, scratch), {}
        for partition in ("train", "validation"):
            examples = collect(dataset, partition, encoder, sampling, quiet=quiet)
            read[partition] = stack.enter_context(contextlib.closing(examples))
        torch.manual_seed(recipe.seed)
        head = torch.nn.Linear(encoder.dim, 2).to(device)
        epochs = _epochs(encoder, head, read, recipe, loss, score, device)
        history, best = [], None
        with progress("epoch", recipe.epochs, quiet=quiet) as step:
            for row in epochs:
                history.append(row)
                step()
                if best is None or row["mean"] > best["mean"]:
                    best, kept = row, _copied({"encoder": encoder.net, "head": head})
                elif row["epoch"] - best["epoch"] >= recipe.patience:
                    break
        counts, left_out = {p: len(e) for p, e in read.items()}, {p: e.left_out for p, e in read.items()}
    scores = {k: round(best[k], 4) for k in ("valence", "arousal", "mean")}
    seconds = round(time.monotonic() - start, 1)
    told = {"examples": counts, "left_out": left_out, "seconds": seconds}
    made = TrainedEncoder(recipe.encoder, best["epoch"], **scores, **told, folder="")
    return _save(made, recipe, encoder, history, kept)


@contextlib.contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """A folder for examples beside the results, removed afterwards."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".scratch-") as folder:
        yield Path(folder)


def _copied(nets: dict[str, Any]) -> dict[str, Any]:
    return {n: {k: t.detach().cpu().clone() for k, t in net.state_dict().items()} for n, net in nets.items()}


def _epochs(
    encoder: TrainableEncoder[Any],
    head: "torch.nn.Linear",
    read: dict[str, Examples],
    recipe: TrainEncoderRecipe,
    loss: Loss,
    score: Score,
    device: "torch.device",
) -> Iterator[dict[str, float]]:
    """One epoch an item: its mean loss, and the CCC on validation after it."""
    import torch

    rng, train = np.random.default_rng(recipe.seed), read["train"]
    encoder.net.requires_grad_(True)
    encoder.net.to(memory_format=torch.contiguous_format)  # channels last backward crashes on CPU where batches are odd
    parameters = [*encoder.net.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, recipe.lr, weight_decay=recipe.weight_decay)
    for epoch in range(1, recipe.epochs + 1):
        encoder.net.train()
        losses = []
        for batch in np.array_split(rng.permutation(len(train)), max(1, len(train) // recipe.batch_size)):
            x = torch.from_numpy(train.inputs[batch]).to(device)
            if recipe.flip and encoder.modality == "visual":
                mirrored = torch.from_numpy(rng.random(len(batch)) < 0.5).to(device)
                x[mirrored] = x[mirrored].flip(-1)
            va = torch.from_numpy(train.va[batch]).to(device)
            value = loss(
                head(encoder.embed(x))[None], va[None], torch.ones(1, len(va), dtype=torch.bool, device=device)
            )
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            losses.append(float(value.detach()))
        seen = read["validation"]
        scores = score(_predicted(encoder, head, seen, recipe, device), seen.va, np.ones(len(seen), bool))
        row = {"valence": scores.valence, "arousal": scores.arousal, "mean": scores.mean}
        yield {"epoch": epoch, "loss": float(np.mean(losses)), **row}


def _predicted(
    encoder: TrainableEncoder[Any],
    head: "torch.nn.Linear",
    examples: Examples,
    recipe: TrainEncoderRecipe,
    device: "torch.device",
) -> npt.NDArray[np.float32]:
    """f32[N,2] of a partition's examples, as extraction would see them."""
    import torch

    encoder.net.eval()
    rows = []
    with torch.inference_mode():
        for at in range(0, len(examples), recipe.batch_size):
            x = torch.from_numpy(examples.inputs[at : at + recipe.batch_size]).to(device)
            rows.append(head(encoder.embed(x)).float().cpu().numpy())
    return np.concatenate(rows)


def _asked_again(recipe: TrainEncoderRecipe, encoder: TrainableEncoder[Any], folder: Path) -> str:
    """The stream as ``extract`` is to be asked for it: the same options, these weights."""
    options = {k: v for k, v in recipe.options.items() if k != "weights"} | {"weights": str(folder)}
    asked = recipe.encoder + "".join(f"@{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in options.items())
    plugins = "".join(f" --plugin {shlex.quote(str(p))}" for p in recipe.plugins)
    return f"--{encoder.modality} {shlex.quote(asked)}{plugins}"


def _save(
    made: TrainedEncoder,
    recipe: TrainEncoderRecipe,
    encoder: TrainableEncoder[Any],
    history: list[dict[str, float]],
    kept: dict[str, Any],
) -> TrainedEncoder:
    """Weights under the encoder's own names with what they were fed, the head beside them, recipe, history, metrics."""
    from safetensors.torch import save_file

    name = f"{parse(recipe.encoder).stream}-{recipe.dataset}-s{recipe.seed}-{fingerprint(to_plain(recipe))}"
    folder = recipe.out / name
    folder.mkdir(parents=True, exist_ok=True)
    fed = {TRAINED: canonical(encoder.input_settings())}  # one key: safetensors writes several in any order
    save_file({k: t.contiguous() for k, t in kept["encoder"].items()}, folder / FILE, fed)
    save_file(kept["head"], folder / "head.safetensors")
    (folder / "recipe.json").write_text(to_json(recipe), encoding="utf-8")
    with open(folder / "history.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    made = replace(made, folder=str(folder), use=_asked_again(recipe, encoder, folder))
    packages = {p: version(p) for p in ("torch", "timm", "torchaudio", "av")}
    (folder / "metrics.json").write_text(to_json({**to_plain(made), "packages": packages}), encoding="utf-8")
    return made
