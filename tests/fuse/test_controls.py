"""The controls: late fusion averages, linear is linear, ridge is scikit-learn, models of time look where they say."""

import numpy as np
import pytest
import torch
from sklearn import linear_model

from cache.errors import ConfigError, UsageError
from cache.records import StreamSpec
from fuse.closed import first_time
from fuse.feeding.batch import Batch, HeadInputs
from fuse.feeding.data import open_partition, open_test
from fuse.feeding.snapshot import take_snapshot
from fuse.feeding.streams import choose_streams
from fuse.feeding.windows import make_windows
from fuse.heads import HEADS
from fuse.heads.ridge import triangular
from fuse.recipe import TrainRecipe
from fuse.train import run_train

B, T = 2, 8
DIMS = {"face": 6, "voice": 3, "words": 4}


def build(name, n=2, dims=None, **options):
    torch.manual_seed(0)
    streams = tuple(StreamSpec(m, "visual", d) for m, d in (dims or dict(list(DIMS.items())[:n])).items())
    cls = HEADS.get(name)
    return cls(HeadInputs(streams, T), cls.Config(**options)).eval()


def batch(n=2):
    g = torch.Generator().manual_seed(1)
    x = {m: torch.randn(B, T, DIMS[m], generator=g) for m in list(DIMS)[:n]}
    return x, {m: torch.rand(B, T, generator=g) > 0.4 for m in x}, torch.ones(B, T, dtype=torch.bool)


# -- late ---------------------------------------------------------------------------------------------------------


def alone(head, m, x, seen, b, t):
    row = torch.cat([x[m][b, t] * seen[m][b, t], seen[m][b, t].float()[None]])
    return head.of[m](row)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_late_fusion_is_the_mean_over_the_streams_that_are_seen(n):
    head = build("late", n)
    x, seen, real = batch(n)
    for m in x:
        seen[m][1, 3] = False
    got = head(x, seen, real)
    for b, t in ((b, t) for b in range(B) for t in range(T)):
        heard = [m for m in x if seen[m][b, t]] or list(x)
        want = sum(alone(head, m, x, seen, b, t) for m in heard) / len(heard)
        torch.testing.assert_close(got[b, t], want, atol=1e-6, rtol=0)


def test_late_fusion_trains_each_stream_on_its_own_errors():
    head = build("late", 3, dropout=0.0).train()
    x, seen, real = batch(3)
    seen = dict.fromkeys(x, real)
    answered = set()
    for seed in range(12):
        torch.manual_seed(seed)
        head.zero_grad(set_to_none=True)
        out = head(x, seen, real)
        out.square().sum().backward()
        learning = [m for m in x if head.of[m][0].weight.grad.abs().max() > 0]
        assert len(learning) == 1
        torch.testing.assert_close(out[0, 0], alone(head, learning[0], x, seen, 0, 0))
        answered.update(learning)
    assert answered == set(x)
    jointly = build("late", 3, train="jointly").train()
    jointly(x, seen, real).square().sum().backward()
    assert all(jointly.of[m][0].weight.grad.abs().max() > 0 for m in x)


# -- linear -------------------------------------------------------------------------------------------------------


def test_a_linear_head_on_ten_numbers_has_twenty_two_parameters():
    assert sum(p.numel() for p in build("linear", dims={"scores": 10}).parameters()) == 22


@pytest.mark.parametrize("tanh", [True, False])
def test_linear_is_one_matrix_over_all_streams(tanh):
    head = build("linear", tanh=tanh)
    x, seen, real = batch()
    joint = torch.cat([x[m] * seen[m].unsqueeze(-1) for m in x], -1)
    want = joint @ head.regressor[-1].weight.T + head.regressor[-1].bias
    torch.testing.assert_close(head(x, seen, real), want.tanh() if tanh else want)


# -- lstm, tcn ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options", "before", "after"), [
    ("lstm", {}, 20, 0), ("lstm", {"both": True}, 20, 19),
    ("tcn", {"levels": 2}, 20, 0), ("tcn", {"levels": 2, "kernel": 3}, 12, 0),
    ("tcn", {"levels": 2, "kernel": 3, "causal": False}, 6, 6),
])  # fmt: skip
def test_models_of_time_look_where_they_say(name, options, before, after):
    head = build(name, 1, **options)
    x = {"face": torch.randn(1, 40, 6, requires_grad=True)}
    real = torch.ones(1, 40, dtype=torch.bool)
    head(x, {"face": real}, real)[0, 20].sum().backward()
    touched = x["face"].grad[0].abs().sum(-1).nonzero().flatten()
    assert (20 - int(touched.min()), int(touched.max()) - 20) == (before, after)


