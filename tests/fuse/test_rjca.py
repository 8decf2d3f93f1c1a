"""RJCA is JCA's equations over again with the same weights, between BiLSTMs that see only what is there."""

import math

import pytest
import torch

from cache.errors import UsageError
from cache.records import StreamSpec
from fuse.feeding.batch import HeadInputs
from fuse.heads._recurrent import Recurrent
from fuse.heads.jca import JCA
from fuse.heads.rjca import RJCA

B, L = 2, 5
DIMS = {"face": 6, "voice": 3, "words": 4}
BARE = {"stream_lstm": False, "joint_lstm": False}


def build(n=2, cls=RJCA, **options):
    torch.manual_seed(0)
    streams = tuple(StreamSpec(m, "visual", d) for m, d in list(DIMS.items())[:n])
    small = {"width": 4, "k": 3, "hidden": 6} | options
    return cls(HeadInputs(streams, L), cls.Config(**small)).eval().double()


def batch(n=2):
    g = torch.Generator().manual_seed(1)
    x = {m: torch.randn(B, L, DIMS[m], generator=g, dtype=torch.float64) for m in list(DIMS)[:n]}
    return x, {m: torch.rand(B, L, generator=g) > 0.3 for m in x}, torch.ones(B, L, dtype=torch.bool)


def start(head, x, seen):
    """X^(0) of every stream: encoded, zero where not seen, each token of length 1."""
    out = {}
    for m, v in x.items():
        e = head.encoder[m](v) * seen[m].unsqueeze(-1)
        out[m] = e / e.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    return out


def paper_step(step, x):
    """C, H and X^(r) of one window as printed, x[m]: L x d_m."""
    joint = torch.cat(list(x.values()), dim=1)
    out = {}
    for m, v in x.items():
        c = torch.tanh(v.t() @ step.W_j[m] @ joint / math.sqrt(joint.shape[1]))
        h = torch.relu(step.W[m] @ v + step.W_c[m] @ c.t())
        out[m] = step.W_h[m] @ h + v
    return out


def code_step(step, x):
    """The released layer on one window; its dropouts are off."""
    joint = torch.cat(list(x.values()), dim=1) @ step.W_q.weight.t() + step.W_q.bias
    out = {}
    for m, v in x.items():
        key = step.W_key[m].weight @ v + step.W_key[m].bias[:, None]  # mixes time: L x d_m
        c = torch.tanh(key.t() @ joint / math.sqrt(joint.shape[1]))
        h = torch.relu(torch.tanh(step.W_val[m](v) @ c))
        out[m] = v + torch.relu(step.W_o[m](h))
    return out


