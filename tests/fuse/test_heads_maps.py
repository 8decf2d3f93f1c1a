"""Attention maps are what a head's own equations weigh by: put back into these, they give what the head attends to."""

import pytest
import torch

from cache.records import StreamSpec
from fuse.feeding.batch import HeadInputs
from fuse.heads import HEADS, visible
from fuse.heads._additive import AdditiveAttention
from fuse.heads._attention import attend, attention_weights
from fuse.heads._base import look
from fuse.heads._block import keep
from fuse.heads._maps import calls
from fuse.heads.cross_attention import reweigh, unit
from fuse.temporal import TemporalOptions, fronted

B, L = 3, 7
DIMS = {"face": 6, "voice": 5, "words": 4}
WITHOUT = {"concat", "late", "linear", "lstm", "ridge", "tcn", "unimodal"}


def built(name, streams=3, temporal=None, **options):
    torch.manual_seed(0)
    cls = HEADS.get(name)
    kinds = ("visual", "audio", "text")
    specs = tuple(StreamSpec(m, k, DIMS[m]) for m, k in list(zip(DIMS, kinds, strict=True))[:streams])
    front = TemporalOptions(width=8, heads=2, layers=2)
    return fronted(cls, cls.Config(**options), HeadInputs(specs, L), temporal or {}, front).eval()


def given(streams=3):
    g = torch.Generator().manual_seed(1)
    names = list(DIMS)[:streams]
    real = torch.ones(B, L, dtype=torch.bool)
    real[-1, -2:] = False
    present = {m: torch.rand(B, L, generator=g) > 0.3 for m in names}
    return {m: torch.randn(B, L, DIMS[m], generator=g) for m in names}, present, real


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def of(maps, stage):
    return {(one.query, *one.keys): one.weights for one in maps if one.stage == stage}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [1, 4])
def test_weights_of_dot_products_are_those_of_torch(heads, causal):
    g = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, B, L, 8, generator=g)
    keys = torch.rand(B, L, generator=g) > 0.4
    keys[0] = False
    weights = attention_weights(q, k, keys, heads, causal)
    values = v.unflatten(-1, (heads, -1)).transpose(1, 2)
    close((weights @ values).transpose(1, 2).flatten(2), attend(q, k, v, keys, heads, causal))


def test_maven_shows_its_paths_its_streams_and_its_refiner():
    head, inputs = built("maven", d=16, heads=1, d_proj=24, d_att=8, refiner_residual=False), given()
    maps = look(head, *inputs)
    cross = of(maps, "cross-attention")
    assert len(cross) == 6
    with calls(head.cross) as found, torch.no_grad():
        head(*inputs)
    (_, (f, seen)) = found[0]
    for (m, n), weights in cross.items():
        q, k, v = head.cross.W_Q[m](f[m]), head.cross.W_K[n](f[n]), head.cross.W_V[n](f[n])
        close(weights @ v, keep(attend(q, k, v, seen[n], 1), seen[m]))
    assert list(of(maps, "self-attention")) == [(m, m) for m in DIMS]
    with calls(*head.refiner) as found, torch.no_grad():
        head(*inputs)
    for i, (layer, (h, keys)) in enumerate(found):
        [weights] = of(maps, f"refiner, layer {i + 1}").values()
        close(weights @ h, keep(layer(h, keys), keys))
    assert not of(look(built("maven", 1, d=16, d_proj=24), *given(1)), "cross-attention")


def test_self_attention_shows_what_it_sums():
    head, inputs = built("maven", d=16, heads=1, d_proj=24, refiner="transformer"), given()
    maps = look(head, *inputs)
    layers = [r.attention for r in head.refine.values()] + [layer.attention for layer in head.refiner]
    own = [one.weights for one in maps if one.stage != "cross-attention"]
    with calls(*layers) as found, torch.no_grad():
        head(*inputs)
    for (layer, (x, keys)), weights in zip(found, own, strict=True):
        v = layer.qkv(x).chunk(3, dim=-1)[2]
        close(keep(layer.out(weights @ v), keys), keep(layer(x, keys), keys))


def test_additive_weights_are_those_of_its_own_sum():
    layer, g = AdditiveAttention(6, 4, residual=False), torch.Generator().manual_seed(0)
    h, keys = torch.randn(B, L, 6, generator=g), torch.rand(B, L, generator=g) > 0.3
    close(layer.weights(h, keys) @ h, keep(layer(h, keys), keys))


@pytest.mark.parametrize("streams", [1, 3])
def test_cross_attention_shows_which_moments_of_a_stream_another_one_picks(streams):
    head, (x, present, real) = built("cross-attention", streams, temperature=0.1), given(streams)
    x, seen = visible(x, present, real)
    x = unit(x)
    cross = of(look(head, x, present, real), "cross-attention")
    assert len(cross) == (6 if streams == 3 else 1)
    for m, n, z in head.correlations(x):
        close(cross[n, m] @ x[m], reweigh(x[m], z, seen[m], seen[n]))


