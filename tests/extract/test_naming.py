"""How streams are asked for, what they are called, and what of that is in their fingerprints."""

import json
import re

import pytest
from torch import nn
from typer.testing import CliRunner

import cli
from cache.errors import ConfigError, UsageError
from cache.options import split
from extract.encoders import ENCODERS
from extract.naming import OPEN, TAKEN, Asked, forms, parse, parse_all
from extract.recipe import extract_recipe, options_of
from extract.streams import want


@pytest.mark.parametrize(
    ("text", "asked", "stream"),
    [
        ("hubert", Asked("hubert"), "hubert"),
        ("hubert@layers=6,9,12", Asked("hubert", options={"layers": [6, 9, 12]}), "hubert"),
        ("hubert@layers=-1", Asked("hubert", options={"layers": [-1]}), "hubert"),
        (
            "early = hubert @layer=4@precision=bf16",
            None,
            None,
        ),
        (
            "early=hubert@layer=4@precision=bf16",
            Asked("hubert", alias="early", options={"layer": 4, "precision": "bf16"}),
            "early",
        ),
        (
            "timm:convnext_tiny.fb_in22k",
            Asked("timm", "convnext_tiny.fb_in22k"),
            "timm-convnext_tiny-fb_in22k",
        ),
        (
            "hf-audio:microsoft/wavlm-base-plus",
            Asked("hf-audio", "microsoft/wavlm-base-plus"),
            "hf-audio-microsoft-wavlm-base-plus",
        ),
        ("hf-text:/data/my.models/a=b:c", Asked("hf-text", "/data/my.models/a=b:c"), "hf-text-a-b-c"),
        ("w=hf-audio:~/x@context_s=10.5", Asked("hf-audio", "~/x", "w", {"context_s": 10.5}), "w"),
    ],
)
def test_what_is_asked_for(text, asked, stream):
    if asked is None:
        with pytest.raises(UsageError, match="cannot name a stream"):
            parse(text)
        return
    assert parse(text) == asked
    assert parse(text).stream == stream
    assert re.fullmatch(r"[A-Za-z0-9_-]+", stream)
    nn.ModuleDict({stream: nn.Identity()})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no encoder"),
        ("@layer=4", "names no encoder"),
        ("early=", "names no encoder"),
        ("timm:", "names no model; write timm:NAME"),
        ("timm", "names no model; write timm:NAME"),
        ("a=hf-text", "names no model; write hf-text:ID"),
        ("hubert:base", "takes no model"),
        ("hubert@layer", r"not of the form @option=value"),
        ("hubert@=4", r"not of the form @option=value"),
        ("hubert@layer=", r"not of the form @option=value"),
        ("=hubert", "cannot name a stream"),
        ("a.b=hubert", "cannot name a stream"),
        ("a/b=hubert", "cannot name a stream"),
        ("9=hubert", "cannot name a stream"),
        ("float=hubert", "no word of torch"),
    ],
)
def test_what_cannot_be_asked_for(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_names_that_torch_keeps_for_itself_name_no_stream():
    words = {a for a in dir(nn.ModuleDict()) if not a.startswith(("_", "register_"))}
    words -= {"smart_apply"}  # which transformers adds, where it is imported
    assert words <= TAKEN


def test_streams_of_a_run_have_names_of_their_own():
    with pytest.raises(UsageError, match="two streams are called 'hubert'; give each a name"):
        parse_all(["hubert@layer=4", "hubert"], ["hubert"])
    with pytest.raises(UsageError, match="'swin' is an encoder"):
        parse_all(["swin=hubert"], ["swin", "hubert"])
    assert len(parse_all(["hubert", "late=hubert", "hubert=hubert@layer=-1"][:2], ["hubert"])) == 2


def test_encoders_of_any_model_are_those_that_take_one():
    names = ENCODERS.names()
    assert OPEN.keys() <= set(names)
    taking = {n for n in names if "model" in ENCODERS.get(n).Config.__dataclass_fields__}
    assert taking == OPEN.keys()
    assert set(forms(["swin", "timm"])) == {"swin", "timm:NAME"}


def test_commas_between_layers_part_no_names():
    assert split(["hubert@layers=6,9,12,spectrogram", "a=hubert@layers=-1, -2 ,none"]) == [
        "hubert@layers=6,9,12",
        "spectrogram",
        "a=hubert@layers=-1, -2",
    ]
    assert split(["hubert@layers=6,9@normalize=false,swin"]) == ["hubert@layers=6,9@normalize=false", "swin"]
    assert split(["r3d,i3d", "9a"]) == ["r3d", "i3d", "9a"]
    assert split(None) is None


def test_the_list_shows_how_models_are_named():
    listed = CliRunner().invoke(cli.app, ["list", "encoders", "--json"])
    assert {"hubert", "timm:NAME", "hf-audio:ID", "hf-text:ID"} <= set(json.loads(listed.stdout))


def test_options_of_a_stream_are_over_those_of_its_encoder():
    data = {
        "dataset": "manifest",
        "visual": [],
        "text": [],
        "audio": ["hubert", "early=hubert@layer=4", "hf-audio:org/a.b"],
        "hubert": {"precision": "tf32", "layer": 2},
        "early": {"precision": "bf16", "layer": 3},
        "hf-audio-org-a-b": {"weights": "random:0"},
    }
    recipe = extract_recipe(data)
    assert options_of(recipe, "hubert") == {"precision": "tf32", "layer": 2}
    assert options_of(recipe, "hf-audio:org/a.b") == {"weights": "random:0"}
    options = {**options_of(recipe, "early=hubert@layer=4"), "size": "micro", "weights": "random:0"}
    made = want("early=hubert@layer=4", "audio", options, align="overlap", dtype="float16").encoder
    assert (made.cfg.precision, made.cfg.layer) == ("bf16", 4)
    with pytest.raises(ConfigError, match="no key 'late'"):
        extract_recipe({**data, "late": {"layer": 4}})
    with pytest.raises(ConfigError, match=r"recipe.audio = 'hubert'"):
        extract_recipe({"dataset": "manifest", "audio": "hubert"})


MICRO = {"size": "micro", "weights": "random:0"}


def wanted(text, modality, **options):
    return want(text, modality, {**MICRO, **options}, align="overlap", dtype="float16")


def test_settings_of_streams_made_before_stay_as_they_were():
    """Their fingerprints are the keys of streams that took days to make."""
    hubert, swin, roberta, i3d = (
        wanted(n, m).settings
        for n, m in (("hubert", "audio"), ("swin", "visual"), ("roberta", "text"), ("i3d", "visual"))
    )
    assert hubert.keys() == swin.keys() == {"encoder", "version", "options", "align", "dtype", "decoder"}
    assert hubert["encoder"] == "hubert"
    speech = {"size": "micro", "precision": "float32", "layer": -1}
    assert hubert["options"] == {**speech, "context_s": 30.0, "overlap_s": 5.0, "normalize": True}
    assert roberta["options"] == {**speech, "context_tokens": 510, "stride_tokens": 255}
    assert swin["options"].keys() == {"size", "precision", "crop_pct", "preprocess"}
    assert swin["options"]["preprocess"].keys() == {"size", "crop_pct", "mean", "std", "interpolation"}
    clips = {"clip", "stride", "placement", "every", "edges"}
    assert i3d["options"].keys() == {"size", "precision", "crop_pct", "preprocess"} | clips


def test_an_alias_changes_the_name_and_no_setting():
    plain, named = wanted("hubert@layer=1", "audio"), wanted("early=hubert@layer=1", "audio")
    assert (plain.name, named.name) == ("hubert", "early")
    assert plain.settings == named.settings
    assert plain.settings != wanted("hubert", "audio").settings
