"""What every head of the registry must do, for every number of streams. A new head is tested by existing."""

import dataclasses
import io
import math

import pytest
import torch

from cache.errors import UsageError
from cache.records import StreamSpec
from fuse.feeding.batch import HeadInputs
from fuse.heads import HEADS, Head
from fuse.heads._base import OutputConfig, look
from fuse.heads._regressor import Regressor
from fuse.losses import LOSSES
from fuse.temporal import TemporalOptions, fronted

B, L = 3, 6
DIMS = {"face": 10, "voice": 7, "words": 9, "pose": 5}
MODALITY = {"face": "visual", "voice": "audio", "words": "text", "pose": "visual"}
ONE_STREAM_ONLY = {"unimodal"}
ONE_STREAM_NEVER = {"jca+dca", "rjca+dca"}
SMALL = {  # fewer numbers where the shipped widths would only make the tests slow; no dropout-free special cases
    "maven": {"d": 16, "d_proj": 24, "d_att": 8},
    "jca": {"width": 12, "k": 5, "hidden": 16},
    "rjca": {"width": 12, "k": 5, "hidden": 16},
    "cross-attention": {"hidden": 16},
    "leader-follower": {"width": 16, "d_k": 8, "levels": 2},
    "can": {"width": 16},
    "late": {"hidden": 32},
    "lstm": {"width": 16},
    "tcn": {"width": 16, "levels": 2},
}
VARIANTS = {  # options under which a head is another model
    "jca+dca": {"dca": True},
    "rjca+dca": {"dca": True, "joint_lstm": False, "stream_lstm": False},
    "rjca+code": {"block": "code", "share_weights": False},
    "leader-follower+heads": {"heads": 2},
    "lstm+both": {"both": True, "layers": 2},
    "tcn+centred": {"causal": False},
}
JUNK = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e30])
FRONTED = {  # heads behind models of time, by modality, and their causality
    "concat+gru": ({"visual": "gru"}, True),
    "concat+transformer": ({"visual": "transformer", "voice": "transformer"}, True),
    "jca+tcn": ({"visual": "tcn", "audio": "tcn"}, True),
    "rjca+gru": ({"face": "gru", "text": "lstm"}, True),
    "maven+lstm": ({"visual": "lstm", "voice": "tcn"}, False),
    "late+transformer": ({"visual": "transformer", "text": "gru"}, False),
    "linear+layers": ({"audio": "tcn"}, False),
}
CASES = [(name, n) for name in HEADS.names() for n in (1, 2, 3, 4) if n == 1 or name not in ONE_STREAM_ONLY]
CASES += [(name, n) for name in (*VARIANTS, *FRONTED) for n in (1, 3) if n > 1 or name not in ONE_STREAM_NEVER]
every_head = pytest.mark.parametrize(("name", "n"), CASES, ids=[f"{name}-{n}" for name, n in CASES])


def class_of(name):
    return HEADS.get(name.partition("+")[0])


def build(name, n, tokens=L, seed=0, **options):
    """The head of that name over n streams; behind what FRONTED names, and there 'face' and 'words' have layers."""
    layers = {"face": 2, "words": 3} if name in FRONTED else {}
    streams = tuple(StreamSpec(s, MODALITY[s], DIMS[s], layers=layers.get(s, 1)) for s in list(DIMS)[:n])
    cls = class_of(name)
    cfg = cls.Config(**SMALL.get(name.partition("+")[0], {}) | VARIANTS.get(name, {}) | options)
    temporal, causal = FRONTED.get(name, ({}, True))
    temporal = {k: v for k, v in temporal.items() if k not in DIMS or k in list(DIMS)[:n]}
    torch.manual_seed(seed)
    front = TemporalOptions(width=8, heads=2, layers=2, causal=causal)
    return fronted(cls, cfg, HeadInputs(streams, tokens), temporal, front).eval()