def test_leader_follower_shows_on_which_streams_each_one_looks():
    head, inputs = built("leader-follower", width=16, d_k=8, levels=2), given()
    maps = look(head, *inputs)
    with calls(head.attention) as found, torch.no_grad():
        head(*inputs)
    [(across, (x, seen))] = found
    v = torch.stack([keep(across.v[m](x[m]), seen[m]) for m in DIMS], dim=2)  # [B,L,M,d_k]
    attended = [(one.weights.unsqueeze(2) @ v).squeeze(2) + v[:, :, i] for i, one in enumerate(maps)]
    want = [keep(across.norm[m](f), seen[m]) for m, f in zip(DIMS, attended, strict=True)]
    close(torch.cat(want, dim=-1), across(x, seen))
    assert not look(built("leader-follower", 1), *given(1))


def test_can_shows_the_mean_of_the_weights_by_which_features_pass():
    head, (x, present, real) = built("can", width=16), given()
    [shown] = look(head, x, present, real)
    x, seen = visible(x, present, real)
    p = head.streams(x, seen)
    weights = head.weights(head.W, p, seen)  # [B,L,M,width]
    close((weights * p).flatten(2), head.fuse(x, seen))
    close(shown.weights, weights.mean(dim=-1))
    assert not look(built("can", 1), *given(1))


def test_jca_shows_its_joint_correlation_and_no_weights():
    head, (x, present, real) = built("jca", width=12, k=5), given()
    maps = look(head, x, present, real)
    assert {one.over for one in maps} == {"features"}
    blocks = of(maps, "joint correlation")
    x, seen = visible(x, present, real)
    x = head.encoder(x, seen)
    c = {m: torch.cat([blocks[m, n] for n in DIMS], dim=-1) for m in DIMS}
    attended = [(torch.relu(x[m].mT @ head.W[m].mT + c[m] @ head.W_c[m].mT) @ head.W_h[m].mT).mT + x[m] for m in DIMS]
    close(head.regressor(torch.cat(attended, dim=-1)), head(*given()))


def test_rjca_shows_every_recursion_and_its_gate():
    plain = {"width": 12, "k": 5, "stream_lstm": False, "joint_lstm": False}
    head, (x, present, real) = built("rjca", recursions=3, dca=True, **plain), given()
    maps = look(head, x, present, real)
    assert [len(of(maps, f"joint correlation, recursion {r + 1}")) for r in range(3)] == [9] * 3
    with calls(head.gate, *head.steps) as found, torch.no_grad():
        head(x, present, real)
    *steps, (gate, (first, attended, seen)) = found
    after = [given for _, (given,) in steps][1:]
    for r, (step, (before,)) in enumerate(steps[:2]):
        blocks = of(maps, f"joint correlation, recursion {r + 1}")
        for m in DIMS:
            c = torch.cat([blocks[m, n] for n in DIMS], dim=-1)
            h = torch.relu(before[m].mT @ step.W[m].mT + c @ step.W_c[m].mT)
            close(keep((h @ step.W_h[m].mT).mT + before[m], seen[m]), after[r][m])
    gated = gate(first, attended, seen)
    for (m, *_), g in of(maps, "gate").items():
        mixed = torch.relu(g[..., :1] * first[m] + g[..., 1:] * attended[m])
        close(mixed, keep(gated[m], seen[m]))


def test_the_released_block_of_rjca_correlates_with_features_of_no_one_stream():
    head = built("rjca", block="code", width=12, stream_lstm=False, joint_lstm=False)
    maps = look(head, *given())
    assert {one.keys for one in maps} == {("all streams",)}
    with calls(*head.steps) as found, torch.no_grad():
        head(*given())
    step, (x,) = found[0]
    h = {m: torch.relu(torch.tanh(step.W_val[m](x[m]) @ maps[i].weights)) for i, m in enumerate(DIMS)}
    after = {m: x[m] + torch.relu(step.W_o[m](h[m])) for m in DIMS}
    close(torch.cat(list(after.values()), -1), torch.cat(list(step(x).values()), -1))


def test_transformers_before_a_head_are_shown_and_are_causal():
    head = built("concat", temporal={"audio": "transformer", "text": "gru"})
    maps = look(head, *given())
    assert [(one.stage, one.query) for one in maps] == [(f"transformer, layer {i}", "voice") for i in (1, 2)]
    assert all((one.weights.triu(1) == 0).all() for one in maps)


def test_heads_without_attention_show_none():
    for name in WITHOUT:
        streams = 1 if name == "unimodal" else 3
        assert look(built(name, streams), *given(streams)) == []
