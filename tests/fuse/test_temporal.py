"""What stands before a head: a mix of layers as in SUPERB, models of time that look where they say and nowhere else."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import cli
from cache.errors import ConfigError, UsageError
from cache.recipe import build
from cache.records import Aligned, StreamSpec, Timeline
from cache.store import FeatureCache
from fuse.feeding.batch import HeadInputs
from fuse.heads import HEADS
from fuse.recipe import TrainRecipe, make_head, protocol_of, train_recipe
from fuse.tables.ablate import AblateRecipe, run_ablate
from fuse.temporal import Fronted, LayerMix, TemporalOptions, by_stream, fronted, temporal_model
from fuse.train import run_train

KINDS = ("tcn", "gru", "lstm", "transformer")
FACE, VOICE, WORDS = (
    StreamSpec("face", "visual", 6), StreamSpec("voice", "audio", 5), StreamSpec("words", "text", 12, layers=3)
)  # fmt: skip
B, L = 2, 12
WEIGHTS = torch.arange(8.0)  # a plain sum, and that of squares, are fixed by a LayerNorm
SMALL = {"tokens": 32, "hop": 32, "batch_size": 8, "lr": 1e-2, "epochs": 2}


def model(kind, **options):
    torch.manual_seed(0)
    return temporal_model(kind, 6, TemporalOptions(**{"width": 8, "heads": 2} | options)).eval().double()


def features(seed=1):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(B, L, 6, generator=g, dtype=torch.float64)
    return x, torch.rand(B, L, generator=g) > 0.3


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_causal_model_sees_nothing_later_and_a_centred_one_both_sides(kind, causal):
    net = model(kind, causal=causal)
    x, seen = features()
    x.requires_grad_()
    (net(x, torch.ones_like(seen))[:, 6] * WEIGHTS).sum().backward()
    touched = x.grad.abs().sum(-1) > 0
    assert touched[:, :7].all()
    assert touched[:, 7:].any() != causal


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_absent_tokens_are_neither_looked_at_nor_made(kind, causal):
    net = model(kind, causal=causal)
    x, seen = features()
    seen[1, :4] = False  # a stream that begins late: a causal query before it has no key at all
    x = (x * seen.unsqueeze(-1)).requires_grad_()
    out = net(x, seen)
    assert (out[~seen] == 0).all()
    assert (out[seen].abs().sum(-1) > 0).all()
    (out * WEIGHTS).sum().backward()
    assert (x.grad[~seen] == 0).all() or kind == "tcn"  # whose zeros are where they are; ``visible`` made them
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_behind_a_window_changes_nothing(kind, causal):
    net = model(kind, causal=causal)
    x, seen = features()
    x = x * seen.unsqueeze(-1)
    longer = torch.cat([x, torch.zeros(B, 5, 6, dtype=torch.float64)], 1)
    more = net(longer, torch.cat([seen, seen.new_zeros(B, 5)], 1))
    torch.testing.assert_close(more[:, :L], net(x, seen), atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_recurrent_models_are_torchs_over_the_tokens_that_are_there(kind):
    net = model(kind)
    x, seen = features()
    for b in range(B):
        want = net.rnn(x[b, seen[b]].unsqueeze(0))[0][0]
        torch.testing.assert_close(net(x, seen)[b, seen[b]], want)


def test_a_transformer_is_self_attention_over_the_tokens_that_are_there():
    net = model("transformer", layers=1, heads=1)
    x, seen = features()
    layer, out = net.layers[0], net(x, seen)
    for b, t in seen.nonzero().tolist():
        h = net.project(x[b])
        steps = torch.arange(L, dtype=torch.float64).unsqueeze(-1)
        rate = torch.exp(torch.arange(4, dtype=torch.float64) * (-np.log(10_000.0) / 4))
        h = h + torch.cat([(steps * rate).sin(), (steps * rate).cos()], -1)
        q, k, v = layer.attention.qkv(layer.norm(h)).chunk(3, -1)
        keys = [s for s in range(t + 1) if seen[b, s]]
        weights = torch.stack([q[t] @ k[s] / 8**0.5 for s in keys]).softmax(0)
        row = h[t] + layer.attention.out(sum(w * v[s] for w, s in zip(weights, keys, strict=True)))
        row = net.norm(row + layer.feed(row))
        torch.testing.assert_close(out[b, t], row, atol=1e-6, rtol=0)


def test_a_mix_begins_as_the_mean_and_is_a_weighted_sum_of_layers():
    mix = LayerMix(3)
    x = torch.randn(B, L, 12)
    torch.testing.assert_close(mix(x), (x[..., :4] + x[..., 4:8] + x[..., 8:]) / 3)
    with torch.no_grad():
        mix.w.copy_(torch.tensor([0.0, 1.0, 2.0]))
        mix.scale.fill_(0.5)
    e = np.exp([0, 1, 2])
    want = sum(0.5 * w * x[..., 4 * k : 4 * k + 4] for k, w in enumerate((e / e.sum()).tolist()))
    torch.testing.assert_close(mix(x), want)


def made(head="concat", temporal=None, streams=(FACE, VOICE, WORDS), **more):
    cls = HEADS.get(head)
    return fronted(
        cls, cls.Config(), HeadInputs(streams, 16), temporal or {}, TemporalOptions(width=8, heads=2), **more
    )


def test_a_head_without_anything_before_it_is_the_head_itself():
    assert not isinstance(made(streams=(FACE, VOICE)), Fronted)
    assert not isinstance(made(layer_mix=False), Fronted)
    assert not isinstance(made(temporal={"face": "none"}, layer_mix=False), Fronted)


def test_heads_are_told_the_widths_that_reach_them():
    assert made().head.inputs.dims == {"face": 6, "voice": 5, "words": 4}
    assert made(temporal={"visual": "tcn", "text": "gru"}).head.inputs.dims == {"face": 8, "voice": 5, "words": 8}
    plain = made(temporal={"face": "tcn"}, layer_mix=False)
    assert plain.head.inputs.dims == {"face": 8, "voice": 5, "words": 12}
    assert [s.layers for s in plain.head.inputs.streams] == [1, 1, 3]


def test_streams_are_named_by_themselves_or_by_modality(caplog):
    two = (FACE, StreamSpec("pose", "visual", 3), VOICE)
    assert by_stream({"visual": "tcn"}, two) == {"face": "tcn", "pose": "tcn"}
    assert by_stream({"visual": "tcn", "pose": "gru"}, two) == {"face": "tcn", "pose": "gru"}
    assert by_stream({"visual": "tcn", "pose": "none"}, two) == {"face": "tcn"}
    with pytest.raises(UsageError, match=re.escape("--temporal names 'fase'")) as told:
        by_stream({"fase": "tcn"}, two)
    assert "did you mean 'face'" in told.value.hint
    with caplog.at_level("INFO", "affuse"):
        assert by_stream({"text": "tcn"}, two) == {}
    assert "this run has no text stream" in caplog.text


def test_models_that_cannot_be_made_or_trained_are_refused():
    with pytest.raises(UsageError, match="no transformer has width 9"):
        model("transformer", width=9)
    with pytest.raises(UsageError, match="no gru has width 9"):
        model("gru", width=9, causal=False)
    assert model("gru", width=9)
    with pytest.raises(UsageError, match="closed form cannot train the temporal model of face"):
        made("ridge", {"visual": "tcn"})
    assert made("ridge").inputs.dims == {"face": 6, "voice": 5, "words": 12}  # side by side: it is linear in them


def test_a_recipe_names_models_of_time(toy_cache, tmp_path):
    (tmp_path / "r.toml").write_text(
        '[train]\nhead = "concat"\ntemporal = { visual = "tcn" }\ntemporal_options = { width = 16, causal = false }\n'
    )
    recipe = train_recipe(toy_cache.root, tmp_path / "r.toml", {"temporal": {"voice": "gru"}})
    head = make_head(recipe, protocol_of(recipe), (FACE, VOICE))
    assert head.head.inputs.dims == {"face": 16, "voice": 16}
    assert head.temporal["face"].blocks[0].pad == (2, 2)
    with pytest.raises(ConfigError, match=r"temporal\.visual = 'tnc'"):
        train_recipe(toy_cache.root, tmp_path / "r.toml", {"temporal": {"visual": "tnc"}})
    with pytest.raises(ConfigError, match="did you mean 'causal'"):
        train_recipe(toy_cache.root, tmp_path / "r.toml", {"temporal_options": {"casual": True}})


def test_a_run_trains_saves_and_repeats_its_temporal_models(toy_cache, tmp_path):
    plain = TrainRecipe("jca", toy_cache.root, runs=tmp_path, **SMALL, stride=4)
    recipe = replace(plain, temporal={"visual": "tcn", "audio": "gru"}, temporal_options=TemporalOptions(width=8))
    a, b = run_train(recipe, quiet=True), run_train(recipe, quiet=True)
    assert a.evaluations == b.evaluations
    assert run_train(plain, quiet=True).folder != a.folder


def test_a_row_of_a_table_has_temporal_models_of_its_own(toy_cache, tmp_path):
    rows = [
        {"label": h, "head": "concat", "set": {"temporal": {"visual": t}}} for h, t in (("a", "none"), ("b", "tcn"))
    ]
    grid = {"cache": toy_cache.root, "runs": tmp_path, "seeds": 1, "rows": rows, "train": {**SMALL, "epochs": 1}}
    plain, fronted_ = run_ablate(build(AblateRecipe, grid), quiet=True)
    assert fronted_.parameters > plain.parameters


def test_the_flag_is_repeatable_and_says_what_is_wrong_with_it(toy_cache, tmp_path):
    command = ["train-fusion", "--head", "concat", "--cache", str(toy_cache.root), "--epochs", "1", "--tokens", "16"]
    command += ["--set", f"runs={tmp_path}", "--set", "temporal_options.width=8", "--quiet"]
    done = CliRunner().invoke(cli.app, [*command, "--temporal", "visual=gru", "--temporal", "voice=tcn"])
    assert done.exit_code == 0, done.output
    for wrong in ("visual", "visual=tnc", "vision=tcn"):
        assert CliRunner().invoke(cli.app, [*command, "--temporal", wrong]).exit_code == 2


def test_a_cache_tells_how_many_layers_a_stream_holds(tmp_path):
    cache = FeatureCache.create(tmp_path / "cache", "toy")
    layered = {"options": {"layers": [6, 9, 12], "layer_dim": 4}}
    spec = cache.declare("hubert", "audio", 12, layered, {})
    cache.timelines.write("r", Timeline(np.arange(4) / 25, 0.2))
    cache.write(spec.key, "r", Aligned(np.ones((4, 12), np.float32), np.ones(4, bool)))
    assert cache.resolve("hubert").layers == spec.layers == 3
    assert cache.declare("plain", "audio", 12, {"options": {"layer": 6}}, {}).layers == 1
    recipe = TrainRecipe("concat", cache.root)
    assert make_head(recipe, protocol_of(recipe), (spec,)).head.inputs.dims == {"hubert": 4}
