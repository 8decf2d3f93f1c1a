"""Published tables: every row of every shipped recipe is built on a cache that has its roles, and says what it used."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import cli
from cache.errors import CacheError, ConfigError, UsageError
from cache.records import Aligned, Labels, Partitions, Timeline
from cache.store import FeatureCache
from fuse.heads import HEADS
from fuse.recipe import SHIPPED, read_table
from fuse.tables.ablate import ablate_recipe, run_ablate
from fuse.tables.grid import Grid, Row, make_grid
from fuse.tables.ranked import conclude

MODALITY = {"visual": ("i3d", "r3d", "resnet18", "resnet50", "swin"), "audio": ("spectrogram", "hubert")}
MODALITY |= {"text": ("roberta",)}
TABLES = sorted(p.stem for p in SHIPPED.glob("*.toml") if "paper" in read_table(Path(p.stem)))
TINY = {"epochs": 1, "device": "cpu", "tokens": 8, "stride": 2, "hop": 8, "batch_size": 64}
FRAMES = 40
SMALL_MAVEN = {"d": 8, "d_proj": 8, "d_att": 4}


def write_roles(root, streams):
    """Five recordings with labels that every stream half tells."""
    rng = np.random.default_rng(0)
    cache = FeatureCache.create(root, "toy")
    split = dict(zip("abcde", ("train", "train", "validation", "validation", "test"), strict=True))
    labels = {}
    for name in split:
        cache.timelines.write(name, Timeline(np.arange(FRAMES) / 25, FRAMES / 25))
        va = np.clip(np.cumsum(rng.normal(size=(FRAMES, 2)), 0) * 0.1, -1, 1).astype(np.float32)
        labels[name] = Labels(va, np.ones(FRAMES, bool))
        for stream in streams:
            modality = next(m for m, names in MODALITY.items() if stream in names)
            origin = {"signature": [stream, "base", "random:0" if stream == "r3d" else "hub"]}
            spec = cache.declare(stream, modality, 4, {"encoder": stream}, origin)
            values = np.concatenate([va, va], 1) + rng.normal(size=(FRAMES, 4)) * 0.3
            cache.write(spec.key, name, Aligned(values.astype(np.float32), np.ones(FRAMES, bool)))
    cache.labels.write("va", labels, Partitions(split, {n: n for n in split}))
    return cache


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return write_roles(tmp_path_factory.mktemp("roles") / "cache", [s for names in MODALITY.values() for s in names])


@pytest.fixture(scope="module")
def swin_only(tmp_path_factory):
    return write_roles(tmp_path_factory.mktemp("few") / "cache", ["swin", "hubert", "r3d"])


def given(cache, tmp_path, **more):
    base = {"cache": cache.root, "runs": tmp_path / "runs", "seeds": 1, "train": {"epochs": 1, "device": "cpu"}}
    return base | more


@pytest.mark.parametrize("name", [pytest.param(t, marks=pytest.mark.slow) if t == "jca-table" else t for t in TABLES])
def test_every_row_of_a_shipped_table_trains(cache, tmp_path, name):
    recipe = ablate_recipe(Path(name), given(cache, tmp_path))
    heads = recipe.heads | {"maven": {"options": SMALL_MAVEN}}
    found = run_ablate(replace(recipe, heads=heads), quiet=True)
    assert len(found) == len(read_table(Path(name))["rows"])
    assert not [r.label for r in found if "{" in r.label]
    assert len({r.label for r in found}) == len(found)
    assert conclude(found, recipe.partition).rows == found


def test_the_jca_table_is_the_papers(cache, tmp_path):
    recipe = ablate_recipe(Path("jca-table"), given(cache, tmp_path))
    told = {r.label: (r.paper.valence, r.paper.arousal) for r in recipe.rows}
    assert told == {
        "i3d, concat": (0.531, 0.468),
        "r3d, concat": (0.517, 0.493),
        "i3d, cross-attention": (0.541, 0.517),
        "i3d, leader-follower": (0.592, 0.521),
        "resnet18-gru, jca": (0.632, 0.520),
        "r3d, jca": (0.642, 0.592),
        "i3d, jca": (0.657, 0.580),
        "i3d-tcn, jca": (0.663, 0.584),
        "i3d-tcn+r3d, jca": (0.670, 0.590),
    }
    assert recipe.partition == "validation"
    assert all(r.streams[-1] == "spectrogram" for r in recipe.rows)
    assert {r.label: r.set["temporal"] for r in recipe.rows if r.set} == {
        "resnet18-gru, jca": {"resnet18": "gru"},
        "i3d-tcn, jca": {"i3d": "tcn"},
        "i3d-tcn+r3d, jca": {"i3d": "tcn"},
    }
    assert [r.label for r in recipe.rows if r.paper.of] == ["i3d, leader-follower"]


def test_the_maven_tables_hold_what_the_paper_prints_and_nothing_else(cache, tmp_path):
    rows = {r.label: r for r in ablate_recipe(Path("maven-table2"), given(cache, tmp_path)).rows}
    assert len(rows) == 7
    assert {label for label, r in rows.items() if r.paper} == {"swin", "hubert", "roberta", "swin+hubert+roberta"}
    for row in (r for r in rows.values() if r.paper):  # the printed mean is that of the numbers as they are read
        assert (row.paper.valence + row.paper.arousal) / 2 == pytest.approx(row.paper.mean, abs=2e-4)
    assert "sign is lost" in rows["hubert"].note
    both = ablate_recipe(Path("maven-table1"), given(cache, tmp_path)).rows
    assert [(r.head, r.paper.mean) for r in both] == [("linear", 0.22), ("maven", 0.3061)]


def test_another_stream_in_a_role_is_what_the_table_says_it_is(cache, tmp_path):
    streams = {"i3d": cache.resolve("swin").key, "audio": "hubert"}
    recipe = ablate_recipe(Path("jca-table"), given(cache, tmp_path, streams=streams))
    labels = [r.label for r in recipe.rows]
    assert "swin-tcn+r3d, jca" in labels
    assert not [label for label in labels if "i3d" in label]
    assert {r.label: r.set["temporal"] for r in recipe.rows if r.set}["swin-tcn, jca"] == {"swin": "tcn"}
    told = next(n for n in recipe.notes if n.startswith("streams: "))
    assert told == "streams: i3d = swin, audio = hubert, r3d (random weights), resnet18"


def test_streams_that_are_not_there_are_named_with_what_to_do(swin_only, tmp_path):
    with pytest.raises(CacheError) as error:
        ablate_recipe(Path("jca-table"), given(swin_only, tmp_path))
    told = str(error.value)
    assert "lacks: i3d, spectrogram (as audio), resnet18; it holds: hubert, r3d, swin" in told
    assert "python cli.py extract --dataset toy --visual i3d,r3d,resnet18 --audio spectrogram@weights=FOLDER" in told
    assert "--set streams.i3d=NAME" in told
    assert "--skip-missing" in told


def test_rows_that_cannot_be_are_left_out_where_that_is_asked(swin_only, tmp_path):
    more = {"streams": {"i3d": "swin", "audio": "hubert"}, "skip_missing": True}
    recipe = ablate_recipe(Path("jca-table"), given(swin_only, tmp_path, **more))
    assert len(recipe.rows) == 8
    assert "left out, as the cache lacks resnet18: resnet18-gru, jca" in recipe.notes
    with pytest.raises(CacheError, match="lacks"):  # with no row left there is no table
        ablate_recipe(Path("maven-table1"), given(swin_only, tmp_path, streams={"audio": "x", "resnet50": "y"}))


def test_a_role_that_is_none_and_a_stream_in_two_roles_are_refused(cache, tmp_path):
    with pytest.raises(ConfigError, match=r"streams\.i3 is no role of the rows; did you mean 'i3d'\?"):
        ablate_recipe(Path("jca-table"), given(cache, tmp_path, streams={"i3": "swin"}))
    with pytest.raises(UsageError, match=r"i3d and r3d are both 'i3d'; name another one: --set streams\.r3d=NAME"):
        ablate_recipe(Path("jca-table"), given(cache, tmp_path, streams={"r3d": "i3d"}))


def test_a_grid_is_heads_by_streams(cache, tmp_path):
    named = {"visual": ["swin"], "audio": ["hubert"], "text": None}
    plain = ablate_recipe(None, given(cache, tmp_path), make_grid(["concat", "unimodal"], named, False))
    assert [r.label for r in plain.rows] == ["concat", "unimodal, swin", "unimodal, hubert"]
    grid = make_grid(["concat", "jca"], named | {"text": ["roberta"]}, True)
    rows = ablate_recipe(None, given(cache, tmp_path), grid).rows
    assert len(rows) == 2 * 7
    assert rows[3].label == "concat, swin+hubert"
    assert [cache.stream(k).name for k in rows[-1].streams] == ["swin", "hubert", "roberta"]


def test_a_grid_takes_a_recipes_settings_and_leaves_its_rows(cache, tmp_path):
    recipe = ablate_recipe(Path("demo"), given(cache, tmp_path), make_grid(["jca"], {"visual": ["swin"]}, False))
    assert (len(recipe.rows), recipe.train["lr"], recipe.heads["jca"]["stride"]) == (1, 1e-3, 8)
    published = ablate_recipe(None, given(cache, tmp_path), make_grid(["jca"], {"visual": ["swin"]}, False))
    assert published.heads == {}
    assert published.partition == "test"


def test_what_makes_no_table_says_so(cache, tmp_path):
    with pytest.raises(UsageError, match="neither a recipe nor heads are named"):
        ablate_recipe(None, given(cache, tmp_path))
    with pytest.raises(UsageError, match="add --heads"):
        make_grid(None, {"visual": ["swin"]}, False)
    with pytest.raises(UsageError, match="add --heads"):
        make_grid(None, {"visual": None}, True)
    with pytest.raises(UsageError, match="did you mean 'jca'"):
        ablate_recipe(None, given(cache, tmp_path), make_grid(["jcaa"], {"visual": ["swin"]}, False))


def test_the_command_leaves_files_and_says_where(cache, tmp_path):
    command = ["ablate", "--heads", "concat,unimodal", "--visual", "swin", "--audio", "hubert", "--seeds", "2", "-q"]
    sets = [f"train.{k}={v}" for k, v in TINY.items()] + [f"runs={tmp_path}/runs"]
    command += ["--cache", str(cache.root), "--out", str(tmp_path / "t"), *(a for s in sets for a in ("--set", s))]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 0, done.output
    assert "unimodal, hubert" in done.output
    assert f"table: {tmp_path}/t/" in done.output.replace("\n", "")
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == ["table.csv", "table.json", "table.md", "table.tex"]
    again = CliRunner().invoke(cli.app, [*command, "--resume", "--json"])
    found = json.loads(again.stdout)
    assert sorted(r["rank"] for r in found["rows"]) == [1, 2, 3]
    assert found["first_against_second"]["recordings"] == 1


def test_published_protocols_hold_unless_a_recipe_says_otherwise():
    """Window, optimiser and loss of those heads whose paper or code tells them."""
    told = {h: HEADS.get(h).protocol for h in ("jca", "cross-attention", "leader-follower", "maven", "rjca")}
    assert {h: (p.tokens, p.stride, p.batch_size, p.lr) for h, p in told.items()} == {
        "jca": (16, 32, 64, 1e-3),
        "cross-attention": (8, 16, 16, 1e-4),
        "leader-follower": (300, 1, 12, 1e-4),
        "maven": (300, 1, 16, 1e-4),
        "rjca": (16, 32, 64, 3e-4),
    }
    assert {h: (p.loss, p.ccc_scope, p.optimiser, p.weight_decay) for h, p in told.items()} == {
        "jca": ("ccc", "batch", "adam", 0.0),
        "cross-attention": ("ccc", "batch", "adam", 0.0),
        "leader-follower": ("ccc", "window", "adam", 1e-3),
        "maven": ("mse", "batch", "adamw", 1e-2),
        "rjca": ("ccc", "batch", "adamw", 1e-5),
    }


def test_a_heads_own_scope_and_optimiser_reach_training_and_a_recipe_is_over_them(cache, tmp_path):
    def trained(**settings):
        rows = (Row("x", "leader-follower", ("swin", "hubert"), {**TINY, "lr": 1e-2, **settings}),)
        recipe = replace(ablate_recipe(Path("demo"), given(cache, tmp_path)), rows=rows, train={}, workers=1)
        found = run_ablate(recipe, quiet=True)[0]
        return found.raw["mean"].mean, json.loads((Path(found.folders[0]) / "recipe.json").read_text())

    own, saved = trained()
    assert (saved["ccc_scope"], saved["optimiser"]) == ("window", "adam")
    assert trained(ccc_scope="batch")[0] != own
    assert trained(optimiser="adamw", weight_decay=0.5)[0] != trained(weight_decay=0.5)[0]


def test_without_labels_of_test_a_table_is_of_validation_or_refused_before_it_trains(toy_cache, tmp_path):
    root = tmp_path / "cache"
    shutil.copytree(toy_cache.root, root)
    split = toy_cache.labels.partitions("va").of
    kept = {r: toy_cache.labels.read("va", r) for r, p in split.items() if p != "test"}
    shutil.rmtree(root / "labels")
    FeatureCache(root).labels.write("va", kept, toy_cache.labels.partitions("va"))
    given = {"cache": root, "runs": tmp_path / "runs", "seeds": 1, "train": TINY}
    table = ablate_recipe(None, given, Grid(("concat",)))
    assert table.partition == "validation"
    assert run_ablate(table, quiet=True)[0].raw["mean"].values
    with pytest.raises(UsageError, match="test has no labels here"):
        run_ablate(ablate_recipe(None, {**given, "partition": "test", "runs": tmp_path / "none"}, Grid(("concat",))))
    assert not (tmp_path / "none").exists()
    assert ablate_recipe(None, {**given, "cache": toy_cache.root}, Grid(("concat",))).partition == "test"
