"""Recipes are strict, names are suggested, plugins join, fingerprints are stable."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cache.errors import ConfigError, DataError, MissingData, UnknownName
from cache.fingerprint import differing, fingerprint, spelled, stream_key
from cache.recipe import build, find_recipe, load_toml, merge, parse_sets, to_plain
from cache.registry import Registry, load_plugin, names_of


@dataclass(frozen=True)
class Inner:
    rate: float = 1.0


@dataclass(frozen=True)
class Outer:
    name: str
    sizes: tuple[int, ...] = ()
    inner: Inner = field(default_factory=Inner)
    where: Path = Path("x")


def test_build_makes_nested_frozen_dataclasses():
    made = build(Outer, {"name": "a", "sizes": [1, 2], "inner": {"rate": 2}, "where": "y"})
    assert made == Outer("a", (1, 2), Inner(2.0), Path("y"))
    assert to_plain(made) == {"name": "a", "sizes": [1, 2], "inner": {"rate": 2.0}, "where": "y"}


def test_all_unknown_keys_are_reported_at_once_with_suggestions():
    with pytest.raises(ConfigError) as error:
        build(Outer, {"nmae": "a", "inner": {"rat": 1}})
    assert "did you mean 'name'?" in str(error.value)
    assert "did you mean 'rate'?" in str(error.value)
    assert error.value.exit_code == 2


def test_all_bad_values_are_reported_at_once():
    with pytest.raises(ConfigError, match=r"recipe.sizes.0 = 'x'.*recipe.inner.rate = 'fast'"):
        build(Outer, {"name": "a", "sizes": ["x"], "inner": {"rate": "fast"}})


def test_sets_are_typed_and_nested_and_later_layers_win():
    data = merge({"a": {"b": 1, "c": 2}, "d": 1}, {"a": {"b": 5}, "d": None}, parse_sets(["a.c=true", "x.y=word"]))
    assert data == {"a": {"b": 5, "c": True}, "d": 1, "x": {"y": "word"}}
    with pytest.raises(ConfigError, match="key=value"):
        parse_sets(["oops"])


def test_a_recipe_file_that_is_not_toml_or_not_there(tmp_path):
    (tmp_path / "bad.toml").write_text("a = \n")
    with pytest.raises(ConfigError, match=r"bad.toml is not TOML.*line 1"):
        load_toml(tmp_path / "bad.toml")
    with pytest.raises(MissingData, match="no recipe at"):
        find_recipe(Path("nope"), tmp_path)


def test_registry_knows_names_without_importing_and_suggests():
    heads: Registry = Registry("head", "fuse.heads")
    assert {"jca", "maven", "concat", "cross-attention", "unimodal"} <= set(names_of("fuse.heads"))
    with pytest.raises(UnknownName, match="did you mean 'maven'") as error:
        heads.get("mavne")
    assert "jca" in str(error.value)


def test_a_name_clash_is_an_error():
    things: Registry = Registry("thing", "fuse.heads")
    things.register("a")(Inner)
    with pytest.raises(DataError, match="already"):
        things.register("a")(Outer)


PLUGIN = "from fuse.heads import HEADS, Head\n\n@HEADS.register({!r})\nclass Mine(Head):\n    pass\n"


@pytest.mark.parametrize("name", ["maven", "cross-attention", "ca"])
def test_a_plugin_cannot_take_the_name_of_what_is_there_imported_or_not(tmp_path, name, monkeypatch):
    from fuse.heads import HEADS

    monkeypatch.setattr(HEADS, "_classes", {})
    (tmp_path / "taker.py").write_text(PLUGIN.format(name))
    for _ in range(2):
        with pytest.raises(DataError, match=f"head '{name}' is one of fuse.heads; choose another name"):
            load_plugin(tmp_path / "taker.py")
    assert HEADS._classes == {}


def test_a_plugin_that_failed_fails_again(tmp_path):
    (tmp_path / "halves.py").write_text("from cache.errors import DataError\nraise DataError('not today')\n")
    for _ in range(2):
        with pytest.raises(DataError, match=r"^not today$"):
            load_plugin(tmp_path / "halves.py")


def test_a_plugin_registers_and_a_missing_one_is_named(tmp_path):
    plugin = tmp_path / "my_head.py"
    plugin.write_text(PLUGIN.format("my-test-head"))
    load_plugin(plugin)
    from fuse.heads import HEADS

    try:
        assert "my-test-head" in HEADS.names()
        load_plugin(plugin)
    finally:
        HEADS._classes.pop("my-test-head")
    with pytest.raises(MissingData, match="is not a file"):
        load_plugin(tmp_path / "none.py")


def test_fingerprints_do_not_depend_on_order_and_do_on_values():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert stream_key("swin", {"a": 1}) != stream_key("swin", {"a": 2})
    assert stream_key("swin", {}).startswith("swin-")
    assert differing({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}) == {"a.b": (1, 3)}


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ({"fps": None}, {}, {"fps": ("null", "(absent)")}),
        ({"options": {}}, {}, {"options": ("{}", "(absent)")}),
        (
            {"options": {}},
            {"options": {"layer": 1}},
            {"options": ("{}", "(absent)"), "options.layer": ("(absent)", "1")},
        ),
        ({"fps": 1}, {"fps": 1.0}, {"fps": ("1", "1.0")}),
        ({"on": [True]}, {"on": [1]}, {"on": ("[true]", "[1]")}),
        ({"a": {"b": 1}}, {"a": {"b": 1}}, {}),
    ],
)
def test_settings_of_two_keys_are_never_called_the_same(a, b, told):
    assert {k: (spelled(x), spelled(y)) for k, (x, y) in differing(a, b).items()} == told
    assert (stream_key("s", a) == stream_key("s", b)) == (not told)