def batch(n, tokens=L, seed=0):
    """Features, presence with holes, and a last window that ends in two tokens of padding."""
    g = torch.Generator().manual_seed(seed)
    names = list(DIMS)[:n]
    present = {m: torch.rand(B, tokens, generator=g) > 0.3 for m in names}
    for i, m in enumerate(names):
        present[m][:, i] = True
        present[m][:, -3] = True
    real = torch.ones(B, tokens, dtype=torch.bool)
    real[-1, -2:] = False
    x = {m: torch.randn(B, tokens, DIMS[m], generator=g) * present[m].unsqueeze(-1) for m in names}
    return x, present, real


def states(present, real):
    """Every way in which streams can be there: all seen, with holes, one never seen, none ever seen."""
    last, never = list(present)[-1], torch.zeros_like(real)
    return {
        "all present": dict.fromkeys(present, torch.ones_like(real)),
        "partly absent": present,
        "one absent everywhere": present | {last: never},
        "all absent everywhere": dict.fromkeys(present, never),
    }


def junk(shape):
    """NaN, both infinities and 1e30 in turn."""
    return JUNK.repeat(math.prod(shape))[: math.prod(shape)].view(shape)


def spoil(x, where):
    """x with junk stored where told; ``where`` [B,L] per stream."""
    return {m: torch.where(where[m].unsqueeze(-1), junk(v.shape), v) for m, v in x.items()}


def has_space(name):
    """Whether a head ends in a Regressor; a user's own need not, and ridge is solved for the labels themselves."""
    return issubclass(class_of(name).Config, OutputConfig)


def regressors(head):
    return [m for m in head.modules() if isinstance(m, Regressor)]


def step(head, x, present, real):
    """Gradients of a plain squared error on real tokens, by parameter name."""
    g = torch.Generator().manual_seed(9)
    target = torch.rand(*real.shape, 2, generator=g)
    out = head(x, present, real)
    head.zero_grad()
    (out - target)[real].square().sum().backward()
    return {k: p.grad for k, p in head.named_parameters()}


@every_head
def test_output_is_two_float32_columns_per_token(name, n):
    head = build(name, n)
    x, present, real = batch(n)
    out = head(x, present, real)
    assert out.shape == (B, L, 2)
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = head(x, present, real)
    assert half.isfinite().all()


@every_head
def test_pitfall_22_every_parameter_receives_a_gradient(name, n):
    x, present, real = batch(n)
    for there in (present, dict.fromkeys(present, torch.ones_like(real))):
        grads = step(build(name, n), x, there, real)
        silent = [k for k, g in grads.items() if g is None or not g.abs().max() > 1e-9]
        assert silent == []


@every_head
def test_pitfall_22_what_is_left_goes_on_learning_when_a_stream_is_gone(name, n):
    """Parameters that get no gradient then are the stream's own: without it, nothing else falls silent."""
    x, partly, real = batch(n)
    if n == 1:
        return  # nothing is left
    for gone in x:
        grads = step(build(name, n), x, partly | {gone: torch.zeros_like(real)}, real)
        assert all(g is None or g.isfinite().all() for g in grads.values())
        learning = [k for k, g in grads.items() if g is not None and g.abs().max() > 1e-9]
        alone = {m: [k for k in learning if f".{m}." in f".{k}."] for m in x if m != gone}
        named = {m for m in x if any(f".{m}." in f".{k}." for k in grads)}
        assert learning
        assert all(alone[m] for m in alone if m in named), gone


@every_head
def test_pitfall_22_every_stream_changes_the_output(name, n):
    head = build(name, n)
    x, present, real = batch(n)
    before = head(x, present, real)
    other = batch(n, seed=5)[0]
    for m in x:
        changed = x | {m: torch.where(present[m].unsqueeze(-1), other[m] + 1, x[m])}
        assert (head(changed, present, real) - before)[real].abs().max() > 1e-6, m


