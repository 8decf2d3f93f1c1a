"""Where a run's numbers go while it trains: ``log.jsonl``, a line an epoch, and a tracker where one is named.

A tracker is a function here. Nothing leaves the machine unless its own environment says so: TensorBoard writes into
the run folder, MLflow into ``mlflow.db`` beside the runs (else MLFLOW_TRACKING_URI), Weights & Biases offline into the
run folder (else WANDB_MODE). A resumed run goes on as the same run of its tracker, and no epoch is in it twice.
"""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from cache.errors import UsageError
from cache.recipe import to_plain
from fuse.numbers.evaluate import Evaluation

Tracker = Literal["tensorboard", "mlflow", "wandb"]
LOG, _RUN = "log.jsonl", "tracker.json"
Numbers = dict[str, float]
Send = Callable[[Numbers, int | None], None]  # numbers of an epoch; of the end of the run where that is None
_SPLITS = ("valence", "arousal", "mean")


@dataclass(frozen=True)
class Told:
    """A run as its tracker gets to know it. told: epochs that an earlier process of the same run has told it."""

    folder: Path
    params: dict[str, Any]
    run: str | None
    told: int

    def keep(self, tracker: str, run: str) -> None:
        """Under which name the tracker has this run, for a resumption."""
        (self.folder / _RUN).write_text(json.dumps({"tracker": tracker, "run": run}) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Log:
    """Takes a run's numbers as they come."""

    file: TextIO
    send: Send

    def epoch(self, row: Mapping[str, float]) -> None:
        """One row of the history: into the file at once, so that ``tail -f`` shows it."""
        kept = {k: float(v) for k, v in row.items() if k != "epoch"}
        names = {k: f"validation/{k}" if k in _SPLITS else f"train/{k}" for k in kept}
        self.send({names[k]: v for k, v in kept.items()}, int(row["epoch"]))
        self.file.write(json.dumps(dict(row)) + "\n")
        self.file.flush()

    def final(self, evaluations: Mapping[str, Evaluation]) -> None:
        """What the run is worth, with intervals."""
        self.send(numbers_of(evaluations), None)


def numbers_of(evaluations: Mapping[str, Evaluation]) -> Numbers:
    """``final/test/raw/mean`` with ``.../mean_low`` and ``.../mean_high`` and so on, of every way of scoring."""
    found = {}
    for partition, e in evaluations.items():
        for kind in ("raw", "smoothed", "per_recording"):
            scores, sure = getattr(e, kind), getattr(e, f"{kind}_interval")
            for name in _SPLITS:
                at = f"final/{partition}/{kind}/{name}"
                found[at] = getattr(scores, name)
                if sure is not None:
                    found |= {f"{at}_low": getattr(sure, name).low, f"{at}_high": getattr(sure, name).high}
    return found


@contextlib.contextmanager
def logged(recipe: Any, folder: Path, tracker: Tracker | None, *, resume: bool = False) -> Iterator[Log]:
    """The log of one run, with ``resume`` that of the same run as before: its history is told again from the start.

    recipe: any dataclass; its settings are the run's parameters, by dotted name.
    """
    need(tracker)
    path = folder / LOG
    run, told = _known(folder, tracker) if resume else (None, 0)
    if run is None:
        (folder / _RUN).unlink(missing_ok=True)
    about = Told(folder, {**_flat(to_plain(recipe)), "folder": str(folder)}, run, told)
    with TRACKERS[tracker](about) as send, open(path, "w", encoding="utf-8") as file:
        yield Log(file, send)


def need(tracker: Tracker | None) -> None:
    """Raises UsageError where the library of a tracker is not installed."""
    if tracker is not None and importlib.util.find_spec(tracker) is None:
        raise UsageError(f"tracker {tracker} needs its library", hint=f"pip install 'affuse[{tracker}]'")


def _known(folder: Path, tracker: Tracker | None) -> tuple[str | None, int]:
    """The tracker's name of this run, and how many epochs it was told; (None, 0) where it was not told of it."""
    path, log = folder / _RUN, folder / LOG
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if tracker is None or known.get("tracker") != tracker:
        return None, 0
    return str(known["run"]), len(log.read_text(encoding="utf-8").splitlines()) if log.is_file() else 0


def _flat(plain: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value if isinstance(value, bool | int | float | str) else json.dumps(value)
    return found


@contextlib.contextmanager
def _nowhere(about: Told) -> Iterator[Send]:
    yield lambda numbers, epoch: None


@contextlib.contextmanager
def tensorboard(about: Told) -> Iterator[Send]:
    """Events in ``tensorboard`` of the run folder, written anew on a resumption; settings and final numbers: HPARAMS.

    See them with: tensorboard --logdir var/runs
    """
    from torch.utils.tensorboard import SummaryWriter

    top = about.folder / "tensorboard"
    shutil.rmtree(top, ignore_errors=True)
    with SummaryWriter(str(top)) as writer:

        def send(numbers: Numbers, epoch: int | None) -> None:
            if epoch is None:
                writer.add_hparams(about.params, numbers, run_name=".")
                return
            for name, value in numbers.items():
                writer.add_scalar(name, value, epoch)
            writer.flush()

        yield send


@contextlib.contextmanager
def mlflow(about: Told) -> Iterator[Send]:
    """A run of the experiment that is called as the corpus. An epoch that the store has is not sent again.

    See it with: mlflow ui --backend-store-uri sqlite:///var/runs/mlflow.db
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it is read as the library is imported
    from mlflow.entities import Metric, Param
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    database = (about.folder.resolve().parents[1] / "mlflow.db").as_posix()
    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database}")
    run = about.run
    if run is None:
        name = about.folder.resolve().parent.name
        try:
            experiment = client.create_experiment(name)
        except MlflowException:  # there is one
            experiment = client.get_experiment_by_name(name).experiment_id
        run = client.create_run(experiment, run_name=about.folder.name).info.run_id
        about.keep("mlflow", run)
        named = {re.sub(r"[^\w\-. :/]", "_", k): str(v) for k, v in about.params.items()}
        client.log_batch(run, params=[Param(k, v) for k, v in named.items()])
    client.update_run(run, status="RUNNING")
    known = {m.step for m in client.get_metric_history(run, "validation/mean")}
    ended = False

    def send(numbers: Numbers, epoch: int | None) -> None:
        nonlocal ended
        ended = epoch is None
        now, step = int(time.time() * 1000), epoch or 0
        if epoch not in known:
            client.log_batch(run, metrics=[Metric(name, value, now, step) for name, value in numbers.items()])

    try:
        yield send
    finally:
        client.set_terminated(run, "FINISHED" if ended else "FAILED")


@contextlib.contextmanager
def wandb(about: Told) -> Iterator[Send]:
    """A run of the project ``affuse``, grouped by corpus, in ``wandb`` of the run folder.

    Offline nothing is known of what it has: what log.jsonl holds counts as told. Of a resumed run there are two
    folders of one id, which are one run once they are sent: wandb sync RUN/wandb/offline-run-*
    """
    offline = "WANDB_MODE" not in os.environ
    if offline:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb as library

    run = about.run or uuid.uuid4().hex[:12]
    about.keep("wandb", run)
    opened = library.init(
        project="affuse",
        group=about.folder.resolve().parent.name,
        name=about.folder.name,
        id=run,
        resume="allow",
        dir=str(about.folder),
        mode="offline" if offline else None,
        config=about.params,
        settings=library.Settings(silent=True, console="off", reinit="create_new"),
    )
    ended = False

    def send(numbers: Numbers, epoch: int | None) -> None:
        nonlocal ended
        ended = epoch is None
        if epoch is None:
            opened.summary.update(numbers)
        elif epoch >= about.told:
            opened.log(numbers, step=epoch)

    try:
        yield send
    finally:
        opened.finish(exit_code=0 if ended else 1)


TRACKERS: dict[Tracker | None, Callable[[Told], AbstractContextManager[Send]]] = {
    None: _nowhere,
    "tensorboard": tensorboard,
    "mlflow": mlflow,
    "wandb": wandb,
}
