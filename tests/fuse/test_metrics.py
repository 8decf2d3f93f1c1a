"""CCC as a number: exact, masked, never NaN."""

import numpy as np
import pytest

from cache.errors import DataError
from fuse.metrics import Scores, ccc, ccc_va


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