@every_head
def test_values_of_absent_tokens_change_nothing(name, n):
    head = build(name, n)
    x, partly, real = batch(n)
    for state, present in states(partly, real).items():
        spoilt = spoil(x, {m: ~p for m, p in present.items()})
        assert torch.equal(head(x, present, real), head(spoilt, present, real)), state
        clean, dirty = step(head, x, present, real), step(head, spoilt, present, real)
        for k in clean:
            assert (clean[k] is dirty[k] is None) or torch.equal(clean[k], dirty[k]), (state, k)


@every_head
def test_values_of_a_stream_absent_everywhere_change_nothing(name, n):
    head = build(name, n)
    x, present, real = batch(n)
    for m in x:
        gone = present | {m: torch.zeros_like(real)}
        want = head(x, gone, real)
        assert want.isfinite().all()
        assert torch.equal(want, head(x | {m: junk(x[m].shape)}, gone, real))
    nothing = {m: torch.zeros_like(real) for m in x}
    assert torch.equal(head(x, nothing, real), head({m: junk(v.shape) for m, v in x.items()}, nothing, real))


@every_head
def test_padding_changes_no_real_output(name, n):
    head = build(name, n)
    x, partly, real = batch(n)
    spoilt = spoil(x, dict.fromkeys(x, ~real))
    for state, seen in states(partly, real).items():
        claims = {m: p | ~real for m, p in seen.items()}  # even where padding claims to be present
        assert torch.equal(head(x, claims, real)[real], head(spoilt, claims, real)[real]), state


@every_head
def test_appended_padding_changes_no_real_output(name, n):
    if class_of(name).fixed_length:
        return  # refuses another length; its own test says so
    head = build(name, n)
    x, partly, real = batch(n)
    longer = {m: torch.cat([v, v.new_full((B, 4, v.shape[-1]), 1e30)], 1) for m, v in x.items()}
    for present in states(partly, real).values():
        claims = {m: torch.cat([p, p.new_ones(B, 4)], 1) for m, p in present.items()}
        more = head(longer, claims, torch.cat([real, real.new_zeros(B, 4)], 1))
        torch.testing.assert_close(more[:, :L][real], head(x, present, real)[real], atol=1e-5, rtol=0)


@every_head
def test_windows_of_a_batch_do_not_see_each_other(name, n):
    head = build(name, n)
    x, present, real = batch(n)
    together = head(x, present, real)
    for i in range(B):
        alone = head(
            {m: v[i : i + 1] for m, v in x.items()}, {m: p[i : i + 1] for m, p in present.items()}, real[i:][:1]
        )
        torch.testing.assert_close(together[i : i + 1][real[i:][:1]], alone[real[i:][:1]], atol=1e-5, rtol=0)


@every_head
def test_all_absent_input_is_finite_forward_and_backward(name, n):
    head = build(name, n)
    x, present, real = batch(n)
    nothing = {m: torch.zeros_like(p) for m, p in present.items()}
    first = {m: p & (torch.arange(B) > 0).unsqueeze(-1) for m, p in present.items()}  # window 0 lacks everything
    for mask in (nothing, first):
        spoilt = spoil(x, {m: ~p for m, p in mask.items()})
        assert head(spoilt, mask, real).isfinite().all()
        assert all(g is None or g.isfinite().all() for g in step(head, spoilt, mask, real).values())
    assert head(x, present, torch.zeros_like(real)).isfinite().all()


@every_head
def test_gradients_into_the_features_are_finite(name, n):
    """Temporal models stand before a head and learn through it."""
    head = build(name, n)
    x, present, real = batch(n)
    x = {m: v.requires_grad_() for m, v in x.items()}
    head(x, present, real)[real].square().sum().backward()
    for m, v in x.items():
        assert v.grad.isfinite().all()
        assert v.grad[present[m] & real].abs().max() > 0
        assert (v.grad[~(present[m] & real)] == 0).all()


