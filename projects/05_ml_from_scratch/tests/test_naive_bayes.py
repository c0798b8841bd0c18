"""Gaussian naive Bayes against scikit-learn and scipy's densities."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.naive_bayes import GaussianNB

from from_scratch.naive_bayes import Config, fit, run
from trainloop import LabError


def classes(n: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(3), np.maximum(rng.integers(-1, 3, n - 3), 0)])
    scale = np.array([[1, 5, 0.1, 1], [2, 1, 0.2, 1], [1, 1, 0.5, 3]])
    return rng.standard_normal((n, 4)) * scale[y] + y[:, None], y


@pytest.mark.parametrize("smoothing", [1e-9, 1e-2, 1.0])
def test_against_sklearn(smoothing):
    X, y = classes()
    X_new, _ = classes(seed=1)
    model, theirs = fit(X, y, 3, smoothing), GaussianNB(var_smoothing=smoothing).fit(X, y)
    np.testing.assert_allclose(model.means, theirs.theta_, rtol=1e-12)
    np.testing.assert_allclose(model.variances, theirs.var_, rtol=1e-12)
    expected = theirs.predict_log_proba(X_new)
    np.testing.assert_allclose(model.log_prob(X_new), expected, rtol=0, atol=1e-9)
    joint = theirs.predict_joint_log_proba(X_new)
    np.testing.assert_allclose(model.joint_log_prob(X_new), joint, rtol=0, atol=1e-9)


def test_density_against_scipy():
    X, y = classes()
    model = fit(X, y, 3)
    deviations = np.sqrt(model.variances)
    expected = norm.logpdf(X[:, None], model.means, deviations).sum(2) + model.log_prior
    np.testing.assert_allclose(model.joint_log_prob(X), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.exp(model.log_prob(X)).sum(1), 1, rtol=1e-12)


def test_far_from_zero_and_far_from_the_data():
    X, y = classes()
    near, far = fit(X, y, 3), fit(X + 1e5, y, 3)
    np.testing.assert_allclose(far.log_prob(X + 1e5), near.log_prob(X), rtol=0, atol=1e-5)
    remote = near.log_prob(X * 1e3)  # every p(x | k) is 0 in float64
    assert np.isfinite(remote).all()
    np.testing.assert_allclose(np.exp(remote).sum(1), 1, rtol=1e-9)


def test_smoothing_saves_a_feature_that_is_constant_in_a_class():
    X, y = classes()
    X[y == 1, 2] = 0.5
    with pytest.raises(LabError, match="constant within a class"):
        fit(X, y, 3, smoothing=0)
    model = fit(X, y, 3, smoothing=1e-3)
    assert model.variances[1, 2] == pytest.approx(1e-3 * X.var(0).max())
    assert np.isfinite(model.log_prob(X)).all()


def test_bad_input():
    X, y = classes()
    for wrong in (y - 1, y + 1):
        with pytest.raises(LabError, match="labels must be 0 to 2"):
            fit(X, wrong, 3)
    with pytest.raises(LabError, match=r"no rows of class \[3\]"):
        fit(X, y, 4)
    with pytest.raises(LabError, match="constant"):
        fit(np.ones((3, 2)), np.arange(3), 3)
    X[0, 0] = np.nan
    with pytest.raises(LabError, match="NaN"):
        fit(X, y, 3)
    for options in ({"candidates": 1}, {"seed": -1}):
        with pytest.raises(LabError, match="--"):
            Config(**options)


def test_the_lesson():
    pictures = {}
    figures = run(Config(), pictures.__setitem__)
    assert set(pictures) == {"model"}
    assert figures["max_difference_to_sklearn"] < 1e-9
    assert figures["unsmoothed_validation_accuracy"] + 0.03 < figures["validation_accuracy"]
    assert 0.8 < figures["test_accuracy"] < figures["test_confidence"], "it is too sure"
    assert run(Config(), pictures.__setitem__) == figures