def test_lstm_is_torchs_between_its_linears():
    head = build("lstm", 2, width=6)
    x, seen, real = batch()
    parts = [torch.cat([x[m] * seen[m].unsqueeze(-1), seen[m].unsqueeze(-1).float()], -1) for m in x]
    h = torch.cat(parts, -1) @ head.project.weight.T
    assert head.project.bias is None
    torch.testing.assert_close(head(x, seen, real), head.regressor(head.lstm.rnn(h)[0]))


def test_odd_widths_cannot_go_both_ways():
    with pytest.raises(UsageError, match="width=7"):
        build("lstm", both=True, width=7)


# -- ridge --------------------------------------------------------------------------------------------------------


def rows(count, seed=0):
    g = np.random.default_rng(seed)
    x = g.normal(size=(count, 9)) @ g.normal(size=(9, 9)) + g.normal(size=9)
    return x, x[:, :2] * 0.3 + g.normal(size=(count, 2)) * 0.2 + 0.4


def as_batches(x, y, size=50):
    for at in range(0, len(x), size):
        here, va = (torch.from_numpy(v[at : at + size]).float().unsqueeze(0) for v in (x, y))
        mask = torch.ones(here.shape[:2], dtype=torch.bool)
        parts = {"face": here[..., :6], "voice": here[..., 6:]}
        yield Batch(parts, dict.fromkeys(parts, mask), mask, mask, va, torch.zeros(1), torch.zeros(1, len(mask)))


@pytest.mark.parametrize("alpha", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("count", [6, 300])
def test_ridge_equals_scikit_learn_on_all_rows(count, alpha):
    if count < 9 and alpha == 0:
        return  # has no single answer
    x, y = rows(count)
    head = build("ridge", alpha=alpha)
    head.solve(as_batches(x, y))
    want = linear_model.Ridge(alpha * count).fit(x, y)
    np.testing.assert_allclose(head.linear.weight.detach(), want.coef_, atol=2e-5)
    np.testing.assert_allclose(head.linear.bias.detach(), want.intercept_, atol=2e-5)


def test_the_triangular_factor_does_not_depend_on_the_blocks():
    x, _ = rows(500)
    whole = triangular([x], 9)
    for size in (1, 7, 500):
        r = triangular([x[i : i + size] for i in range(0, 500, size)], 9)
        np.testing.assert_allclose(r.T @ r, whole.T @ whole, rtol=1e-9)


@pytest.mark.parametrize("count", [0, 1])
def test_ridge_needs_two_labelled_frames(count):
    with pytest.raises(UsageError, match=f"at least 2 labelled frames to train on, got {count}"):
        build("ridge").solve(as_batches(*rows(count)))


def test_negative_penalties_are_refused():
    with pytest.raises(UsageError, match="alpha is -1"):
        build("ridge", alpha=-1.0)


@pytest.mark.parametrize(("lengths", "stride", "hop"), [([50, 3, 17], 1, 5), ([50, 3, 17], 4, 8), ([8, 9], 1, 8)])
def test_every_frame_counts_once(lengths, stride, hop):
    windows = make_windows(lengths, 8, stride, hop)
    first = first_time(windows)
    assert first.sum() == sum(lengths)
    where = np.broadcast_to(windows.recording[:, None], first.shape)[first], windows.frame[first]
    assert len(set(zip(*where, strict=True))) == sum(lengths)
    assert (windows.frame[first] >= 0).all()


def test_a_run_of_ridge_is_scikit_learn_on_the_training_partition(toy_cache, tmp_path):
    recipe = TrainRecipe("ridge", toy_cache.root, runs=tmp_path, tokens=32, hop=10)
    result = run_train(recipe, quiet=True)
    again = run_train(recipe, quiet=True)
    assert result.epochs == 1
    assert result.evaluations == again.evaluations
    streams = choose_streams(toy_cache, ())
    corpus = open_partition(take_snapshot(toy_cache, streams, "va"), "train")
    whole = corpus.batch(make_windows(corpus.lengths, 200, 1, 200), np.arange(len(corpus.lengths)), torch.device("cpu"))
    x = torch.cat([whole.x[s.name] for s in streams], -1)[whole.labelled]
    want = linear_model.Ridge(0.01 * len(x)).fit(x, whole.va[whole.labelled])
    test = open_test(take_snapshot(toy_cache, streams, "va"), tmp_path, "test", corpus.stats)
    windows = make_windows(test.lengths, 200, 1, 200)
    features = test.batch(windows, np.arange(len(windows)), torch.device("cpu"))
    guess = want.predict(torch.cat([features.x[s.name] for s in streams], -1)[0][features.real[0]])
    name = test.recordings[0]
    table = np.loadtxt(f"{result.folder}/predictions/test/{name}.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(table[:, 2:], guess, atol=1e-4)


def test_ridge_has_no_output_space(toy_cache, tmp_path):
    recipe = TrainRecipe("ridge", toy_cache.root, runs=tmp_path, options={"output_space": "polar"})
    with pytest.raises(ConfigError, match="ridge has no key 'output_space'"):
        run_train(recipe, quiet=True)