@every_head
def test_same_seed_same_bits(name, n):
    x, present, real = batch(n)
    outs = []
    for _ in range(2):
        head = build(name, n, seed=3).train()
        torch.manual_seed(4)
        outs.append(head(x, present, real))
    assert torch.equal(*outs)
    assert not torch.equal(build(name, n, seed=3)(x, present, real), build(name, n, seed=4)(x, present, real))


@every_head
def test_eval_mode_is_deterministic(name, n):
    head = build(name, n)
    x, partly, real = batch(n)
    for state, present in states(partly, real).items():
        assert torch.equal(head(x, present, real), head(x, present, real)), state


@every_head
def test_saved_weights_give_the_same_output(name, n):
    head, other = build(name, n, seed=1), build(name, n, seed=2)
    file = io.BytesIO()
    torch.save(head.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    x, partly, real = batch(n)
    for state, present in states(partly, real).items():
        assert torch.equal(head(x, present, real), other(x, present, real)), state


@every_head
def test_start_at_takes_the_training_mean_and_leaves_the_head_usable(name, n):
    head = build(name, n)
    head.start_at(torch.tensor([0.2, 0.1]))
    assert head(*batch(n)).isfinite().all()
    assert all(g.isfinite().all() for g in step(head, *batch(n)).values())


@every_head
def test_heads_with_an_output_space_start_at_the_training_mean_in_either(name, n):
    if not has_space(name):
        return
    for space in ("cartesian", "polar"):
        head = build(name, n, output_space=space)
        for mean in ((0.24, -0.2), (-0.3, 0.1)):
            for last in regressors(head):
                torch.nn.init.zeros_(last[-1].weight)
            head.start_at(torch.tensor(mean))
            x, present, real = batch(n)
            torch.testing.assert_close(head(x, present, real)[real], torch.tensor(mean).expand(int(real.sum()), 2))


@every_head
def test_pitfall_26_theta_plus_two_pi_changes_no_output(name, n):
    if not has_space(name):
        return
    head, turned = (build(name, n, output_space="polar") for _ in range(2))
    with torch.no_grad():
        for last in regressors(turned):
            last[-1].bias[1] += 2 * math.pi
    x, partly, real = batch(n)
    for present in states(partly, real).values():
        torch.testing.assert_close(turned(x, present, real), head(x, present, real), atol=1e-5, rtol=0)
    plain = build(name, n, output_space="cartesian")
    assert (head(x, partly, real) - plain(x, partly, real)).abs().max() > 1e-6


@every_head
def test_another_window_length_runs_or_is_refused_with_both_numbers(name, n):
    head = build(name, n)
    for tokens in (1, L - 1, L + 7):
        x, present, real = batch(n, tokens=max(tokens, 4))
        x, present = ({m: v[:, :tokens] for m, v in part.items()} for part in (x, present))
        if class_of(name).fixed_length:
            with pytest.raises(UsageError, match=f"windows of {L} tokens, got {tokens}"):
                head(x, present, real[:, :tokens])
        else:
            for seen in states(present, real[:, :tokens]).values():
                out = head(x, seen, real[:, :tokens])
                assert out.shape == (B, tokens, 2)
                assert out.isfinite().all()


@every_head
def test_training_mode_is_as_blind_to_absent_tokens_and_padding(name, n):
    """Statistics of a batch, and dropout, are no way round the masks."""
    head = build(name, n).train()
    x, present, real = batch(n)
    hidden = {m: ~(p & real) for m, p in present.items()}
    outs = []
    for features in (x, spoil(x, hidden)):
        torch.manual_seed(0)
        outs.append(head(features, present, real)[real])
    assert torch.equal(*outs)


@every_head
def test_heads_read_streams_by_name_not_by_position(name, n):
    head = build(name, n)
    x, present, real = batch(n)
    turned = {m: x[m] for m in reversed(x)}
    torch.testing.assert_close(head(x, present, real), head(turned, present, real))


def test_only_ridge_has_no_output_space():
    shipped = [n for n in HEADS.names() if HEADS.get(n).__module__.startswith("fuse.heads.")]
    assert [n for n in shipped if not has_space(n)] == ["ridge"]


@pytest.mark.parametrize("name", HEADS.names())
def test_options_are_a_frozen_dataclass_with_defaults(name):
    cls = HEADS.get(name)
    assert issubclass(cls, Head)
    with pytest.raises(dataclasses.FrozenInstanceError):
        cls.Config().anything = 1
    for f in dataclasses.fields(cls.Config):
        assert isinstance(f.default, int | float | bool | str), f.name
    assert cls.protocol.loss in LOSSES


@pytest.mark.parametrize("name", sorted(ONE_STREAM_ONLY))
def test_single_stream_heads_refuse_more(name):
    with pytest.raises(UsageError, match="exactly 1 stream, got 2: face, voice"):
        build(name, 2)


@every_head
def test_a_head_can_fit_what_its_streams_say(name, n):
    """Labels are a function of the features of each token; sixty steps must find most of it."""
    if name in FRONTED or n in (2, 4):
        return  # mixed layers and smoothed tokens are not the features themselves; and 1 and 3 streams are enough
    head = build(name, n)
    x, present, real = batch(n)
    va = torch.stack([sum(v[..., i] for v in x.values()) for i in (0, 1)], -1).tanh()
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-2, fused=True)
    for _ in range(60):
        loss = LOSSES["mse+ccc"](head(x, present, real), va, real, "batch")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert LOSSES["ccc"](head(x, present, real), va, real, "batch") < 0.2


