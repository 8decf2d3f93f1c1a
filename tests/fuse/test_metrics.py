"""CCC as a number: exact, masked, never NaN."""

import numpy as np
import pytest
import torch
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import mean_squared_error
from sklearn.preprocessing import StandardScaler

from cache.errors import DataError
from cache.records import Labels
from fuse.numbers.evaluate import evaluate
from fuse.numbers.metrics import Scores, ccc, ccc_va
from fuse.numbers.moments import moments


def lin(x, y):
    """The textbook formula, written the long way round."""
    n = len(x)
    mx, my = sum(x) / n, sum(y) / n
    cov = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / n
    vx, vy = sum((a - mx) ** 2 for a in x) / n, sum((b - my) ** 2 for b in y) / n
    return 2 * cov / (vx + vy + (mx - my) ** 2)


def test_pitfall_19_ccc_of_identical_arrays_is_exactly_one():
    rng = np.random.default_rng(0)
    for n in range(2, 1001):
        for scale in (1.0, 1e-3):
            x = rng.uniform(-1, 1, n) * scale
            assert ccc(x, x.copy()) == 1.0
        x32 = x.astype(np.float32)
        assert ccc(x32, x32.copy()) == 1.0


def test_pitfall_19_population_variance_in_both_places():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 37))
    assert ccc(x, y) == pytest.approx(lin(x, y), abs=1e-12)
    assert ccc([0.0, 1.0], [0.0, 1.0]) == 1.0  # an unbiased variance beside a biased covariance gives 0.5


@pytest.mark.parametrize("n", [2, 3, 10, 300, 997])
@pytest.mark.parametrize("value", [0.0, 0.1, -1 / 3])
def test_pitfall_19_constant_input_gives_zero(n, value):
    constant, moving = np.full(n, value), np.linspace(-1, 1, n)
    assert ccc(constant, moving) == 0.0
    assert ccc(moving, constant) == 0.0
    assert ccc(constant, constant) == 0.0


def test_pitfall_19_degenerate_input_gives_zero():
    assert ccc([], []) == 0.0
    assert ccc([0.3], [0.3]) == 0.0
    assert ccc([0.3, 0.4], [0.3, 0.4], [False, False]) == 0.0
    assert ccc([1e-200, 2e-200], [1e-200, 2e-200]) == 0.0  # variance underflows


def test_scale_and_bias_are_punished_and_sign_is_kept():
    x = np.linspace(-1, 1, 50)
    assert ccc(-x, x) == pytest.approx(-1)
    assert ccc(x / 2, x) == pytest.approx(0.8)
    assert 0 < ccc(x + 1, x) < 0.5


def test_pitfall_20_unlabelled_rows_never_enter_the_metric():
    rng = np.random.default_rng(2)
    va = rng.uniform(-1, 1, (60, 2))
    pred = va + rng.normal(0, 0.2, va.shape)
    labelled = rng.random(60) > 0.3
    want = ccc_va(pred[labelled], va[labelled], np.ones(labelled.sum(), bool))
    for junk in (-5.0, np.nan, np.inf):
        dirty_va, dirty_pred = va.copy(), pred.copy()
        dirty_va[~labelled] = junk
        dirty_pred[~labelled] = junk
        assert ccc_va(dirty_pred, dirty_va, labelled) == want
    assert isinstance(want, Scores)
    assert want.mean == (want.valence + want.arousal) / 2
    assert want.valence == ccc(pred[:, 0], va[:, 0], labelled)


def test_values_that_are_not_finite_are_an_error_not_a_score():
    with pytest.raises(DataError, match="1 predictions and 0 labels that are not finite"):
        ccc([0.0, np.nan, 1.0], [0.0, 0.5, 1.0])


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(DataError, match=r"\(3,\), \(2,\)"):
        ccc([0, 1, 2], [0, 1])
    with pytest.raises(DataError, match=r"\(4, 3\)"):
        ccc_va(np.zeros((4, 3)), np.zeros((4, 3)), np.ones(4, bool))


@pytest.mark.parametrize("n", [3, 20, 500])
@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_pitfall_19_torchmetrics_agrees_once_its_n_minus_1_is_accounted_for(n, bias):
    """It divides variances and covariance by n - 1 and leaves the means' distance as it is: a little higher."""
    from torchmetrics.functional.regression import concordance_corrcoef

    rng = np.random.default_rng(n)
    y = rng.normal(0, 0.3, n)
    x = 0.6 * y + rng.normal(0, 0.2, n)
    x += y.mean() - x.mean() + bias
    theirs = float(concordance_corrcoef(torch.tensor(x), torch.tensor(y)))
    ours, scale, apart = ccc(x, y), x.var() + y.var(), (x.mean() - y.mean()) ** 2
    k = n / (n - 1)
    assert theirs == pytest.approx(ours * k * (scale + apart) / (k * scale + apart), rel=1e-6)
    if not bias:
        assert theirs == pytest.approx(ours, rel=1e-6)  # without a bias the two conventions are one
    else:
        assert ours < theirs < ours + 1 / n


