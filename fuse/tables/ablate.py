"""Tables: every row of a grid trained over several seeds from the same cache, and summarised."""

import dataclasses
import itertools
import logging
from pathlib import Path
from typing import Any

from cache.errors import ConfigError, UsageError
from cache.find import find_cache
from cache.progress import progress
from cache.recipe import build, merge
from cache.registry import load_plugin
from cache.store import FeatureCache
from fuse.feeding.locked import has_labels
from fuse.feeding.snapshot import take_snapshot
from fuse.many import run_many
from fuse.recipe import TrainRecipe, chosen_recipe, read_table
from fuse.tables.grid import AblateRecipe, Grid, Row, grid_rows
from fuse.tables.roles import cast
from fuse.tables.summary import RowResult, ranked, summarise
from fuse.train import prepare

log = logging.getLogger("affuse")
_SETTINGS = ("runs", "train", "heads", "seeds", "workers", "scheduler", "cluster", "partition")


def ablate_recipe(recipe: Path | None, given: dict[str, Any], grid: Grid | None = None) -> AblateRecipe:
    """A table's recipe file (or shipped name) with what was given over it, its roles played by streams of the cache.

    A ``grid`` takes the place of the recipe's rows and of what it says of them; its settings stay. Without a recipe
    they are those shipped for the cache's corpus, if there are any. Raises UsageError without a recipe and a grid.
    """
    if grid is None:
        if recipe is None:
            raise UsageError(
                "neither a recipe nor heads are named", hint="give --recipe jca-table, or --heads concat,jca"
            )
        data = _over(read_table(recipe), given)
        return _complete({**data, "cache": data.get("cache") or find_cache(None, None)})
    root = given.get("cache") or find_cache(None, None)
    table = read_table(chosen_recipe(root, recipe))
    settings = {k: v for k, v in table.items() if k in _SETTINGS}
    for plugin in given.get("train", {}).get("plugins", []):
        load_plugin(Path(plugin))
    own = {"cache": root, "rows": grid_rows(grid, FeatureCache(root))}
    return _complete(merge(_over(settings, given), own))


def _complete(data: dict[str, Any]) -> AblateRecipe:
    """With streams for its roles, and scored on test; on validation where test has no labels and none is named."""
    recipe = cast(build(AblateRecipe, data))
    if "partition" in data or _labelled(recipe, "test"):
        return recipe
    log.info("test has no labels here: the table is of validation")
    return dataclasses.replace(recipe, partition="validation")


def _labelled(recipe: AblateRecipe, partition: str) -> bool:
    protocol = recipe.train.get("labels", TrainRecipe.labels)
    return has_labels(take_snapshot(FeatureCache(recipe.cache), (), protocol), partition)


def _over(data: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """A recipe's data with what was given over it. Of its places to train at, one that is given takes the place."""
    place = ("workers", "cluster") if given.get("scheduler") else ("scheduler",) if given.get("cluster") else ()
    return merge({k: v for k, v in data.items() if k not in place}, given)


def run_ablate(recipe: AblateRecipe, *, resume: bool = False, quiet: bool = False) -> list[RowResult]:
    """Train all rows and seeds, with ``resume`` only what is not complete; results in the order of the rows.

    Raises UsageError before the first step of training where a row is not a valid recipe.
    """
    if recipe.seeds < 1 or recipe.workers < 1 or not recipe.rows:
        raise UsageError(
            f"an ablation of {len(recipe.rows)} rows, {recipe.seeds} seeds, {recipe.workers} workers is empty"
        )
    seeds = [row.seeds or recipe.seeds for row in recipe.rows]
    recipes = [_train_recipe(recipe, r, s) for r, n in zip(recipe.rows, seeds, strict=True) for s in range(n)]
    _check_all(recipe, recipes)
    place = {"scheduler": recipe.scheduler, "cluster": recipe.cluster}
    with progress("train", len(recipes), quiet=quiet) as step:
        results = run_many(recipes, recipe.workers, **place, resume=resume, told=step)
    ends = itertools.accumulate(seeds)
    groups = [results[end - n : end] for n, end in zip(seeds, ends, strict=True)]
    return ranked([summarise(row, group, recipe.partition) for row, group in zip(recipe.rows, groups, strict=True)])


def _train_recipe(recipe: AblateRecipe, row: Row, seed: int) -> TrainRecipe:
    layers = {"[train]": recipe.train, f"[heads.{row.head}]": recipe.heads.get(row.head, {}), "set": row.set}
    for where, settings in layers.items():
        taken = sorted({"head", "cache", "runs", "seed"} & set(settings))
        if taken:
            raise ConfigError(f"{taken[0]!r} of an ablation is not set under {where}: the table and its rows say it")
    own = {"head": row.head, "cache": recipe.cache, "runs": recipe.runs, "seed": seed, "streams": row.streams or None}
    return build(
        TrainRecipe, merge(recipe.train, recipe.heads.get(row.head, {}), row.set, own), where=f"row {row.label!r}"
    )


def _check_all(recipe: AblateRecipe, recipes: list[TrainRecipe]) -> None:
    """Raises what any of the runs would raise for its recipe, before the first one trains.

    On a cluster the device is there, and need not be here.
    """
    partition, elsewhere = recipe.partition, bool(recipe.scheduler or recipe.cluster)
    if partition not in ("validation", "test"):
        raise UsageError(f"an ablation is scored on validation or test, not on {partition!r}")
    if not _labelled(recipe, partition):
        raise UsageError(f"{partition} has no labels here: nothing can be scored on it", hint="partition = validation")
    for run in (r for r in recipes if r.seed == 0):
        prepare(dataclasses.replace(run, device="cpu") if elsewhere else run)
