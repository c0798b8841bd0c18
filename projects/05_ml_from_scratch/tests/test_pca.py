"""PCA against scikit-learn and its own theorems."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from from_scratch.pca import Config, fit, run
from trainloop import LabError


def stretched(n: int = 50, d: int = 6, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + 10


@pytest.mark.parametrize(("n", "d"), [(50, 6), (5, 20)])
def test_against_sklearn(n, d):
    X = stretched(n, d)
    pca, theirs = fit(X, 4), PCA(4, svd_solver="full").fit(X)
    np.testing.assert_allclose(pca.variances, theirs.explained_variance_, rtol=1e-10)
    np.testing.assert_allclose(pca.ratios, theirs.explained_variance_ratio_, rtol=1e-10)
    same = np.abs((pca.axes * theirs.components_).sum(1))  # the cosine of each pair of axes
    np.testing.assert_allclose(same, 1, rtol=0, atol=1e-10)
    rebuilt = theirs.inverse_transform(theirs.transform(X))
    np.testing.assert_allclose(pca.decode(pca.encode(X)), rebuilt, rtol=0, atol=1e-10)


def test_axes_are_orthonormal_and_codes_uncorrelated():
    X = stretched()
    pca = fit(X)
    np.testing.assert_allclose(pca.axes @ pca.axes.T, np.eye(6), atol=1e-12)
    covariance = np.cov(pca.encode(X), rowvar=False)
    np.testing.assert_allclose(covariance, np.diag(pca.variances), atol=1e-10)
    assert (np.diff(pca.variances) <= 0).all()
    assert pca.ratios.sum() == pytest.approx(1)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_what_is_lost_is_the_variance_of_the_dropped_axes(k):
    X = stretched()
    whole, pca = fit(X), fit(X, k)
    lost = ((pca.decode(pca.encode(X)) - X) ** 2).sum() / (len(X) - 1)
    assert lost == pytest.approx(whole.variances[k:].sum(), rel=1e-9)
    for ours, kept in zip(pca, whole.keep(k), strict=True):
        np.testing.assert_array_equal(ours, kept)


def test_signs_do_not_depend_on_the_rows():
    X = stretched()
    axes = fit(X).axes
    assert (axes[np.arange(6), np.abs(axes).argmax(1)] > 0).all()
    mirrored = fit(2 * X.mean(0) - X[::-1]).axes
    np.testing.assert_allclose(mirrored, axes, atol=1e-10)


def test_constant_columns_do_no_harm():
    X = np.column_stack([stretched(), np.full(50, 7.0)])
    pca = fit(X, 6)
    np.testing.assert_allclose(pca.axes[:, 6], 0, atol=1e-12)
    np.testing.assert_allclose(pca.decode(pca.encode(X)), X, atol=1e-10)


def test_bad_input():
    X = stretched()
    for k in (0, 7):
        with pytest.raises(LabError, match="k must be 1 to 6"):
            fit(X, k)
    with pytest.raises(LabError, match="all rows of X are equal"):
        fit(np.full((9, 3), 0.1))
    with pytest.raises(LabError, match="at least two"):
        fit(X[:1])
    X[2, 2] = np.nan
    with pytest.raises(LabError, match="NaN"):
        fit(X)
    for options in ({"components": 0}, {"components": 65}, {"seed": -1}):
        with pytest.raises(LabError, match="--"):
            Config(**options)


def test_the_lesson():
    pictures = {}
    figures = run(Config(), pictures.__setitem__)
    assert set(pictures) == {"reconstruction"}
    assert figures["max_difference_to_sklearn"] < 1e-10
    assert figures["components_for_90_percent"] == 21  # the textbook's number for digits
    assert 0.7 < figures["explained_variance"] < 0.8
    assert figures["train_error"] < figures["test_error"] < 0.025
    assert run(Config(components=64), pictures.__setitem__)["test_error"] < 1e-20
