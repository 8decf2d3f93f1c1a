"""``compare`` through its public surface: two runs, two sets of seeds, and what cannot be compared."""

from dataclasses import replace
from pathlib import Path

import pytest

from cache.errors import CacheError, MissingData, UsageError
from fuse.numbers.compare import compare_runs, comparison_lines, seeds_of
from fuse.recipe import TrainRecipe
from fuse.train import run_train

SMALL = {"tokens": 32, "hop": 16, "batch_size": 8, "lr": 1e-2}


@pytest.fixture(scope="module")
def runs(toy_cache, tmp_path_factory):
    """Folders by (epochs, seed): one learns, the other hardly."""
    root = tmp_path_factory.mktemp("compared")
    base = TrainRecipe(head="concat", cache=toy_cache.root, runs=root, **SMALL)
    return {
        (epochs, seed): Path(run_train(replace(base, epochs=epochs, seed=seed), quiet=True).folder)
        for epochs, seed in ((1, 0), (1, 1), (6, 0), (6, 1))
    }


def test_the_difference_is_that_of_the_reported_numbers(runs):
    found = compare_runs(runs[6, 0], runs[1, 0], "validation")
    assert found.differences["mean"].difference > 0.1
    assert found.differences["mean"].a == pytest.approx(found.a_seeds[0])
    assert found.recordings == 2
    assert found.differences["mean"].p >= 0.5  # two recordings cannot tell
    assert found.seeds_needed is None
    assert "2 recordings are too few: p cannot be below 0.5" in comparison_lines(found)
    assert "seeds needed: not known" in comparison_lines(found)[-1]


def test_a_path_without_seed_is_all_its_seeds(runs):
    stems = [f.parent / f.name.removesuffix("-seed0") for f in (runs[6, 0], runs[1, 0])]
    assert seeds_of(stems[0]) == [runs[6, 0], runs[6, 1]]
    found = compare_runs(*stems)
    assert len(found.a) == len(found.b) == 2
    assert found.seeds_needed >= 2


def test_what_is_not_there_is_named(runs, tmp_path):
    with pytest.raises(MissingData, match="no run at"):
        compare_runs(runs[6, 0], tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CacheError, match="did not finish"):
        compare_runs(runs[6, 0], tmp_path / "empty")
    with pytest.raises(UsageError, match="'train'"):
        compare_runs(runs[6, 0], runs[1, 0], "train")