@pytest.mark.parametrize("block", ["paper", "code"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("recursions", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_recursion_equals_a_loop_over_windows_and_steps(n, recursions, shared, block):
    head = build(n, recursions=recursions, share_weights=shared, block=block, **BARE)
    assert len(head.steps) == (1 if shared else recursions)
    x, seen, real = batch(n)
    got = head(x, seen, real)
    first = start(head, x, seen)
    for b in range(B):
        now = {m: v[b] for m, v in first.items()}
        for r in range(recursions):
            step = head.steps[0 if shared else r]
            now = {m: v * seen[m][b].unsqueeze(-1) for m, v in now.items()}
            now = (paper_step if block == "paper" else code_step)(step, now)
        want = head.regressor(torch.cat(list(now.values()), dim=1))
        torch.testing.assert_close(got[b], want, atol=1e-6, rtol=0)


def lstm_by_steps(rnn, start, x):
    """A bidirectional LSTM of several layers over the rows of x, cell by cell."""
    for layer in range(rnn.num_layers):
        sides = []
        for way, tail in enumerate(("", "_reverse")):
            w_ih, w_hh, b_ih, b_hh = (
                getattr(rnn, f"{part}_l{layer}{tail}") for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            h, c = (s[2 * layer + way] for s in start)
            rows = []
            for v in x if way == 0 else reversed(x):
                i, f, g, o = (w_ih @ v + b_ih + w_hh @ h + b_hh).chunk(4)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                rows.append(h)
            sides.append(rows if way == 0 else rows[::-1])
        x = [torch.cat(both) for both in zip(*sides, strict=True)]
    return x


@pytest.mark.parametrize("learned", [True, False])
def test_recurrent_runs_over_seen_tokens_only(learned):
    torch.manual_seed(0)
    lstm = Recurrent("lstm", 3, 6, layers=2, dropout=0.5, both=True, learned_start=learned).eval().double()
    x = torch.randn(4, 7, 3, dtype=torch.float64)
    seen = torch.rand(4, 7) > 0.4
    seen[2] = False
    seen[3] = True
    got = lstm(x, seen)
    state = list(lstm.start) if learned else [torch.zeros(4, 3, dtype=torch.float64)] * 2
    for b in range(4):
        assert (got[b, ~seen[b]] == 0).all()
        if seen[b].any():
            want = torch.stack(lstm_by_steps(lstm.rnn, state, list(x[b, seen[b]])))
            torch.testing.assert_close(got[b, seen[b]], want, atol=1e-10, rtol=0)


def test_bilstms_stand_before_and_after_the_recursion():
    head = build(2)
    x, seen, real = batch()
    seen["face"][1, 2] = seen["voice"][1, 2] = False  # a token that no BiLSTM steps over
    first = start(head, x, seen)
    for m, v in first.items():
        h = head.lstm[m].merge(torch.cat([v, head.lstm[m].lstm(v, seen[m])], -1))
        first[m] = h / h.norm(dim=-1, keepdim=True) * seen[m].unsqueeze(-1)
    attended = torch.cat(list(head.recurse(first, seen).values()), -1)
    either = seen["face"] | seen["voice"]
    joint = head.joint(attended, either)
    joint = joint / joint.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    torch.testing.assert_close(head(x, seen, real), head.regressor(joint), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("cls", "options"), [(JCA, {}), (RJCA, BARE)])
def test_the_dynamic_gate_chooses_between_a_stream_and_its_attended_self(cls, options):
    head = build(3, cls, dca=True, **options)
    x, seen, real = batch(3)
    seen["voice"][0] = seen["words"][0] = False  # in window 0 nobody speaks to the face
    open_ = build(3, cls, **options)
    open_.load_state_dict({k: v for k, v in head.state_dict().items() if not k.startswith("gate")})
    caught = {}
    open_.regressor.register_forward_pre_hook(lambda _, args: caught.update(joint=args[0]))
    head.regressor.register_forward_pre_hook(lambda _, args: caught.update(gated=args[0]))
    open_(x, seen, real), head(x, seen, real)
    first = start(head, x, seen)
    if cls is JCA:
        first = {m: head.encoder[m](v) * seen[m].unsqueeze(-1) for m, v in x.items()}
    for i, m in enumerate(DIMS):
        at = slice(4 * i, 4 * i + 4)
        for b, t in ((b, t) for b in range(B) for t in range(L)):
            attended = caught["joint"][b, t, at]
            g = (head.gate.W_g[m](attended) / 0.1).softmax(0)
            if b == 0 and m == "face":
                g = torch.tensor([1.0, 0.0])
            want = torch.relu(g[0] * first[m][b, t] + g[1] * attended)
            torch.testing.assert_close(caught["gated"][b, t, at], want, atol=1e-9, rtol=0)


def test_unusable_options_are_refused():
    with pytest.raises(UsageError, match="recursions=0"):
        build(recursions=0)
    with pytest.raises(UsageError, match="an even width"):
        build(width=5)
    with pytest.raises(UsageError, match="needs 2 streams"):
        build(1, dca=True)
    with pytest.raises(UsageError, match="gate_temperature must be above 0, got 0"):
        build(2, dca=True, gate_temperature=0.0)