@pytest.mark.parametrize(("name", "adapters"), [("jca", "encoder"), ("maven", "project")])
def test_the_bias_of_an_absent_stream_is_not_data(name, adapters):
    head = build(name, 3)
    x, present, real = batch(3)
    present["voice"] = torch.zeros_like(real)
    before = head(x, present, real)
    with torch.no_grad():
        getattr(head, adapters)["voice"].bias += 10
    assert torch.equal(head(x, present, real), before)


@every_head
def test_attention_maps_sum_to_one_over_what_is_there_and_show_nothing_else(name, n):
    head = build(name, n)
    x, partly, real = batch(n)
    for state, present in states(partly, real).items():
        seen = {m: p & real for m, p in present.items()}
        seen["all streams"] = torch.stack(list(seen.values())).any(dim=0)
        for one in look(head, x, present, real):
            assert one.weights.isfinite().all(), (state, one.stage)
            assert one.stage
            assert one.means
            if one.over == "features":
                assert one.weights.abs().max() <= 1
                continue
            if one.over == "time":
                assert one.weights.shape == (B, L, L)
                keys = seen[one.keys[0]].unsqueeze(1).expand(B, L, L)
            else:
                always = torch.ones_like(real)  # what is no stream, such as the two sides of a gate, is always there
                keys = torch.stack([seen.get(m, always) for m in one.keys], dim=-1)
            asked = seen[one.query] & keys.any(dim=-1)
            assert (one.weights >= 0).all()
            assert (one.weights[~keys] == 0).all(), (state, one.stage)
            torch.testing.assert_close(one.weights.sum(dim=-1), asked.float(), atol=1e-5, rtol=0)


@every_head
def test_looking_at_a_head_changes_nothing(name, n):
    x, present, real = batch(n)
    looked, other = build(name, n).train(), build(name, n).train()
    noise = torch.get_rng_state()
    first = look(looked, x, present, real)
    assert torch.equal(noise, torch.get_rng_state())
    assert all(module.training for module in looked.modules())
    assert looked.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in looked.state_dict().items())
    results = []
    for head in (looked, other):
        torch.manual_seed(4)
        results.append(step(head, x, present, real))
    assert all(torch.equal(g, results[1][k]) for k, g in results[0].items() if g is not None)
    assert not any(one.weights.requires_grad for one in first)