@pytest.mark.parametrize("seed", range(4))
def test_pitfall_19_parts_from_scikit_learn_give_the_same(seed):
    """Its mean squared error is var_x + var_y + (mean_x - mean_y)^2 - 2 cov; its empirical covariance divides by N."""
    rng = np.random.default_rng(seed)
    y = rng.normal(0.1, 0.3, 4 + 50 * seed)
    x = 0.7 * y + rng.normal(0.2 * seed, 0.2, len(y))
    both = np.column_stack([x, y])
    cov = EmpiricalCovariance().fit(both).covariance_
    var, mean = (getattr(StandardScaler().fit(both), part) for part in ("var_", "mean_"))
    np.testing.assert_allclose(np.diag(cov), var, rtol=1e-12)
    twice = 2 * cov[0, 1]
    assert ccc(x, y) == pytest.approx(twice / (mean_squared_error(y, x) + twice), rel=1e-10)
    assert ccc(x, y) == pytest.approx(twice / (var.sum() + (mean[0] - mean[1]) ** 2), rel=1e-10)


def test_torchmetrics_agrees_on_both_columns_of_a_masked_partition():
    from torchmetrics import ConcordanceCorrCoef

    rng, theirs = np.random.default_rng(0), ConcordanceCorrCoef(num_outputs=2)
    labels, pred = {}, {}
    for name, count in (("a", 4000), ("b", 1500)):
        va, seen = rng.uniform(-1, 1, (count, 2)), rng.random(count) > 0.2
        pred[name] = va * [0.6, 0.8] + rng.normal(0.1, 0.2, va.shape)
        labels[name] = Labels(np.where(seen[:, None], va, -5.0), seen)
        theirs.update(torch.tensor(pred[name][seen]), torch.tensor(va[seen]))
    found, _ = evaluate(pred, pred, labels, 1)
    want = theirs.compute().tolist()
    assert [found.raw.valence, found.raw.arousal] == pytest.approx(want, abs=1 / found.frames)
    assert [found.raw.valence, found.raw.arousal] != pytest.approx(want, abs=1e-9)  # n - 1 there, n here


def test_pitfall_21_global_ccc_is_of_all_frames_and_not_the_mean_over_recordings():
    """Two recordings at levels of their own, each predicted at its level: good in all, worth nothing in each."""
    rng = np.random.default_rng(0)
    labels, pred = {}, {}
    for name, level in (("a", -0.5), ("b", 0.5)):
        labels[name] = Labels(level + rng.normal(0, 0.05, (80, 2)), np.ones(80, bool))
        pred[name] = level + rng.normal(0, 0.05, (80, 2))
    found, _ = evaluate(pred, pred, labels, 1)
    assert found.raw.mean > 0.95
    assert abs(found.per_recording.mean) < 0.2
    assert found.raw == ccc_va(*(np.concatenate(x) for x in (
        list(pred.values()), [la.va for la in labels.values()], [la.labelled for la in labels.values()])))  # fmt: skip
    assert found.per_recording.valence == pytest.approx(np.mean([ccc(pred[r][:, 0], labels[r].va[:, 0]) for r in pred]))


def test_pitfall_20_unlabelled_rows_enter_no_statistic():
    rng = np.random.default_rng(3)
    va, labelled = rng.uniform(-1, 1, (60, 2)), rng.random(60) > 0.3
    pred = {"a": va * 0.5, "b": va * 0.4 + 0.1}
    dirty = np.where(labelled[:, None], va, -5.0)
    tables = [moments(pred, {r: Labels(t, labelled) for r in pred}).table for t in (va, dirty)]
    np.testing.assert_array_equal(*tables)


@pytest.mark.parametrize("seed", range(5))
def test_pitfall_24_the_numbers_are_taken_as_they_are(seed):
    """CCC is symmetric, at most the correlation, blind to a common change of scale or level, not to one of a side."""
    x, y = np.random.default_rng(seed).normal(size=(2, 200))
    x = x + 0.7 * y
    value = ccc(x, y)
    assert value == pytest.approx(ccc(y, x), abs=1e-12)
    assert abs(value) <= abs(np.corrcoef(x, y)[0, 1]) + 1e-12
    assert value == pytest.approx(ccc(3 * x - 2, 3 * y - 2), abs=1e-10)
    assert ccc(x / x.std(), y) != pytest.approx(value, abs=1e-3)
    assert ccc(x + 1, y) < value
