"""Groups of runs over the workers of a Dask cluster, see ``cache.cluster``: each trained and left on disk where it is.

Workers see the cache, the plugins and the runs under the same paths. Recipes go there, and numbers come back.
"""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from cache.cluster import Died, Work, answers
from cache.errors import AffuseError, CacheError, DataError, MissingData
from cache.recipe import build, to_plain
from cache.registry import forget_plugins, load_plugin
from cache.store import FeatureCache
from cache.worker import SHARED, Receipt, at_work_in
from fuse.recipe import TrainRecipe
from fuse.runs import packages
from fuse.train import RunResult, run_together

if TYPE_CHECKING:
    from distributed import Client

_GO_ON = "run the same command with --resume to go on"


@dataclass(frozen=True)
class Order:
    """What a worker is told of a command. folder: where paths begin; packages: their versions where it was given."""

    folder: str
    resume: bool
    packages: dict[str, str]


@dataclass(frozen=True)
class Group:
    """Runs that share their batches. numbers: their places among all runs of the command."""

    numbers: tuple[int, ...]
    recipes: tuple[TrainRecipe, ...]

    def __str__(self) -> str:
        return "; ".join(map(_told, self.recipes))

    def apart(self) -> list["Group"]:
        """A group for each run."""
        return [Group((n,), (r,)) for n, r in zip(self.numbers, self.recipes, strict=True)]


def train_on(
    client: "Client", recipes: list[TrainRecipe], resume: bool, groups: list[list[int]]
) -> Iterator[tuple[tuple[int, ...], list[RunResult]]]:
    """Runs by their numbers, with their results, as groups of them end. What a worker had begun, another begins anew.

    Raises what a run raises; where runs killed their workers AffuseError, after all others have ended.
    """
    work = Work[Group, Receipt[list[dict[str, Any]]]](
        functools.partial(train, Order(os.getcwd(), resume, packages())),
        named=str,
        kept=f"what is trained is kept: start it again, and {_GO_ON}",
        apart=Group.apart,
    )
    died = []
    for group, answer in answers(client, work, [Group((*g,), tuple(recipes[i] for i in g)) for g in groups]):
        if isinstance(answer, Died):
            died.append(f"{group}: {answer.told}")
        else:
            yield group.numbers, [build(RunResult, plain) for plain in answer.unpacked()]
    if died:
        raise AffuseError(
            ". ".join(died), hint=f"the other runs are complete; where memory ran out, make room and {_GO_ON}"
        )


def train(order: Order, group: Group) -> Receipt[list[dict[str, Any]]]:
    """On a worker: train, score and save a group's runs, in one thread, so that no number is the machine's.

    Raises MissingData where paths are not to be seen here, DataError where other versions would make the numbers.
    """
    with at_work_in(order.folder) as logged, _one_thread():
        _check(order, group)
        results = run_together([*group.recipes], resume=order.resume, quiet=True)
        return Receipt([to_plain(r) for r in results], logged)


def _check(order: Order, group: Group) -> None:
    here, wanted = f"a worker on {os.uname().nodename}", order.packages
    apart = [
        f"{p} {v}, wanted {wanted.get(p)}" for p, v in packages().items() if _release(v) != _release(wanted.get(p, ""))
    ]
    if apart:
        hint = "give every worker the same versions as the command"
        raise DataError(f"{here} has {'; '.join(apart)}", hint=hint)
    forget_plugins()
    try:
        for recipe in group.recipes:
            FeatureCache(recipe.cache)
            for plugin in recipe.plugins:
                load_plugin(plugin)
    except (CacheError, MissingData) as error:
        raise MissingData(f"{here}: {error.message}", hint=SHARED) from error


def _release(version: str) -> str:
    """Without what it was built for: a node that only starts commands may have no GPU."""
    return version.partition("+")[0]


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _told(recipe: TrainRecipe) -> str:
    fold = "" if recipe.fold is None else f", fold {recipe.fold}"
    return " ".join([recipe.head, *recipe.streams, f"seed {recipe.seed}{fold}"])
