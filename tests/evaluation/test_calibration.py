"""Scaling of logits against scikit-learn, and what it must never do."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from edge_runtime.query.decode import calibrated
from engines.errors import LvmError
from engines.manifest import Scaling
from export.data.metrics import auroc, calibration_error
from export.evaluation.confidence import Platt, fit_platt, fit_points, logit


def samples(rng, a, b, count=20_000, spread=2.0):
    """Logits whose true probability is sigmoid(a x + b)."""
    x = rng.normal(size=count) * spread
    return x, rng.random(count) < Platt(a, b)(x)


def test_platt_finds_the_scale_and_shift_that_made_the_data(rng):
    a, b = fit_platt(*samples(rng, 0.3, -1.2))
    assert (a, b) == (pytest.approx(0.3, abs=0.03), pytest.approx(-1.2, abs=0.06))


def test_platt_is_the_logistic_regression_of_scikit_learn(rng):
    x, y = samples(rng, 2.0, 0.7, count=4000)
    theirs = LogisticRegression(C=1e9, tol=1e-9).fit(x[:, None], y)
    ours = fit_platt(x, y)
    assert ours.a == pytest.approx(theirs.coef_[0, 0], rel=0.01)
    assert ours.b == pytest.approx(theirs.intercept_[0], abs=0.01)


def test_scaling_removes_the_calibration_error_and_keeps_the_order(rng):
    x, y = samples(rng, 0.25, -1.0)
    fit, unseen = slice(0, 10_000), slice(10_000, None)
    p = fit_platt(x[fit], y[fit])(x[unseen])
    assert calibration_error(Platt(1, 0)(x[unseen]), y[unseen]) > 0.1
    assert calibration_error(p, y[unseen]) < 0.03
    assert auroc(p, y[unseen]) == pytest.approx(auroc(x[unseen], y[unseen]))


def test_separable_samples_get_finite_scales():
    a, b = fit_platt([-3.0, -2.0, 2.0, 3.0], [False, False, True, True])
    assert 0 < a < 100 and abs(b) < 1


def test_large_logits_converge(rng):
    x, y = samples(rng, 0.01, 0.0, spread=300.0)
    assert fit_platt(x, y).a == pytest.approx(0.01, rel=0.1)


def test_logits_that_say_the_opposite_are_ignored_and_not_reversed(rng):
    x, y = samples(rng, -1.0, 1.0)
    scaling = fit_platt(x, y)
    assert scaling.a == 0
    assert scaling(x[:1]) == pytest.approx(y.mean(), abs=1e-3)


def test_classes_are_pooled(rng):
    x, y = samples(rng, 0.5, 0.2, count=3000)
    assert fit_platt(x.reshape(-1, 3), y.reshape(-1, 3)) == pytest.approx(fit_platt(x, y))


def test_logit_is_the_inverse_of_the_sigmoid_and_finite():
    assert Platt(1, 0)(logit([0.1, 0.5, 0.9])) == pytest.approx([0.1, 0.5, 0.9])
    assert np.isfinite(logit([0.0, 1.0])).all()


def test_samples_that_cannot_be_fitted_are_refused():
    with pytest.raises(LvmError, match="needs right and wrong samples, got 2 and 0"):
        fit_platt([0.1, 0.2], [True, True])
    with pytest.raises(LvmError, match="logits must be finite"):
        fit_platt([0.1, -np.inf], [True, False])
    with pytest.raises(LvmError, match=r"got \(2,\) and \(1,\)"):
        fit_platt([0.1, 0.2], [True])


def kinked(rng, count=4000):
    """Logits whose honest ones do not lie on a line: flat in the middle."""
    x = rng.uniform(-4, 4, count)
    honest = np.where(np.abs(x) < 2, 0.0, np.sign(x) * (np.abs(x) - 2) * 2)
    return x, rng.random(count) < 1 / (1 + np.exp(-honest))


def test_points_follow_what_no_line_does_and_keep_the_order(rng):
    x, y = kinked(rng)
    fresh, truth = kinked(rng)
    scaling = Scaling(a=1.0, points=fit_points(x, y))
    p = calibrated(fresh, scaling)
    assert calibration_error(p, truth) < 0.04 < calibration_error(fit_platt(x, y)(fresh), truth)
    order = np.argsort(fresh)
    assert (np.diff(p[order].astype(np.float64)) >= 0).all() and p.min() > 0 and p.max() < 1
    assert auroc(p, truth) == pytest.approx(auroc(fresh, truth), abs=1e-3)


def test_points_rise_whatever_the_samples_say(rng):
    for falling in (lambda x: -x, lambda x: np.zeros_like(x), lambda x: np.sign(x)):
        x = rng.normal(size=900)
        points = fit_points(x, rng.random(900) < 1 / (1 + np.exp(-falling(x))))
        assert Scaling(points=points).points == points and len(points) > 2


def test_too_few_or_equal_samples_give_no_points(rng):
    assert fit_points([1.0] * 500, [True] * 499 + [False]) == ()
    assert fit_points(rng.normal(size=60), rng.random(60) < 0.5) == ()
